//! The world: where players are, what they want, and what is said of it.

/// Players at most.
pub const PLAYERS: usize = 16;
/// Bytes that a player says: a number, and what it does.
pub const SAID: usize = 40;
/// Bytes of an update: the number of the step, the last number that the player has said, and 12 bytes for each player.
pub const UPDATE: usize = 8 + 12 * PLAYERS;
/// Steps without a word after which a player is gone: five seconds.
const SILENCE: u32 = 50;
/// How wide the world is, in each direction.
const WIDE: u32 = 4096;

/// Someone who plays, reached at an `A`.
#[derive(Clone, Copy, Debug)]
struct Player<A> {
    address: A,
    /// The last number that it has said, and the step in which it was heard.
    said: u32,
    heard: u32,
    /// Where it is, and what it does.
    at: [u32; 2],
    does: [i16; 2],
}

/// The world of a server.
#[derive(Debug)]
pub struct World<A> {
    step: u32,
    players: [Option<Player<A>>; PLAYERS],
}

impl<A: Copy + PartialEq> World<A> {
    /// Nobody is there.
    pub fn new() -> Self {
        World { step: 0, players: [None; PLAYERS] }
    }

    /// Takes in what somebody says, at least [`SAID`] bytes; a newcomer gets a place while there is one, and is not heard otherwise.
    pub fn hear(&mut self, address: A, bytes: &[u8]) {
        let (Some(said), Some(does)) = (number(bytes, 0), number(bytes, 4)) else { return };
        let step = self.step;
        let known = self.players.iter().position(|player| player.is_some_and(|player| player.address == address));
        let Some(place) = known.or_else(|| self.players.iter().position(Option::is_none)) else { return };
        // Sixteen bits each.
        let halves = does.to_be_bytes();
        let does = [i16::from_be_bytes([halves[0], halves[1]]), i16::from_be_bytes([halves[2], halves[3]])];
        match &mut self.players[place] {
            // One that came late is not what it does now.
            Some(player) if said.wrapping_sub(player.said) > u32::MAX / 2 => player.heard = step,
            Some(player) => (player.said, player.heard, player.does) = (said, step, does),
            none => *none = Some(Player { address, said, heard: step, at: [WIDE / 2; 2], does }),
        }
    }

    /// A tenth of a second passes: everybody does what it said last, and who says nothing goes.
    pub fn step(&mut self) {
        self.step = self.step.wrapping_add(1);
        for place in &mut self.players {
            match place {
                Some(player) if self.step.wrapping_sub(player.heard) > SILENCE => *place = None,
                Some(player) => {
                    for (at, does) in player.at.iter_mut().zip(player.does) {
                        *at = at.wrapping_add_signed(does.into()) % WIDE;
                    }
                }
                None => {}
            }
        }
    }

    /// Writes what the player in a place is told, and says where it is reached; `None` where there is none.
    pub fn tell(&self, place: usize, update: &mut [u8; UPDATE]) -> Option<A> {
        let player = self.players.get(place)?.as_ref()?;
        update[..4].copy_from_slice(&self.step.to_be_bytes());
        update[4..8].copy_from_slice(&player.said.to_be_bytes());
        for (other, bytes) in self.players.iter().zip(update[8..].chunks_exact_mut(12)) {
            bytes.fill(0);
            if let Some(Player { at, said, .. }) = other {
                bytes[..4].copy_from_slice(&at[0].to_be_bytes());
                bytes[4..8].copy_from_slice(&at[1].to_be_bytes());
                bytes[8..].copy_from_slice(&said.to_be_bytes());
            }
        }
        Some(player.address)
    }
}

impl<A: Copy + PartialEq> Default for World<A> {
    fn default() -> Self {
        World::new()
    }
}

/// The number at a place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u32, right: i16, down: i16) -> [u8; SAID] {
        let mut bytes = [0; SAID];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes[4..6].copy_from_slice(&right.to_be_bytes());
        bytes[6..8].copy_from_slice(&down.to_be_bytes());
        bytes
    }

    #[test]
    fn players_move_as_they_say_and_all_are_told() {
        let mut world = World::new();
        world.hear('a', &said(1, 10, -20));
        world.hear('b', &said(7, 0, 0));
        // Late, and of no effect.
        world.hear('a', &said(0, 500, 500));
        world.step();
        world.step();
        let mut update = [0; UPDATE];
        assert_eq!(world.tell(0, &mut update), Some('a'));
        let of = |at| number(&update, at).expect("a number");
        assert_eq!((of(0), of(4), of(8), of(12), of(16)), (2, 1, 2068, 2008, 1));
        assert_eq!((of(20), of(24), of(28)), (2048, 2048, 7));
        assert_eq!((world.tell(1, &mut update), world.tell(2, &mut update)), (Some('b'), None));
    }

    #[test]
    fn the_silent_go_and_their_places_are_taken() {
        let mut world = World::new();
        (0..20).for_each(|name| world.hear(name, &said(1, 0, 0)));
        let mut update = [0; UPDATE];
        assert_eq!((0..PLAYERS).filter_map(|place| world.tell(place, &mut update)).count(), PLAYERS);
        for _ in 0..SILENCE {
            world.step();
            world.hear(3, &said(2, 0, 0));
        }
        world.step();
        assert_eq!((0..PLAYERS).filter_map(|place| world.tell(place, &mut update)).collect::<std::vec::Vec<_>>(), [3]);
        world.hear(99, &said(1, 0, 0));
        assert_eq!(world.tell(0, &mut update), Some(99));
    }

    #[test]
    fn what_is_too_short_is_nobodys() {
        let mut world = World::new();
        world.hear(1, b"short");
        assert_eq!(world.tell(0, &mut [0; UPDATE]), None);
    }

    extern crate std;
}

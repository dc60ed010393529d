//! Whose requests come next: VMs that have some take turns, each with as many requests as its weight is worth.

use abi::share::WEIGHT;
use abi::vm::Seat;
use component::{Table, Tables};

/// Requests in a turn of a VM of the usual weight.
const USUAL: u32 = 4;
/// The last of the queue.
const NONE: u16 = u16::MAX;

/// Bytes that a seat takes.
pub const BYTES_PER_SEAT: u32 = 8;

/// The place of a seat in the queue.
#[derive(Clone, Copy)]
struct Turn {
    next: u16,
    queued: bool,
    /// Requests that are left of its turn; 0 where it has not begun.
    left: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Turn { next: NONE, queued: false, left: 0 }
    }
}

const _: () = assert!(size_of::<Turn>() == BYTES_PER_SEAT as usize);

/// The queue of seats whose VMs have, or may have, requests.
pub struct Turns {
    turns: Table<Turn>,
    first: u16,
    last: u16,
}

impl Turns {
    /// Nobody has any.
    pub fn new(tables: &mut Tables) -> Self {
        Turns { turns: tables.per_seat(), first: NONE, last: NONE }
    }

    /// The VM in a seat may have requests: it comes to its turn behind those that wait already.
    pub fn push(&mut self, seat: Seat) {
        let number = seat.number();
        match self.turns.reach(seat.index()) {
            Some(turn) if !turn.queued => *turn = Turn { next: NONE, queued: true, left: 0 },
            _ => return,
        }
        match self.turns.get_mut(usize::from(self.last)) {
            Some(last) if self.first != NONE => last.next = number,
            _ => self.first = number,
        }
        self.last = number;
    }

    /// Whose turn it is.
    pub fn first(&self) -> Option<Seat> {
        (self.first != NONE).then_some(Seat::new(self.first))
    }

    /// The first one has none left, or must not have more: it leaves the queue.
    pub fn leave(&mut self) {
        let Some(turn) = self.turns.get_mut(usize::from(self.first)) else { return };
        (turn.queued, turn.left) = (false, 0);
        self.first = turn.next;
    }

    /// The first one, whose VM has this weight, has had a request carried out. When that was the last one of its turn, it goes to the end.
    pub fn spend(&mut self, weight: u16) {
        let Some(seat) = self.first() else { return };
        let Some(turn) = self.turns.get_mut(seat.index()) else { return };
        if turn.left == 0 {
            turn.left = (u32::from(weight) * USUAL / u32::from(WEIGHT)).max(1);
        }
        turn.left -= 1;
        if turn.left == 0 {
            self.leave();
            self.push(seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn turns(seats: usize) -> Turns {
        let bytes = TableBytes { per_seat: BYTES_PER_SEAT, ..TableBytes::NONE };
        Turns::new(&mut Tables::on_heap(bytes, 0, seats))
    }

    /// Who is served, when each VM has as many requests as this and weighs so much.
    fn served(vms: &[(u32, u16)]) -> Vec<u16> {
        let (mut turns, mut left, mut order) = (turns(vms.len()), vms.to_vec(), Vec::new());
        (0..vms.len()).for_each(|seat| turns.push(Seat::new(u16::try_from(seat).expect("few"))));
        while let Some(seat) = turns.first() {
            let (requests, weight) = &mut left[seat.index()];
            if *requests == 0 {
                turns.leave();
                continue;
            }
            *requests -= 1;
            order.push(seat.number());
            turns.spend(*weight);
        }
        order
    }

    #[test]
    fn turns_are_as_long_as_weights_say() {
        assert_eq!(served(&[(3, 25), (9, 100), (2, 50)]), [0, 1, 1, 1, 1, 2, 2, 0, 1, 1, 1, 1, 0, 1]);
        // Who weighs next to nothing is not forgotten.
        assert_eq!(served(&[(2, 1), (5, 100)]), [0, 1, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn a_seat_waits_once() {
        let mut turns = turns(4);
        for seat in [2, 1, 2, 9] {
            turns.push(Seat::new(seat));
        }
        let mut order = Vec::new();
        while let Some(seat) = turns.first() {
            order.push(seat.number());
            turns.leave();
        }
        assert_eq!(order, [2, 1]);
        turns.push(Seat::new(2));
        assert_eq!(turns.first(), Some(Seat::new(2)));
    }

    proptest! {
        /// One that asks for a hundred times as much gets no more than its share while others want theirs.
        #[test]
        fn nobody_is_crowded_out(greedy in 100_u32..1000, others in prop::collection::vec(1_u32..20, 1..12)) {
            let vms: Vec<(u32, u16)> = core::iter::once(greedy).chain(others).map(|requests| (requests, 100)).collect();
            let order = served(&vms);
            for (seat, (own, _)) in vms.iter().enumerate().skip(1) {
                let last = order.iter().rposition(|&one| usize::from(one) == seat).expect("served");
                let of_greedy = order[..last].iter().filter(|&&one| one == 0).count();
                prop_assert!(of_greedy <= usize::try_from(*own).expect("small") + 2 * 4, "{of_greedy} before {own} were done");
            }
        }
    }
}

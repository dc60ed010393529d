//! The queue of VMs that have requests: they take turns.

use abi::vm::Seat;
use component::{Table, Tables};

/// The last of the queue.
const NONE: u16 = u16::MAX;

/// Bytes that a seat takes.
pub const BYTES_PER_SEAT: u32 = 6;

/// The place of a seat in the queue.
#[derive(Clone, Copy)]
struct Turn {
    next: u16,
    queued: bool,
    /// Requests that are left of its turn; 0 where it has not begun.
    left: u16,
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

    /// The first one, whose turns have so many requests (one at least), has had one taken. When that was the last one of its turn, it goes to the end.
    pub fn spend(&mut self, worth: u16) {
        let Some(seat) = self.first() else { return };
        let Some(turn) = self.turns.get_mut(seat.index()) else { return };
        if turn.left == 0 {
            turn.left = worth.max(1);
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
    use std::vec::Vec;

    #[test]
    fn a_seat_waits_once() {
        let bytes = TableBytes { per_seat: BYTES_PER_SEAT, ..TableBytes::NONE };
        let mut turns = Turns::new(&mut Tables::on_heap(bytes, 0, 4));
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
}

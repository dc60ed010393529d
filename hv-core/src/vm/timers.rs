//! Deadlines of admitted VMs: a binary heap over two arrays that are sized at boot, one deadline per seat.

use abi::vm::Seat;

/// "No deadline".
pub const NEVER: u64 = u64::MAX;
/// Position of a seat that is not in the heap.
const ABSENT: u32 = u32::MAX;

/// The deadline of the VM in one seat.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: u64,
    seat: Seat,
}

/// Memory that a heap needs for one seat.
#[derive(Clone, Copy, Debug)]
pub struct TimerCell {
    entry: Entry,
    position: u32,
}

/// What unused memory holds.
pub const EMPTY_CELL: TimerCell = TimerCell { entry: Entry { deadline: NEVER, seat: Seat::new(0) }, position: ABSENT };

/// The heap; the seat with the earliest deadline is on top.
#[derive(Debug)]
pub struct Timers<'m> {
    cells: &'m mut [TimerCell],
    len: usize,
}

impl<'m> Timers<'m> {
    /// An empty heap for the seats `0..cells.len()`.
    pub fn new(cells: &'m mut [TimerCell]) -> Self {
        cells.fill(EMPTY_CELL);
        Timers { cells, len: 0 }
    }

    /// The earliest deadline.
    #[inline]
    pub fn next(&self) -> u64 {
        if self.len == 0 { NEVER } else { self.cells[0].entry.deadline }
    }

    /// The deadline of `seat`, [`NEVER`] when it has none.
    #[cfg(test)]
    pub fn deadline_of(&self, seat: Seat) -> u64 {
        match self.cells[seat.index()].position {
            ABSENT => NEVER,
            at => self.cells[at as usize].entry.deadline,
        }
    }

    /// Set or move the deadline of `seat`; [`NEVER`] takes it out. A seat beyond the table is ignored.
    pub fn set(&mut self, seat: Seat, deadline: u64) {
        let Some(cell) = self.cells.get(seat.index()) else { return };
        let at = cell.position;
        if deadline == NEVER {
            if at != ABSENT {
                self.remove_at(at as usize);
            }
            return;
        }
        let at = if at == ABSENT {
            let at = self.len;
            self.len += 1;
            self.place(at, Entry { deadline, seat });
            at
        } else {
            self.cells[at as usize].entry.deadline = deadline;
            at as usize
        };
        self.settle(at);
    }

    /// Take a seat whose deadline is at or before `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<Seat> {
        if self.next() > now || self.len == 0 {
            return None;
        }
        let seat = self.cells[0].entry.seat;
        self.remove_at(0);
        Some(seat)
    }

    fn remove_at(&mut self, at: usize) {
        self.cells[self.cells[at].entry.seat.index()].position = ABSENT;
        self.len -= 1;
        if at != self.len {
            let last = self.cells[self.len].entry;
            self.place(at, last);
            self.settle(at);
        }
    }

    #[inline]
    fn place(&mut self, at: usize, entry: Entry) {
        self.cells[at].entry = entry;
        // A heap has at most as many entries as there are seats.
        #[allow(clippy::cast_possible_truncation)]
        {
            self.cells[entry.seat.index()].position = at as u32;
        }
    }

    /// Move the entry at `at` up or down to where it belongs.
    fn settle(&mut self, mut at: usize) {
        let entry = self.cells[at].entry;
        while at > 0 {
            let parent = (at - 1) / 2;
            let other = self.cells[parent].entry;
            if other.deadline <= entry.deadline {
                break;
            }
            self.place(at, other);
            at = parent;
        }
        loop {
            let mut child = 2 * at + 1;
            if child >= self.len {
                break;
            }
            if child + 1 < self.len && self.cells[child + 1].entry.deadline < self.cells[child].entry.deadline {
                child += 1;
            }
            let other = self.cells[child].entry;
            if entry.deadline <= other.deadline {
                break;
            }
            self.place(at, other);
            at = child;
        }
        self.place(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in prop::collection::vec((0_u16..20, 0_u64..50, 0_u8..4), 0..200)) {
            let mut cells = vec![EMPTY_CELL; 16];
            let mut timers = Timers::new(&mut cells);
            let mut model: Vec<Option<u64>> = vec![None; 16];
            for (seat, deadline, what) in steps {
                let seat = Seat::new(seat);
                match what {
                    0 | 1 => {
                        timers.set(seat, deadline);
                        if let Some(place) = model.get_mut(seat.index()) { *place = Some(deadline); }
                    }
                    2 => {
                        timers.set(seat, NEVER);
                        if let Some(place) = model.get_mut(seat.index()) { *place = None; }
                    }
                    _ => {
                        let earliest = model.iter().flatten().min().copied();
                        match timers.pop_due(deadline) {
                            Some(seat) => {
                                prop_assert_eq!(model[seat.index()].take(), earliest);
                                prop_assert!(earliest.is_some_and(|d| d <= deadline));
                            }
                            None => prop_assert!(earliest.is_none_or(|d| d > deadline)),
                        }
                    }
                }
                prop_assert_eq!(timers.next(), model.iter().flatten().min().copied().unwrap_or(NEVER));
            }
        }
    }
}

//! Deadlines of VMs: a binary heap over an array that is sized at boot, one deadline per place. Those that are in have seats for places, those
//! that are out slots.

use abi::vm::{Seat, Slot};
use core::marker::PhantomData;

/// "No deadline".
pub const NEVER: u64 = u64::MAX;
/// Position of a place that is not in the heap.
const ABSENT: u32 = u32::MAX;

/// What has a deadline.
pub trait Place: Copy {
    /// Its number.
    fn number(self) -> u32;
    /// The place of this number; what is too large is none of those that have cells.
    fn new(number: u32) -> Self;
}

impl Place for Seat {
    #[inline]
    fn number(self) -> u32 {
        Seat::number(self).into()
    }

    #[inline]
    fn new(number: u32) -> Self {
        Seat::new(u16::try_from(number).unwrap_or(u16::MAX))
    }
}

impl Place for Slot {
    #[inline]
    fn number(self) -> u32 {
        Slot::number(self)
    }

    #[inline]
    fn new(number: u32) -> Self {
        Slot::new(number)
    }
}

/// The deadline of the VM in one place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: u64,
    place: u32,
}

/// Memory that a heap needs for one place: an entry of the heap, and where in the heap the place of the cell's own number is.
#[derive(Clone, Copy, Debug)]
pub struct TimerCell {
    deadline: u64,
    place: u32,
    position: u32,
}

/// What unused memory holds.
pub const EMPTY_CELL: TimerCell = TimerCell { deadline: NEVER, place: 0, position: ABSENT };

/// The heap; the place with the earliest deadline is on top.
#[derive(Debug)]
pub struct Timers<'m, P = Seat> {
    cells: &'m mut [TimerCell],
    len: usize,
    places: PhantomData<P>,
}

impl<'m, P: Place> Timers<'m, P> {
    /// An empty heap for the places `0..cells.len()`.
    pub fn new(cells: &'m mut [TimerCell]) -> Self {
        cells.fill(EMPTY_CELL);
        Timers { cells, len: 0, places: PhantomData }
    }

    /// The earliest deadline.
    #[inline]
    pub fn next(&self) -> u64 {
        if self.len == 0 { NEVER } else { self.cells[0].deadline }
    }

    /// The deadline of `place`, [`NEVER`] when it has none.
    #[cfg(test)]
    pub fn deadline_of(&self, place: P) -> u64 {
        match self.cells[place.number() as usize].position {
            ABSENT => NEVER,
            at => self.cells[at as usize].deadline,
        }
    }

    /// Set or move the deadline of `place`; [`NEVER`] takes it out. A place beyond the table is ignored.
    pub fn set(&mut self, place: P, deadline: u64) {
        let place = place.number();
        let Some(cell) = self.cells.get(place as usize) else { return };
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
            self.put(at, Entry { deadline, place });
            at
        } else {
            self.cells[at as usize].deadline = deadline;
            at as usize
        };
        self.settle(at);
    }

    /// Take a place whose deadline is at or before `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<P> {
        if self.next() > now || self.len == 0 {
            return None;
        }
        let place = self.cells[0].place;
        self.remove_at(0);
        Some(P::new(place))
    }

    fn entry(&self, at: usize) -> Entry {
        Entry { deadline: self.cells[at].deadline, place: self.cells[at].place }
    }

    fn remove_at(&mut self, at: usize) {
        self.cells[self.cells[at].place as usize].position = ABSENT;
        self.len -= 1;
        if at != self.len {
            let last = self.entry(self.len);
            self.put(at, last);
            self.settle(at);
        }
    }

    #[inline]
    fn put(&mut self, at: usize, entry: Entry) {
        (self.cells[at].deadline, self.cells[at].place) = (entry.deadline, entry.place);
        // A heap has at most as many entries as there are places.
        #[allow(clippy::cast_possible_truncation)]
        {
            self.cells[entry.place as usize].position = at as u32;
        }
    }

    /// Move the entry at `at` up or down to where it belongs.
    fn settle(&mut self, mut at: usize) {
        let entry = self.entry(at);
        while at > 0 {
            let parent = (at - 1) / 2;
            let other = self.entry(parent);
            if other.deadline <= entry.deadline {
                break;
            }
            self.put(at, other);
            at = parent;
        }
        loop {
            let mut child = 2 * at + 1;
            if child >= self.len {
                break;
            }
            if child + 1 < self.len && self.cells[child + 1].deadline < self.cells[child].deadline {
                child += 1;
            }
            let other = self.entry(child);
            if entry.deadline <= other.deadline {
                break;
            }
            self.put(at, other);
            at = child;
        }
        self.put(at, entry);
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

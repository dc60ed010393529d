//! Deadlines of VMs: a binary heap over two arrays that are sized at boot, one deadline per VM slot.

use abi::vm::Slot;

/// "No deadline".
pub const NEVER: u64 = u64::MAX;
/// Position of a slot that is not in the heap.
const ABSENT: u32 = u32::MAX;

/// One slot's deadline.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: u64,
    slot: Slot,
}

/// Memory that a heap needs for one slot.
#[derive(Clone, Copy, Debug)]
pub struct TimerCell {
    entry: Entry,
    position: u32,
}

/// What unused memory holds.
pub const EMPTY_CELL: TimerCell = TimerCell { entry: Entry { deadline: NEVER, slot: Slot::new(0) }, position: ABSENT };

/// The heap; the slot with the earliest deadline is on top.
#[derive(Debug)]
pub struct Timers<'m> {
    cells: &'m mut [TimerCell],
    len: usize,
}

impl<'m> Timers<'m> {
    /// An empty heap for the slots `0..cells.len()`.
    pub fn new(cells: &'m mut [TimerCell]) -> Self {
        cells.fill(EMPTY_CELL);
        Timers { cells, len: 0 }
    }

    /// The earliest deadline.
    #[inline]
    pub fn next(&self) -> u64 {
        if self.len == 0 { NEVER } else { self.cells[0].entry.deadline }
    }

    /// The deadline of `slot`, [`NEVER`] when it has none.
    #[cfg(test)]
    pub fn deadline_of(&self, slot: Slot) -> u64 {
        match self.cells[slot.index()].position {
            ABSENT => NEVER,
            at => self.cells[at as usize].entry.deadline,
        }
    }

    /// Set or move the deadline of `slot`; [`NEVER`] takes it out. A slot beyond the table is ignored.
    pub fn set(&mut self, slot: Slot, deadline: u64) {
        let Some(cell) = self.cells.get(slot.index()) else { return };
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
            self.place(at, Entry { deadline, slot });
            at
        } else {
            self.cells[at as usize].entry.deadline = deadline;
            at as usize
        };
        self.settle(at);
    }

    /// Take a slot whose deadline is at or before `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<Slot> {
        if self.next() > now || self.len == 0 {
            return None;
        }
        let slot = self.cells[0].entry.slot;
        self.remove_at(0);
        Some(slot)
    }

    fn remove_at(&mut self, at: usize) {
        self.cells[self.cells[at].entry.slot.index()].position = ABSENT;
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
        // A heap has at most as many entries as there are slots.
        #[allow(clippy::cast_possible_truncation)]
        {
            self.cells[entry.slot.index()].position = at as u32;
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
        fn behaves_like_a_sorted_list(steps in prop::collection::vec((0_u32..20, 0_u64..50, 0_u8..4), 0..200)) {
            let mut cells = vec![EMPTY_CELL; 16];
            let mut timers = Timers::new(&mut cells);
            let mut model: Vec<Option<u64>> = vec![None; 16];
            for (slot, deadline, what) in steps {
                let slot = Slot::new(slot);
                match what {
                    0 | 1 => {
                        timers.set(slot, deadline);
                        if let Some(place) = model.get_mut(slot.index()) { *place = Some(deadline); }
                    }
                    2 => {
                        timers.set(slot, NEVER);
                        if let Some(place) = model.get_mut(slot.index()) { *place = None; }
                    }
                    _ => {
                        let earliest = model.iter().flatten().min().copied();
                        match timers.pop_due(deadline) {
                            Some(slot) => {
                                prop_assert_eq!(model[slot.index()].take(), earliest);
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

//! Blocks of checks that are at hand, in the DMA memory.

use disk_format::{BLOCK_BYTES, Check};
use ring::SharedMemory;

/// What is known of a block of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is none.
    Free,
    /// It is being read.
    Coming,
    /// It is there.
    Read,
    /// It could not be read.
    Lost,
    /// It could not be written: what is at hand is not what the disk has.
    Stale,
}

#[derive(Clone, Copy)]
struct Row {
    /// Its block of the set.
    at: u64,
    state: State,
    /// When it was last asked for.
    used: u64,
    /// Its memory was given to a disk that never answered.
    gone: bool,
}

/// `N` of them, the ones that were asked for last.
pub struct Rows<const N: usize> {
    rows: [Row; N],
    buffers: usize,
    clock: u64,
}

impl<const N: usize> Rows<N> {
    /// None yet; their memory lies from `buffers` on.
    pub const fn new(buffers: usize) -> Self {
        Rows { rows: [Row { at: 0, state: State::Free, used: 0, gone: false }; N], buffers, clock: 0 }
    }

    /// The place of the one that is block `at` of the set, and whether it has yet to be read. A place that nobody uses is taken for a new one;
    /// `None` when there is none.
    pub fn find(&mut self, at: u64, is_used: impl Fn(usize) -> bool) -> Option<(usize, bool)> {
        self.clock += 1;
        let there = |row: &Row| row.at == at && matches!(row.state, State::Coming | State::Read);
        if let Some(found) = self.rows.iter().position(there) {
            self.rows[found].used = self.clock;
            return Some((found, false));
        }
        let free = |place: &usize| {
            let row = &self.rows[*place];
            !row.gone && row.state != State::Coming && !is_used(*place)
        };
        let place =
            (0..N).filter(free).min_by_key(|&place| (self.rows[place].state == State::Read, self.rows[place].used))?;
        self.rows[place] = Row { at, state: State::Coming, used: self.clock, gone: false };
        Some((place, true))
    }

    /// The place of the one that is block `at` of the set, if it is there.
    pub fn at_hand(&self, at: u64) -> Option<usize> {
        self.rows.iter().position(|row| row.at == at && row.state == State::Read)
    }

    /// Whether disks that did not answer have the memory of all.
    pub fn are_gone(&self) -> bool {
        self.rows.iter().all(|row| row.gone)
    }

    /// It was read, or could not be.
    pub fn came(&mut self, row: usize, good: bool) {
        self.rows[row].state = if good && !self.rows[row].gone { State::Read } else { State::Lost };
    }

    /// What is at hand of it is not what the disk has.
    pub fn forget(&mut self, row: usize) {
        if self.rows[row].state == State::Read {
            self.rows[row].state = State::Stale;
        }
    }

    /// What is at hand of these blocks of the set is not what the disk will have.
    pub fn forget_all(&mut self, of: &core::ops::Range<u64>) {
        for row in 0..N {
            if of.contains(&self.rows[row].at) {
                self.forget(row);
            }
        }
    }

    /// Its memory is not to be used any more: a disk may still write there.
    pub fn lose(&mut self, row: usize) {
        (self.rows[row].state, self.rows[row].gone) = (State::Lost, true);
    }

    /// What is known of it.
    pub fn state(&self, row: usize) -> State {
        self.rows[row].state
    }

    /// Which block of the set it is.
    pub fn at(&self, row: usize) -> u64 {
        self.rows[row].at
    }

    /// Where it lies.
    pub fn buffer(&self, row: usize) -> usize {
        self.buffers + row * BLOCK_BYTES
    }

    /// The check at this byte of it.
    pub fn check(&self, row: usize, byte: usize, memory: SharedMemory) -> Check {
        // It lies in the memory; else it would be a check that is lost.
        Check::from_bytes(memory.read64(self.buffer(row) + byte).unwrap_or(0).to_le_bytes())
    }

    /// The check at this byte of it is this one from now on.
    pub fn set(&mut self, row: usize, byte: usize, check: Check, memory: SharedMemory) {
        let _ = memory.write(self.buffer(row) + byte, &check.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_asked_for_longest_ago_makes_room_if_nobody_uses_it() {
        let mut rows = Rows::<3>::new(0);
        assert_eq!([10, 11, 12].map(|at| rows.find(at, |_| false)), [(0, true), (1, true), (2, true)].map(Some));
        assert_eq!(rows.find(13, |_| false), None, "all are being read");
        (0..3).for_each(|row| rows.came(row, true));
        assert_eq!(rows.find(10, |_| false), Some((0, false)));
        assert_eq!(rows.find(13, |row| row == 1), Some((2, true)));
        assert_eq!((rows.at(2), rows.state(2), rows.state(1)), (13, State::Coming, State::Read));
        // One that could not be read, or written, is read anew.
        rows.came(2, false);
        rows.forget(1);
        assert_eq!((rows.state(2), rows.state(1)), (State::Lost, State::Stale));
        assert_eq!(rows.find(13, |row| row == 1), Some((2, true)));
        assert_eq!(rows.find(11, |_| false), Some((1, true)));
    }

    #[test]
    fn memory_that_a_disk_may_still_write_to_is_not_used_again() {
        let mut rows = Rows::<2>::new(0);
        assert_eq!([10, 11].map(|at| rows.find(at, |_| false)), [Some((0, true)), Some((1, true))]);
        rows.lose(0);
        rows.came(0, true);
        rows.came(1, true);
        assert_eq!((rows.state(0), rows.are_gone()), (State::Lost, false));
        assert_eq!(rows.find(10, |_| false), Some((1, true)));
        assert_eq!(rows.find(12, |_| false), None);
        rows.lose(1);
        assert!(rows.are_gone());
    }
}

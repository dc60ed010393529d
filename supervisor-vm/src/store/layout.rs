//! How a disk is divided, and its first block, which says so.

use super::block::{Block, Head, Role, Side, seal};
use alloc::boxed::Box;

/// The version of the format that is written and read.
pub const VERSION: u32 = 1;
/// Blocks that a disk needs.
pub const LEAST: u64 = 16;
/// Blocks that are used at most, of a larger one the first ones.
pub const MOST: u64 = 4096;

/// How a disk is divided: behind its first block lie two areas of records, and behind those the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which store it is.
    pub store: [u8; 16],
    /// Blocks of each of the two areas of records.
    pub records: u32,
    /// Blocks of the history.
    pub history: u32,
}

impl Layout {
    /// How a disk of so many blocks is divided; `None` where that is less than [`LEAST`].
    pub fn plan(store: [u8; 16], blocks: u64) -> Option<Layout> {
        let behind = u32::try_from(blocks.min(MOST)).ok().filter(|_| blocks >= LEAST)? - 1;
        let records = behind * 3 / 8;
        Some(Layout { store, records, history: behind - 2 * records })
    }

    /// What the first block says.
    pub fn first_block(&self) -> Box<Block> {
        let mut holds = [0; 12];
        for (to, word) in holds.chunks_exact_mut(4).zip([VERSION, self.records, self.history]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        seal(&Head { store: self.store, number: 0, role: Role::Beginning, place: 0, whole: 0 }, &holds)
    }

    /// What a first block with this head and these contents says: the version, where it is another one.
    ///
    /// # Errors
    ///
    /// The version that it has, where it is another one than [`VERSION`]; 0 where it makes no sense.
    pub fn of(head: &Head, holds: &[u8]) -> Result<Layout, u32> {
        let word = |at: usize| Some(u32::from_le_bytes(*holds.get(at..)?.first_chunk()?));
        let (Role::Beginning, Some(version)) = (head.role, word(0)) else { return Err(0) };
        if version != VERSION {
            return Err(version);
        }
        let (Some(records), Some(history)) = (word(4), word(8)) else { return Err(0) };
        let layout = Layout { store: head.store, records, history };
        if records == 0 || history == 0 || layout.blocks() > MOST { Err(0) } else { Ok(layout) }
    }

    /// Blocks that are used.
    pub fn blocks(&self) -> u64 {
        1 + 2 * u64::from(self.records) + u64::from(self.history)
    }

    /// Where a block of records lies.
    pub fn record(&self, side: Side, place: u32) -> u64 {
        let before = if side == Side::A { 0 } else { u64::from(self.records) };
        1 + before + u64::from(place)
    }

    /// Where a block of the history lies.
    pub fn line(&self, place: u32) -> u64 {
        1 + 2 * u64::from(self.records) + u64::from(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{Seen, look};
    use super::*;

    #[test]
    fn a_disk_is_divided_without_a_rest() {
        assert_eq!((Layout::plan([1; 16], LEAST - 1), Layout::plan([1; 16], 0)), (None, None));
        for (blocks, records, history) in [(16, 5, 5), (1024, 383, 257), (1 << 40, 1535, 1025)] {
            let layout = Layout::plan([1; 16], blocks).expect("enough");
            assert_eq!((layout.records, layout.history), (records, history));
            assert_eq!(layout.blocks(), blocks.min(MOST));
            assert_eq!(layout.record(Side::B, 0), layout.record(Side::A, records - 1) + 1);
            assert_eq!(layout.line(0), layout.record(Side::B, records - 1) + 1);
            let block = layout.first_block();
            let Seen::Sealed(head, holds) = look(&block) else { panic!("it is sealed") };
            assert_eq!(Layout::of(&head, holds), Ok(layout));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let head = Head { store: [1; 16], number: 0, role: Role::Beginning, place: 0, whole: 0 };
        let words = |words: [u32; 3]| words.map(u32::to_le_bytes).concat();
        for (holds, why) in [
            (words([2, 5, 5]), 2),
            (words([1, 0, 5]), 0),
            (words([1, 5, 0]), 0),
            (words([1, u32::MAX, u32::MAX]), 0),
            (words([1, 5, 5])[..8].to_vec(), 0),
            (alloc::vec::Vec::new(), 0),
        ] {
            assert_eq!(Layout::of(&head, &holds), Err(why), "{holds:?}");
        }
        assert_eq!(Layout::of(&Head { role: Role::History, ..head }, &words([1, 5, 5])), Err(0));
    }
}

//! How a disk is divided, and its first block, which says so.

use super::block::{Block, Head, Role, Side, seal};
use alloc::boxed::Box;

/// The version of the format that is written. Version 1, which is read, too, knows no images.
pub const VERSION: u32 = 2;
/// Blocks that a disk needs.
pub const LEAST: u64 = 16;
/// Blocks for records and lines at most, of a larger disk the first ones.
pub const MOST: u64 = 4096;
/// Blocks that records and lines have before there are any for images.
const FIRST: u64 = 1024;
/// Blocks for images at most: 4 GiB.
const IMAGES_MOST: u64 = 1 << 20;

/// How a disk is divided: behind its first block lie two areas of records, behind those the history, and behind that the files of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which store it is.
    pub store: [u8; 16],
    /// Blocks of each of the two areas of records.
    pub records: u32,
    /// Blocks of the history.
    pub history: u32,
    /// Blocks for images.
    pub images: u32,
}

impl Layout {
    /// How a disk of so many blocks is divided; `None` where that is less than [`LEAST`].
    pub fn plan(store: [u8; 16], blocks: u64) -> Option<Layout> {
        let state = (blocks / 4).clamp(FIRST, MOST).min(blocks);
        let behind = u32::try_from(state).ok().filter(|_| blocks >= LEAST)? - 1;
        let records = behind * 3 / 8;
        Some(Layout { store, records, history: behind - 2 * records, images: 0 }.grown(blocks))
    }

    /// The same on a disk of so many blocks, of which those behind the history are for images.
    #[must_use]
    pub fn grown(self, blocks: u64) -> Layout {
        let images = blocks.saturating_sub(self.blocks()).min(IMAGES_MOST);
        Layout { images: u32::try_from(images).unwrap_or(0), ..self }
    }

    /// What the first block says.
    pub fn first_block(&self) -> Box<Block> {
        let mut holds = [0; 16];
        for (to, word) in holds.chunks_exact_mut(4).zip([VERSION, self.records, self.history, self.images]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        seal(&Head { store: self.store, number: 0, role: Role::Beginning, place: 0, whole: 0 }, &holds)
    }

    /// What a first block with this head and these contents says.
    ///
    /// # Errors
    ///
    /// The version that it has, where that is newer than [`VERSION`]; 0 where it makes no sense.
    pub fn of(head: &Head, holds: &[u8]) -> Result<Layout, u32> {
        let word = |at: usize| Some(u32::from_le_bytes(*holds.get(at..)?.first_chunk()?));
        let (Role::Beginning, Some(version)) = (head.role, word(0)) else { return Err(0) };
        if version > VERSION {
            return Err(version);
        }
        let images = if version == 1 { Some(0) } else { word(12) };
        let (Some(records), Some(history), Some(images)) = (word(4), word(8), images) else { return Err(0) };
        let layout = Layout { store: head.store, records, history, images };
        let makes_sense = version != 0 && records != 0 && history != 0 && u64::from(images) <= IMAGES_MOST;
        if makes_sense && layout.blocks() <= MOST { Ok(layout) } else { Err(0) }
    }

    /// Blocks that are used.
    pub fn all(&self) -> u64 {
        self.blocks() + u64::from(self.images)
    }

    /// Where a block for images lies.
    pub fn image(&self, place: u32) -> u64 {
        self.blocks() + u64::from(place)
    }

    /// Blocks in front of those for images.
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
        for (blocks, records, history, images) in [
            (16, 5, 5, 0),
            (1024, 383, 257, 0),
            (2048, 383, 257, 1024),
            (8192, 767, 513, 6144),
            (1 << 40, 1535, 1025, 1 << 20),
        ] {
            let layout = Layout::plan([1; 16], blocks).expect("enough");
            assert_eq!((layout.records, layout.history, layout.images), (records, history, images));
            assert_eq!(layout.all(), blocks.min(MOST + IMAGES_MOST));
            assert_eq!((layout.image(0), layout.grown(blocks)), (layout.blocks(), layout));
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
        let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
        for (holds, why) in [
            (words([3, 5, 5, 0]), 3),
            (words([0, 5, 5, 0]), 0),
            (words([2, 0, 5, 0]), 0),
            (words([2, 5, 0, 0]), 0),
            (words([2, 5, 5, 1 << 21]), 0),
            (words([1, u32::MAX, u32::MAX, 0]), 0),
            (words([2, 5, 5, 0])[..12].to_vec(), 0),
            (words([1, 5, 5, 0])[..8].to_vec(), 0),
            (alloc::vec::Vec::new(), 0),
        ] {
            assert_eq!(Layout::of(&head, &holds), Err(why), "{holds:?}");
        }
        assert_eq!(Layout::of(&Head { role: Role::History, ..head }, &words([2, 5, 5, 0])), Err(0));
        let first = Layout { store: [1; 16], records: 5, history: 5, images: 0 };
        assert_eq!(
            Layout::of(&head, &words([1, 5, 5, 9])[..12]),
            Ok(first),
            "as it was before there were images on it"
        );
    }
}

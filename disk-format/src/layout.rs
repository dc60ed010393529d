//! Where things lie on a member of a set.

/// Blocks that a member has at least: both directories of one block, the superblocks, and some data.
pub const MEMBER_BLOCKS_MIN: u64 = 64;

/// Entries in a block of the directory.
pub const ENTRIES_PER_BLOCK: u64 = 64;
/// Entries of a directory at most.
pub const MAX_ENTRIES: usize = 1024;

/// A superblock's place. A generation has two of them, one at each end of the disk; the next generation has the other two, so that no
/// state is ever written over before the next one is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 0 for even generations, 1 for odd ones.
    pub slot: u8,
    /// At the end of the disk rather than at its start.
    pub end: bool,
}

impl Place {
    /// All places, those at the start first.
    pub const ALL: [Place; 4] = [
        Place { slot: 0, end: false },
        Place { slot: 1, end: false },
        Place { slot: 0, end: true },
        Place { slot: 1, end: true },
    ];

    /// The two places of a generation, the one at the start first.
    pub const fn of(generation: u64) -> [Place; 2] {
        let slot = if generation.is_multiple_of(2) { 0 } else { 1 };
        [Place { slot, end: false }, Place { slot, end: true }]
    }

    /// Its number, as the superblock there says it.
    pub const fn number(self) -> u32 {
        // Widening only.
        #[allow(clippy::cast_lossless)]
        {
            self.slot as u32 + if self.end { 2 } else { 0 }
        }
    }

    /// Its block on a member of so many blocks, which are two at least.
    pub fn block(self, member_blocks: u64) -> u64 {
        let slot = u64::from(self.slot);
        if self.end { member_blocks.saturating_sub(2) + slot } else { 1 + slot }
    }
}

/// What lies where on each member of a set, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Blocks of one directory, of which there are two.
    pub directory_blocks: u32,
    /// First block of the first directory.
    pub directory_start: u64,
    /// First block of the data.
    pub data_start: u64,
    /// Blocks of data, a multiple of the stripe unit.
    pub data_blocks: u64,
}

impl Layout {
    /// Block 0 belongs to nobody, the superblocks of the start are in 1 and 2.
    const DIRECTORY_START: u64 = 3;

    /// The layout of a set whose smallest member has `member_blocks`, with a stripe unit of `unit` blocks. `None` when nothing is left
    /// for data.
    pub fn plan(member_blocks: u64, unit: u32, directory_blocks: u32) -> Option<Layout> {
        let directory_start = Layout::DIRECTORY_START;
        let unit = u64::from(unit);
        let data_start = (directory_start + 2 * u64::from(directory_blocks)).checked_next_multiple_of(unit)?;
        let left = member_blocks.checked_sub(2)?.checked_sub(data_start)?;
        let data_blocks = left - left.checked_rem(unit)?;
        (data_blocks > 0).then_some(Layout { directory_blocks, directory_start, data_start, data_blocks })
    }

    /// Where the directory of a generation begins.
    pub fn directory(&self, generation: u64) -> u64 {
        self.directory_start + (generation % 2) * u64::from(self.directory_blocks)
    }

    /// Whether everything lies on a member of so many blocks, and nothing on something else.
    pub fn fits(&self, member_blocks: u64) -> bool {
        let directories = 2 * u64::from(self.directory_blocks);
        let directory_end = self.directory_start.checked_add(directories);
        let data_end = self.data_start.checked_add(self.data_blocks);
        self.directory_start >= Layout::DIRECTORY_START
            && directory_end.is_some_and(|end| end <= self.data_start)
            && data_end.zip(member_blocks.checked_sub(2)).is_some_and(|(end, most)| end <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_lies_on_something_else() {
        for (blocks, unit, directory) in [(64, 16, 1), (1000, 16, 1), (16_384, 16, 16), (1 << 30, 256, 16), (77, 1, 3)]
        {
            let layout = Layout::plan(blocks, unit, directory).expect("large enough");
            assert!(layout.fits(blocks) && !layout.fits(layout.data_start + layout.data_blocks + 1), "{layout:?}");
            assert!(layout.data_start.is_multiple_of(unit.into()) && layout.data_blocks.is_multiple_of(unit.into()));
            // Nothing is wasted but what is no whole stripe unit.
            assert!(layout.data_start + layout.data_blocks + u64::from(unit) > blocks - 2, "{layout:?}");
            assert!(layout.directory(3) == layout.directory(2) + u64::from(directory));
            let overlapping = Layout { data_start: layout.data_start - u64::from(unit), ..layout };
            assert!(!overlapping.fits(blocks) || unit == 1);
            assert!(!Layout { directory_start: 2, ..layout }.fits(blocks));
            assert!(!Layout { data_blocks: u64::MAX, ..layout }.fits(blocks));
        }
        assert_eq!(Layout::plan(20, 16, 1), None);
        assert_eq!(Layout::plan(1, 16, 1), None);
        assert_eq!(Layout::plan(100, 0, 1), None);
        assert!(Layout::plan(MEMBER_BLOCKS_MIN, 16, 1).is_some());
    }

    #[test]
    fn generations_take_turns() {
        for (generation, blocks) in [(6, [1, 98]), (7, [2, 99])] {
            assert_eq!(Place::of(generation).map(|place| place.block(100)), blocks);
        }
        assert_eq!(Place::ALL.map(Place::number), [0, 1, 2, 3]);
    }
}

//! Pieces of the area for images: which are taken, and which a file is given. Pure.

use alloc::vec::Vec;

/// Blocks that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The first one, from 0 in the area.
    pub start: u32,
    /// How many, not 0.
    pub blocks: u32,
}

/// Pieces of one file at most, so that they fit into a record.
pub const PIECES: usize = 200;

/// Why a file has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// So many blocks are free.
    Full(u32),
    /// There would be enough, in more than [`PIECES`] pieces.
    Scattered,
}

/// The gaps in an area of so many blocks, in their order; `None` where something that is taken lies outside, or two times in one place.
pub fn gaps(taken: impl IntoIterator<Item = Extent>, blocks: u32) -> Option<Vec<Extent>> {
    let mut taken: Vec<Extent> = taken.into_iter().collect();
    taken.sort_unstable();
    let (mut gaps, mut at) = (Vec::new(), 0);
    for extent in taken.into_iter().chain([Extent { start: blocks, blocks: 0 }]) {
        let gap = extent.start.checked_sub(at)?;
        if gap != 0 {
            gaps.push(Extent { start: at, blocks: gap });
        }
        at = extent.start.checked_add(extent.blocks).filter(|end| *end <= blocks)?;
    }
    Some(gaps)
}

/// A place for a file of so many blocks: the first gap that has room for all, else the largest ones.
///
/// # Errors
///
/// [`NoPlace`].
pub fn allocate(mut gaps: Vec<Extent>, blocks: u32) -> Result<Vec<Extent>, NoPlace> {
    if let Some(gap) = gaps.iter().find(|gap| gap.blocks >= blocks) {
        return Ok(Vec::from([Extent { start: gap.start, blocks }]));
    }
    let free = gaps.iter().fold(0_u32, |sum, gap| sum.saturating_add(gap.blocks));
    if free < blocks {
        return Err(NoPlace::Full(free));
    }
    gaps.sort_unstable_by_key(|gap| core::cmp::Reverse(gap.blocks));
    let (mut place, mut left) = (Vec::new(), blocks);
    for gap in gaps.into_iter().take(PIECES) {
        let taken = gap.blocks.min(left);
        place.push(Extent { start: gap.start, blocks: taken });
        left -= taken;
        if left == 0 {
            return Ok(place);
        }
    }
    Err(NoPlace::Scattered)
}

/// The blocks of these pieces, one after the other.
pub fn places(extents: &[Extent]) -> impl Iterator<Item = u32> {
    extents.iter().flat_map(|extent| extent.start..extent.start.saturating_add(extent.blocks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at(start: u32, blocks: u32) -> Extent {
        Extent { start, blocks }
    }

    #[test]
    fn a_file_lies_in_one_piece_where_that_is_possible() {
        let free = gaps([at(4, 2), at(0, 1), at(10, 1)], 20).expect("they fit");
        assert_eq!(free, [at(1, 3), at(6, 4), at(11, 9)]);
        assert_eq!(allocate(free.clone(), 4), Ok(Vec::from([at(6, 4)])));
        assert_eq!(allocate(free.clone(), 12), Ok(Vec::from([at(11, 9), at(6, 3)])));
        assert_eq!(allocate(free.clone(), 17), Err(NoPlace::Full(16)));
        assert_eq!(allocate(gaps([], 0).expect("none"), 1), Err(NoPlace::Full(0)));
        let every_other = (0..500).map(|number| at(2 * number, 1));
        let free = gaps(every_other, 1000).expect("they fit");
        assert_eq!(allocate(free.clone(), 200).map(|place| place.len()), Ok(200));
        assert_eq!(allocate(free, 201), Err(NoPlace::Scattered));
    }

    #[test]
    fn what_cannot_be_is_found() {
        for bad in [[at(0, 2), at(1, 1)], [at(0, 1), at(9, 2)], [at(u32::MAX, 2), at(0, 1)], [at(3, 1), at(3, 1)]] {
            assert_eq!(gaps(bad, 10), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_block_is_given_twice(sizes in prop::collection::vec(1..40_u32, 1..60), gone in prop::collection::vec(any::<bool>(), 60)) {
            let mut files: Vec<Vec<Extent>> = Vec::new();
            for (size, gone) in sizes.into_iter().zip(gone) {
                let free = gaps(files.iter().flatten().copied(), 300).expect("they fit");
                if let Ok(place) = allocate(free, size) {
                    prop_assert_eq!(places(&place).count(), size as usize);
                    files.push(place);
                }
                if gone {
                    files.remove(files.len() / 2);
                }
                let all: Vec<u32> = files.iter().flat_map(|file| places(file)).collect();
                prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
                prop_assert!(all.iter().all(|place| *place < 300));
            }
        }
    }
}

//! Extents: where a file's blocks are. A tree of nodes; the root lies in the inode, the others in a block each.

use crate::bytes::{joined, u16_at, u32_at};
use crate::error::Error;

const MAGIC: u16 = 0xf30a;
const ENTRY: usize = 12;
/// Levels below a root at most.
const DEPTH: u16 = 5;
/// From so many blocks on, an extent is one that was never written, and has so many less.
const UNWRITTEN: u16 = 0x8000;

/// What a node says of a block of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is this block of the file system.
    At(u64),
    /// It was never written, and reads as zeros.
    Hole,
    /// The node in this block knows, and it must have this depth.
    Below(u64, u16),
}

/// What a node of this depth (`None`: a root, of any) of an inode's extents says of a block of the file.
pub(crate) fn look(node: &[u8], depth: Option<u16>, block: u32, inode: u32) -> Result<Place, Error> {
    let damaged = |what| Error::Damaged(what, inode.into());
    let (entries, is) = (usize::from(u16_at(node, 2)), u16_at(node, 6));
    if u16_at(node, 0) != MAGIC || (entries + 1) * ENTRY > node.len() {
        return Err(damaged("a file's extents are none"));
    }
    if is > DEPTH || depth.is_some_and(|depth| depth != is) {
        return Err(damaged("a file's extents go in circles"));
    }
    let all = node[ENTRY..(entries + 1) * ENTRY].chunks_exact(ENTRY);
    // They are in order: the last one that does not begin behind the block is the one that may have it.
    let Some(entry) = all.take_while(|entry| u32_at(entry, 0) <= block).last() else { return Ok(Place::Hole) };
    if is > 0 {
        return Ok(Place::Below(joined(u16_at(entry, 8).into(), u32_at(entry, 4)), is - 1));
    }
    let (index, len) = (block - u32_at(entry, 0), u16_at(entry, 4));
    let is_written = len <= UNWRITTEN;
    let len = if is_written { len } else { len - UNWRITTEN };
    if index >= u32::from(len) || !is_written {
        return Ok(Place::Hole);
    }
    Ok(Place::At(joined(u16_at(entry, 6).into(), u32_at(entry, 8)) + u64::from(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn node(depth: u16, entries: &[(u32, u16, u64)]) -> Vec<u8> {
        let mut node = Vec::new();
        for number in [MAGIC, entries.len().try_into().expect("few"), 4, depth, 0, 0] {
            node.extend_from_slice(&u16::to_le_bytes(number));
        }
        for &(first, len, at) in entries {
            let (low, high) = ((at & 0xffff_ffff) as u32, u16::try_from(at >> 32).expect("48 bits"));
            node.extend_from_slice(&first.to_le_bytes());
            if depth == 0 {
                node.extend_from_slice(&len.to_le_bytes());
                node.extend_from_slice(&high.to_le_bytes());
                node.extend_from_slice(&low.to_le_bytes());
            } else {
                node.extend_from_slice(&low.to_le_bytes());
                node.extend_from_slice(&high.to_le_bytes());
                node.extend_from_slice(&[0; 2]);
            }
        }
        node
    }

    #[test]
    fn leaves() {
        let leaf = node(0, &[(2, 3, 100), (5, 0x8000 + 2, 200), (9, 0x8000, 0x1_0000_0007)]);
        let at = |block| look(&leaf, Some(0), block, 7);
        for (block, place) in [
            (0, Place::Hole),
            (2, Place::At(100)),
            (4, Place::At(102)),
            (5, Place::Hole),
            (7, Place::Hole),
            (9, Place::At(0x1_0000_0007)),
            (9 + 0x7fff, Place::At(0x1_0000_0007 + 0x7fff)),
            (9 + 0x8000, Place::Hole),
        ] {
            assert_eq!(at(block), Ok(place), "{block}");
        }
    }

    #[test]
    fn inner_nodes() {
        let inner = node(2, &[(0, 0, 50), (1000, 0, 0x2_0000_0033)]);
        assert_eq!(look(&inner, None, 999, 7), Ok(Place::Below(50, 1)));
        assert_eq!(look(&inner, Some(2), 1000, 7), Ok(Place::Below(0x2_0000_0033, 1)));
        assert!(matches!(look(&inner, Some(1), 0, 7), Err(Error::Damaged(_, 7))), "the depth must go down");
        assert!(matches!(look(&node(6, &[]), None, 0, 7), Err(Error::Damaged(_, 7))));
        assert!(matches!(look(&inner[..30], None, 0, 7), Err(Error::Damaged(_, 7))), "cut off");
        assert!(matches!(look(&[0; 60], None, 0, 7), Err(Error::Damaged(_, 7))));
        assert_eq!(look(&node(0, &[]), None, 3, 7), Ok(Place::Hole));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100), block: u32) {
            let mut node = std::vec![0x0a, 0xf3];
            node.extend(bytes);
            let _ = look(&node, None, block, 1);
        }
    }
}

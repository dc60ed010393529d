//! Directories: entries, in blocks, each with a name and the number of an inode.

use crate::bytes::{u16_at, u32_at};
use crate::error::Error;

/// Bytes of an entry in front of its name.
const HEAD: usize = 8;

/// The inode that a block of a directory has for `name`. `directory`: the number of its own inode.
///
/// The blocks of an index over the names (`dir_index`) look like one entry that is not in use, and are passed over with it.
pub(crate) fn look(block: &[u8], name: &[u8], directory: u32) -> Result<Option<u32>, Error> {
    let mut rest = block;
    while !rest.is_empty() {
        let (inode, len, name_len) = (u32_at(rest, 0), usize::from(u16_at(rest, 4)), rest.get(6).copied().unwrap_or(0));
        if len < HEAD || len > rest.len() || HEAD + usize::from(name_len) > len {
            return Err(Error::Damaged("a directory's entries do not fit into each other", directory.into()));
        }
        if inode != 0 && rest[HEAD..HEAD + usize::from(name_len)] == *name {
            return Ok(Some(inode));
        }
        rest = &rest[len..];
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn block(entries: &[(u32, &str, u16)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (inode, name, len) in entries {
            let start = block.len();
            block.extend_from_slice(&inode.to_le_bytes());
            block.extend_from_slice(&len.to_le_bytes());
            block.extend_from_slice(&[u8::try_from(name.len()).expect("short"), 1]);
            block.extend_from_slice(name.as_bytes());
            block.resize(start + usize::from(*len), 0);
        }
        block
    }

    #[test]
    fn names() {
        let block = block(&[(2, ".", 12), (2, "..", 12), (0, "gone", 16), (12, "a", 12), (13, "ab", 20), (0, "", 12)]);
        let at = |name: &str| look(&block, name.as_bytes(), 2);
        assert_eq!(at("a"), Ok(Some(12)));
        assert_eq!(at("ab"), Ok(Some(13)));
        for missing in ["gone", "", "abc", "A"] {
            assert_eq!(at(missing), Ok(None), "{missing}");
        }
    }

    #[test]
    fn entries_that_do_not_fit() {
        for bad in [&[(1, "a", 8)][..], &[(1, "a", 12), (2, "b", 4)], &[(1, "abcdef", 12)]] {
            let bytes = block(bad);
            assert!(matches!(look(&bytes, b"z", 9), Err(Error::Damaged(_, 9))), "{bad:?}");
        }
        let good = block(&[(1, "a", 12), (2, "b", 12)]);
        assert!(matches!(look(&good[..20], b"b", 9), Err(Error::Damaged(_, 9))), "cut off");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in proptest::collection::vec(any::<u8>(), 0..4)) {
            let _ = look(&bytes, &name, 1);
        }
    }
}

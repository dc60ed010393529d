//! Checks: what a virtual disk knows of each of its blocks beside the block itself.
//!
//! A check holds two checksums: the block's present one, and the one that it had before. Whoever writes a block that has a checksum writes its
//! check first, with the new checksum and the old one, and makes that durable; then the block. So whenever the power fails, the block is one of
//! the two that the check allows, and anything else is an error and not data.
//!
//! A block that was never written, or was discarded, has a check that says so. It reads as zeros and is not looked at, so that what somebody
//! else left there is never seen: creating a virtual disk, or discarding all of it, writes a 512th of it. Here the block is written first,
//! and made durable, and then its check: until then it still reads as zeros.
//!
//! A virtual disk that lies on another one begins with checks that say so of all its blocks: they are what that one has, which is never written. Writing one
//! goes as if it had never been written.
//!
//! Both rely on a disk that writes a block whole or not at all. Where it may tear one, what is torn is an error. Checks are 8 bytes, of which
//! none straddles a sector, so a torn block of checks holds old ones and new ones.

use crate::block::{Block, checksum};

/// Checks in a block of checks.
pub const CHECKS_PER_BLOCK: u64 = 512;

/// What stands for "never written". It is not zero, so that a block of checks that the disk has lost and reads as zeros makes errors.
const UNWRITTEN: u64 = u64::from_le_bytes(*b"nothing\n");

/// What stands for "as in the virtual disk beneath".
const INHERITED: u64 = u64::from_le_bytes(*b"beneath\n");

/// Blocks of checks that `blocks` blocks have.
#[must_use]
pub const fn check_blocks(blocks: u64) -> u64 {
    blocks.div_ceil(CHECKS_PER_BLOCK)
}

/// In which block of checks, from the first, and at which byte of it the check of `block` lies.
#[must_use]
pub fn place_of_check(block: u64) -> (u64, usize) {
    let byte = usize::try_from(block % CHECKS_PER_BLOCK * 8).unwrap_or(0);
    (block / CHECKS_PER_BLOCK, byte)
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check(u64);

/// What a check says of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The block holds what was written there.
    Good,
    /// Nothing was written there: it reads as zeros, whatever the disk holds.
    Zeros,
    /// It is not what was written there.
    Bad,
}

impl Check {
    /// Of a block that was never written.
    pub const UNWRITTEN: Check = Check(UNWRITTEN);
    /// Of a block that was neither written nor discarded since its virtual disk lies on another one: it is what that one's block is.
    pub const INHERITED: Check = Check(INHERITED);

    /// Of a block that holds `data`, for certain.
    #[must_use]
    pub fn of(disk: u32, block: u64, data: &Block) -> Check {
        Check::of_sum(Sum::of(disk, block, data))
    }

    /// As [`Check::of`], of data with this sum.
    #[must_use]
    pub fn of_sum(sum: Sum) -> Check {
        Check::new(sum.0, sum.0)
    }

    /// Whether it has checksums: the block was written in this virtual disk.
    #[must_use]
    pub fn has_sums(self) -> bool {
        self != Check::UNWRITTEN && self != Check::INHERITED
    }

    /// What has to be durable before `data` is written to a block that has this check now. `None` for a block that was never written here: there
    /// the data has to be durable first, and then comes [`Check::of`].
    #[must_use]
    pub fn before_writing(self, disk: u32, block: u64, data: &Block) -> Option<Check> {
        let [_, now] = self.sums();
        self.has_sums().then(|| Check::new(now, Sum::of(disk, block, data).0))
    }

    /// As [`Check::before_writing`], for data of which [`Check::of`] is this one.
    #[must_use]
    pub fn then(self, after: Check) -> Option<Check> {
        self.has_sums().then(|| Check::new(self.sums()[1], after.sums()[1]))
    }

    /// Whether it allows one content only: else what the block holds has to be looked at before it is written, since only one of the two
    /// checksums can be kept.
    #[must_use]
    pub fn is_certain(self) -> bool {
        let [old, new] = self.sums();
        !self.has_sums() || old == new
    }

    /// It without the checksum that is not that of `data`, which the block holds; `None` when neither is.
    #[must_use]
    pub fn certain(self, disk: u32, block: u64, data: &Block) -> Option<Check> {
        self.certain_by(Sum::of(disk, block, data))
    }

    /// As [`Check::certain`], of data with this sum.
    #[must_use]
    pub fn certain_by(self, sum: Sum) -> Option<Check> {
        match self.judge_sum(sum) {
            Checked::Good => Some(Check::of_sum(sum)),
            Checked::Zeros => Some(self),
            Checked::Bad => None,
        }
    }

    /// Of these checksums, the old one first.
    fn new(old: u32, new: u32) -> Check {
        Check(u64::from(old) | u64::from(new) << 32)
    }

    fn sums(self) -> [u32; 2] {
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
    }

    /// Judges `data`, which is bad where the block is another virtual disk's ([`Check::INHERITED`]), and which was read from `block` of the virtual disk with the id `disk`.
    #[must_use]
    pub fn judge(self, disk: u32, block: u64, data: &Block) -> Checked {
        if self == Check::UNWRITTEN { Checked::Zeros } else { self.judge_sum(Sum::of(disk, block, data)) }
    }

    /// As [`Check::judge`], of data with this sum.
    #[must_use]
    pub fn judge_sum(self, sum: Sum) -> Checked {
        if self == Check::UNWRITTEN {
            Checked::Zeros
        } else if self.has_sums() && self.sums().contains(&sum.0) {
            Checked::Good
        } else {
            Checked::Bad
        }
    }

    /// It as it lies on the disk.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// The check of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Check {
        Check(u64::from_le_bytes(bytes))
    }

    /// The check at this byte of a block of checks; that of a lost one beyond its end.
    #[must_use]
    pub fn in_block(block: &Block, byte: usize) -> Check {
        let bytes = block.get(byte..).and_then(|rest| rest.first_chunk());
        Check::from_bytes(bytes.copied().unwrap_or_default())
    }
}

/// The checksum of a block: over its data, and over where it belongs, so that a block that was written to or read from another place is an
/// error. Never 0, which is what a lost check holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum(u32);

impl Sum {
    /// Of `data` in `block` of the virtual disk with the id `disk`.
    #[must_use]
    pub fn of(disk: u32, block: u64, data: &Block) -> Sum {
        Sum::from_crc(checksum(&[&disk.to_le_bytes(), &block.to_le_bytes(), data]))
    }

    /// As [`Sum::of`], where somebody else has computed CRC-32C over the disk's id (four bytes), the block's number (eight bytes, both little-endian) and the data.
    #[must_use]
    pub fn from_crc(crc: u32) -> Sum {
        Sum(if crc == 0 { u32::MAX } else { crc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(byte: u8) -> Block {
        [byte; crate::BLOCK_BYTES]
    }

    #[test]
    fn a_block_is_what_was_written_or_an_error() {
        let check = Check::of(3, 7, &filled(1));
        assert_eq!(check.judge(3, 7, &filled(1)), Checked::Good);
        assert_eq!(check.judge(3, 7, &filled(2)), Checked::Bad);
        assert_eq!(
            [check.judge(4, 7, &filled(1)), check.judge(3, 8, &filled(1))],
            [Checked::Bad; 2],
            "it belongs elsewhere"
        );
        assert_eq!(Check::UNWRITTEN.judge(3, 7, &filled(9)), Checked::Zeros);
        let lost = Check::from_bytes([0; 8]);
        assert_eq!([lost.judge(3, 7, &filled(0)), lost.judge(3, 7, &filled(9))], [Checked::Bad; 2]);
        assert_eq!(Check::from_bytes(check.to_bytes()), check);
    }

    #[test]
    fn while_it_is_written_it_may_be_either() {
        let writing = Check::of(1, 0, &filled(1)).before_writing(1, 0, &filled(2)).expect("it was written");
        assert_eq!(
            [1, 2, 3].map(|byte| writing.judge(1, 0, &filled(byte))),
            [Checked::Good, Checked::Good, Checked::Bad]
        );
        let again = writing.before_writing(1, 0, &filled(3)).expect("it was written");
        assert_eq!(
            [1, 2, 3].map(|byte| again.judge(1, 0, &filled(byte))),
            [Checked::Bad, Checked::Good, Checked::Good]
        );
        assert_eq!(Check::UNWRITTEN.before_writing(1, 0, &filled(2)), None);
        let (old, new) = (Check::of(1, 0, &filled(1)), Check::of(1, 0, &filled(2)));
        assert_eq!((old.then(new), Check::UNWRITTEN.then(new)), (Some(writing), None));
        // What it holds decides which of the two it is.
        assert_eq!([old, writing, Check::UNWRITTEN].map(Check::is_certain), [true, false, true]);
        assert_eq!([1, 2, 3].map(|byte| writing.certain(1, 0, &filled(byte))), [Some(old), Some(new), None]);
        assert_eq!(Check::UNWRITTEN.certain(1, 0, &filled(9)), Some(Check::UNWRITTEN));
    }

    #[test]
    fn what_lies_beneath_is_no_data_of_its_own() {
        let check = Check::INHERITED;
        assert_eq!([0, 9].map(|byte| check.judge(1, 2, &filled(byte))), [Checked::Bad; 2]);
        assert!(check.is_certain() && !check.has_sums() && !Check::UNWRITTEN.has_sums());
        assert!(Check::of(1, 2, &filled(3)).has_sums());
        assert_eq!((check.before_writing(1, 2, &filled(3)), check.then(Check::of(1, 2, &filled(3)))), (None, None));
        assert_eq!(Check::from_bytes(check.to_bytes()), check);
    }

    #[test]
    fn places() {
        assert_eq!([0, 511, 512, 1025].map(place_of_check), [(0, 0), (0, 4088), (1, 0), (2, 8)]);
        assert_eq!([0, 1, 512, 513].map(check_blocks), [0, 1, 1, 2]);
        let mut block = filled(0);
        block[8..16].copy_from_slice(&Check::UNWRITTEN.to_bytes());
        assert_eq!(Check::in_block(&block, 8), Check::UNWRITTEN);
        assert_eq!(Check::in_block(&block, 4090), Check::from_bytes([0; 8]));
    }

    proptest! {
        /// Up to three bits flipped anywhere in a block are noticed (CRC-32C has a Hamming distance of 4 up to 2^31 bits).
        #[test]
        fn flipped_bits_are_noticed(seed: [u8; 32], flips in proptest::collection::btree_set(0_usize..8 * crate::BLOCK_BYTES, 1..=3)) {
            let mut block = filled(0);
            block.iter_mut().zip(seed.iter().cycle()).zip((0_u8..251).cycle()).for_each(|((to, from), i)| *to = from.wrapping_mul(i));
            let check = Check::of(1, 2, &block);
            flips.iter().for_each(|bit| block[bit / 8] ^= 1 << (bit % 8));
            prop_assert_eq!(check.judge(1, 2, &block), Checked::Bad);
        }
    }
}

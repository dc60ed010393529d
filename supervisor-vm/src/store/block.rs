//! One block of the operator's disk: a header with a checksum over all of it, and what it holds. ADR 58 and `docs/supervisor.md` have the format.

use alloc::boxed::Box;
use ilwaco::disk::BLOCK_BYTES;
use sha2::{Digest, Sha256};

/// The bytes of a block.
pub type Block = [u8; BLOCK_BYTES];

/// What stands in each block that was sealed.
const MAGIC: [u8; 8] = *b"FKOPDISK";
/// Bytes of the checksum, which comes first.
const SUM: usize = 32;
/// Bytes in front of what a block holds.
const HEADER: usize = 80;
/// Bytes that a block holds at most.
pub const HOLDS: usize = BLOCK_BYTES - HEADER;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It says how the disk is divided.
    Beginning,
    /// It is of one of the two areas of records.
    Records(Side),
    /// It has lines of the audit log.
    History,
}

/// One of the two areas of records, which take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first one.
    A,
    /// The second one.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

impl Role {
    const fn raw(self) -> u32 {
        match self {
            Role::Beginning => 0,
            Role::Records(Side::A) => 1,
            Role::Records(Side::B) => 2,
            Role::History => 3,
        }
    }

    fn of(raw: u32) -> Option<Role> {
        [Role::Beginning, Role::Records(Side::A), Role::Records(Side::B), Role::History]
            .into_iter()
            .find(|role| role.raw() == raw)
    }
}

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which store it belongs to: 16 bytes of chance, drawn when that was begun.
    pub store: [u8; 16],
    /// Of records their generation, of history its place among all blocks of history that there have been, from 1.
    pub number: u64,
    /// What it is for.
    pub role: Role,
    /// Which block of its area it is.
    pub place: u32,
    /// Of the first block of a generation how many blocks the generation began with; 0 of any other.
    pub whole: u32,
}

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'b> {
    /// Nothing was written there.
    Zeros,
    /// It is as it was sealed.
    Sealed(Head, &'b [u8]),
    /// It begins as a block of a store does, and its checksum is another one.
    Damaged,
    /// It is none of a store.
    Foreign,
}

/// A block that says this of itself and holds that, which is no more than [`HOLDS`] bytes.
pub fn seal(head: &Head, holds: &[u8]) -> Box<Block> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    let used = holds.len().min(HOLDS);
    let length = u32::try_from(used).unwrap_or(0);
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(32, &MAGIC);
    put(40, &head.store);
    put(56, &head.number.to_le_bytes());
    put(64, &head.role.raw().to_le_bytes());
    put(68, &head.place.to_le_bytes());
    put(72, &length.to_le_bytes());
    put(76, &head.whole.to_le_bytes());
    put(HEADER, &holds[..used]);
    let sum: [u8; SUM] = Sha256::digest(&block[SUM..]).into();
    block[..SUM].copy_from_slice(&sum);
    block
}

/// A block that is neither of a store nor blank.
pub fn damaged() -> Box<Block> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    block[32..40].copy_from_slice(&MAGIC);
    block
}

/// What a block is, whoever has written it.
pub fn look(block: &Block) -> Seen<'_> {
    if block.iter().all(|&byte| byte == 0) {
        return Seen::Zeros;
    }
    if block[32..40] != MAGIC {
        return Seen::Foreign;
    }
    let sum: [u8; SUM] = Sha256::digest(&block[SUM..]).into();
    if block[..SUM] != sum {
        return Seen::Damaged;
    }
    sealed(block).unwrap_or(Seen::Damaged)
}

/// The same of one whose checksum is right; `None` when it says what cannot be.
fn sealed(block: &Block) -> Option<Seen<'_>> {
    let word = |at: usize| Some(u32::from_le_bytes(*block.get(at..)?.first_chunk()?));
    let head = Head {
        store: *block.get(40..)?.first_chunk()?,
        number: u64::from_le_bytes(*block.get(56..)?.first_chunk()?),
        role: Role::of(word(64)?)?,
        place: word(68)?,
        whole: word(76)?,
    };
    let used = usize::try_from(word(72)?).ok()?;
    Some(Seen::Sealed(head, block.get(HEADER..)?.get(..used)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: Head = Head { store: [7; 16], number: 9, role: Role::Records(Side::B), place: 3, whole: 0 };

    #[test]
    fn a_block_is_what_was_sealed() {
        let longest = [5; HOLDS];
        for holds in [&b""[..], b"abc", &longest] {
            assert_eq!(look(&seal(&HEAD, holds)), Seen::Sealed(HEAD, holds));
        }
        assert_eq!(look(&[0; BLOCK_BYTES]), Seen::Zeros);
        assert_eq!(look(&[1; BLOCK_BYTES]), Seen::Foreign);
        assert_eq!(look(&damaged()), Seen::Damaged);
    }

    #[test]
    fn a_length_or_a_role_that_cannot_be_is_found_behind_a_right_checksum() {
        for (at, value) in [(72, u32::try_from(HOLDS).expect("small") + 1), (72, u32::MAX), (64, 4)] {
            let mut block = seal(&HEAD, b"abc");
            block[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let sum: [u8; SUM] = Sha256::digest(&block[SUM..]).into();
            block[..SUM].copy_from_slice(&sum);
            assert_eq!(look(&block), Seen::Damaged, "{at} {value}");
        }
    }

    proptest! {
        #[test]
        fn no_bit_changes_unnoticed(at in 0..BLOCK_BYTES * 8, holds in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut block = seal(&HEAD, &holds);
            block[at / 8] ^= 1 << (at % 8);
            prop_assert!(matches!(look(&block), Seen::Damaged | Seen::Foreign));
        }
    }
}

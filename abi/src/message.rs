//! The 64-byte message that fills one slot of a ring.

use crate::ring::SLOT_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One slot. What `kind` and `words` mean is defined per ring: [`crate::pager`], [`crate::sched`], [`crate::net`],
/// [`crate::control`]. Unused words are zero.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Message {
    /// Which message of its ring this is.
    pub kind: u32,
    /// Chosen by the sender of a request and returned in the answer; 0 where there is no answer.
    pub id: u32,
    /// Arguments.
    pub words: [u64; 7],
}

const _: () = assert!(core::mem::size_of::<Message>() == SLOT_BYTES);

impl Message {
    /// A message of `kind` with up to seven words; the rest are zero.
    pub const fn new<const N: usize>(kind: u32, words: [u64; N]) -> Message {
        let mut all = [0; 7];
        let mut i = 0;
        while i < N && i < 7 {
            all[i] = words[i];
            i += 1;
        }
        Message { kind, id: 0, words: all }
    }
}

/// A message that its receiver does not know or whose arguments are out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// The kind that stood in it.
    pub kind: u32,
    /// What is wrong.
    pub what: &'static str,
}

impl core::fmt::Display for BadMessage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "message of kind {:#x}: {}", self.kind, self.what)
    }
}

impl BadMessage {
    /// The receiver has no message of this kind.
    pub const fn unknown(kind: u32) -> Self {
        BadMessage { kind, what: "unknown kind" }
    }
}

/// Low 32 bits of a message word that is defined to hold a 32-bit number.
pub(crate) fn low32(kind: u32, word: u64) -> Result<u32, BadMessage> {
    u32::try_from(word).map_err(|_| BadMessage { kind, what: "a 32-bit word has bits above 31 set" })
}

/// As [`low32`], for 16 bits.
pub(crate) fn low16(kind: u32, word: u64) -> Result<u16, BadMessage> {
    u16::try_from(word).map_err(|_| BadMessage { kind, what: "a 16-bit word has bits above 15 set" })
}

/// Up to 16 bytes as two words, as names and short texts travel.
pub(crate) fn bytes_to_words(bytes: [u8; 16]) -> [u64; 2] {
    let (low, high) = bytes.split_at(8);
    let word = |half: &[u8]| half.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    [word(low), word(high)]
}

/// The inverse of [`bytes_to_words`].
pub(crate) fn words_to_bytes(words: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_le_bytes());
    bytes[8..].copy_from_slice(&words[1].to_le_bytes());
    bytes
}

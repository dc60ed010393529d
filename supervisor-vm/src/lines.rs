//! Lines of the audit log, each with a hash over itself and the hash of the line before.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use sha2::{Digest, Sha256};

/// What stands in a line around its hash.
pub const BEFORE_HASH: &str = ",\"hash\":\"";
/// See [`BEFORE_HASH`].
pub const BEHIND_HASH: &str = "\"}\n";

/// A line that is to be kept.
pub struct Line<'l> {
    /// Its number.
    pub number: u64,
    /// The hash of the one before.
    pub before: [u8; 32],
    /// Its text, with its end.
    pub text: &'l str,
}

/// Lines that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The number of the first one.
    pub first: u64,
    /// The hash of the one before it.
    pub before: [u8; 32],
    /// Each with its hash, and with its end.
    pub lines: Vec<(String, [u8; 32])>,
}

impl Lines {
    /// The hash of the last one.
    pub fn end(&self) -> [u8; 32] {
        self.lines.last().map_or(self.before, |(_, hash)| *hash)
    }

    /// The number behind the last one.
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.lines.len() as u64)
    }
}

/// A hash as it is written.
pub fn hex(hash: &[u8; 32]) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash of a line, whose text this is up to its hash, behind one with this hash.
pub fn hash(before: &[u8; 32], text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(hex(before));
    hash.update(text);
    hash.finalize().into()
}

/// The hash in a whole line with its end, behind one with this hash; `None` where it is another one than it should be.
pub fn hash_of(before: &[u8; 32], line: &str) -> Option<[u8; 32]> {
    let (text, said) = line.strip_suffix(BEHIND_HASH)?.rsplit_once(BEFORE_HASH)?;
    let hash = hash(before, text);
    (said == hex(&hash)).then_some(hash)
}

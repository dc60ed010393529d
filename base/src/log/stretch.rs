//! A stretch of a text of which only the last part is kept.

use core::ops::Range;

/// What of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Position of its first byte.
    pub from: u64,
    /// How many bytes it has.
    pub len: usize,
    /// How many bytes between the position that was asked for and this one are lost.
    pub missed: u64,
}

impl Stretch {
    /// What there is from a position on, `u64::MAX` for the earliest that is kept, and at most so many bytes.
    pub fn of(kept: &Range<u64>, from: u64, most: usize) -> Stretch {
        let start = if from == u64::MAX { kept.start } else { from.clamp(kept.start, kept.end) };
        let missed = if from == u64::MAX { 0 } else { start.saturating_sub(from) };
        Stretch { from: start, len: most.min(usize::try_from(kept.end - start).unwrap_or(most)), missed }
    }
}

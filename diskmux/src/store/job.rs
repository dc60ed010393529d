//! A request to a virtual disk.

use disk_format::{Check, Entry, Sum};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What a block holds.
    Read(u64),
    /// A block is to hold the data that comes with it.
    Write(u64),
    /// A block is to be as if it had never been written.
    Discard(u64),
    /// Writes of this virtual disk that were asked for before are to be durable.
    Flush,
}

impl Ask {
    pub(super) const fn block(self) -> Option<u64> {
        match self {
            Ask::Read(block) | Ask::Write(block) | Ask::Discard(block) => Some(block),
            Ask::Flush => None,
        }
    }

    pub(super) const fn changes(self) -> bool {
        matches!(self, Ask::Write(_) | Ask::Discard(_))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. A write is durable after the next flush.
    Done,
    /// It was read, and lies at this place of the DMA memory while whoever asked is told.
    Data(usize),
    /// It was never written, and reads as zeros.
    Zeros,
    /// What is there is not what was written.
    Corrupt,
    /// A disk could not do it. Of a write nobody knows whether it was done; the block holds either of the two.
    Failed,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room now.
    Full,
    /// There is no such block, or it may not be written, or there is no data to write.
    Nonsense,
    /// There never will be room: disks that did not answer have all of it.
    Gone,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for others, or for its block of checks.
    Waits,
    /// What its block holds is being looked at, to see which of two checksums it has.
    Looks,
    /// It belongs to the next batch.
    Ready,
    /// It belongs to the present one. `fresh`: its block was never written.
    Batched { fresh: bool, failed: bool },
    /// Its block is being read.
    Reads,
    /// It has ended.
    Ended(Outcome),
}

pub(super) struct Job {
    pub token: u64,
    pub entry: Entry,
    pub ask: Ask,
    pub stage: Stage,
    /// Of a write: the block's check afterwards.
    pub after: Check,
    /// Of a write: what its block was seen to hold, where its check allows two contents.
    pub seen: Option<Sum>,
    /// The block of checks that it uses, and the byte of it.
    pub check: Option<(usize, usize)>,
}

impl Job {
    /// Whether this one, which came later, has to wait for the other one.
    pub fn waits_for(&self, other: &Job) -> bool {
        if self.entry.id != other.entry.id || matches!(other.stage, Stage::Ended(_)) {
            return false;
        }
        match (self.ask.block(), other.ask.block()) {
            (Some(own), Some(others)) => own == others && (self.ask.changes() || other.ask.changes()),
            (None, None) => false,
            _ => self.ask.changes() || other.ask.changes(),
        }
    }

    /// The number of its block; what has none is never asked.
    pub fn block(&self) -> u64 {
        self.ask.block().unwrap_or(0)
    }
}

//! The log: a record a block, in a circle.

use alloc::boxed::Box;
use core::fmt;
use ilwaco::disk::{BLOCK_BYTES, Disk, DiskError};

/// What a record begins with.
const MAGIC: [u8; 8] = *b"FKLOGREC";
/// Bytes in front of what a record says: magic, sequence number, length.
const HEADER: usize = 20;

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The disk could not.
    Disk(DiskError),
    /// The record is longer than a block.
    TooLong,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Disk(error) => error.fmt(f),
            LogError::TooLong => write!(f, "a record has at most {} bytes", BLOCK_BYTES - HEADER),
        }
    }
}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> Self {
        LogError::Disk(error)
    }
}

/// An open log. Record `n`, from 1 on, is in block `(n - 1)` modulo the blocks of the disk.
#[derive(Debug)]
pub struct Log {
    disk: Disk,
    last: u64,
    len: u64,
}

/// The sequence number of the record in a block, and what it says; `None` where there is none.
fn record(block: &[u8; BLOCK_BYTES]) -> Option<(u64, &[u8])> {
    let (magic, rest) = block.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let sequence = u64::from_le_bytes(*sequence);
    (*magic == MAGIC && sequence > 0).then_some(())?;
    Some((sequence, rest.get(..len)?))
}

impl Log {
    /// Finds the last record. A block that holds none counts as empty.
    ///
    /// # Errors
    /// [`LogError::Disk`].
    pub async fn open(disk: Disk) -> Result<Log, LogError> {
        let mut log = Log { disk, last: 0, len: 0 };
        let mut block = Box::new([0; BLOCK_BYTES]);
        for number in 0..disk.blocks() {
            disk.read(number, &mut block).await?;
            if let Some((sequence, _)) = record(&block)
                && (sequence - 1) % disk.blocks() == number
            {
                log.last = log.last.max(sequence);
                log.len += 1;
            }
        }
        Ok(log)
    }

    /// Records that are in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sequence number of the last one, 0 for none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends a record, in place of the oldest where there is no room. It is durable then. Its sequence number.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn append(&mut self, text: &[u8]) -> Result<u64, LogError> {
        let sequence = self.last + 1;
        let len = u32::try_from(text.len()).map_err(|_| LogError::TooLong)?;
        let mut block = Box::new([0; BLOCK_BYTES]);
        block[..8].copy_from_slice(&MAGIC);
        block[8..16].copy_from_slice(&sequence.to_le_bytes());
        block[16..HEADER].copy_from_slice(&len.to_le_bytes());
        block.get_mut(HEADER..HEADER + text.len()).ok_or(LogError::TooLong)?.copy_from_slice(text);
        self.disk.write((sequence - 1) % self.disk.blocks(), &block).await?;
        self.disk.flush().await?;
        self.last = sequence;
        self.len = (self.len + 1).min(self.disk.blocks());
        Ok(sequence)
    }

    /// Reads a record; `None` when it is not there any more, or not yet.
    ///
    /// # Errors
    /// [`LogError::Disk`].
    pub async fn read(&self, sequence: u64) -> Result<Option<alloc::vec::Vec<u8>>, LogError> {
        let Some(before) = sequence.checked_sub(1) else { return Ok(None) };
        let mut block = Box::new([0; BLOCK_BYTES]);
        self.disk.read(before % self.disk.blocks(), &mut block).await?;
        Ok(record(&block).filter(|(found, _)| *found == sequence).map(|(_, text)| text.to_vec()))
    }
}

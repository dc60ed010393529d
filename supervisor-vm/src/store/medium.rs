//! Where a store lies: blocks that are written as wholes, in any order between two flushes.

use super::block::Block;
use ilwaco::disk::{Disk, DiskError};

/// Blocks. One that was written and not flushed holds, after a power cut, what it held or what was written, and nothing else.
pub trait Medium {
    /// How many there are.
    fn blocks(&self) -> u64;

    /// Reads one. One that was never written is zeros.
    fn read(&self, block: u64, into: &mut Block) -> impl Future<Output = Result<(), DiskError>>;

    /// Writes one.
    fn write(&self, block: u64, from: &Block) -> impl Future<Output = Result<(), DiskError>>;

    /// Makes durable what was written.
    fn flush(&self) -> impl Future<Output = Result<(), DiskError>>;
}

impl Medium for Disk {
    fn blocks(&self) -> u64 {
        Disk::blocks(self)
    }

    async fn read(&self, block: u64, into: &mut Block) -> Result<(), DiskError> {
        Disk::read(self, block, into).await
    }

    async fn write(&self, block: u64, from: &Block) -> Result<(), DiskError> {
        Disk::write(self, block, from).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Disk::flush(self).await
    }
}

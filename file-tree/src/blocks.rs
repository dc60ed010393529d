//! What a tree is read from.

use core::fmt::Display;
use core::future::Future;

/// Bytes of a block of the disk.
pub const BLOCK: usize = 4096;

/// A disk that can be read, block by block.
pub trait Blocks {
    /// Why a block cannot be had.
    type Error: Display;

    /// Blocks of [`BLOCK`] bytes that the disk has.
    fn blocks(&self) -> u64;

    /// Whether there is memory to keep another block of those that were read. Without, they are read again when they are wanted.
    fn may_keep(&self) -> bool {
        true
    }

    /// Reads a block into `into`.
    ///
    /// # Errors
    /// The disk does not have it, or cannot read it.
    fn read(&self, block: u64, into: &mut [u8; BLOCK]) -> impl Future<Output = Result<(), Self::Error>>;
}

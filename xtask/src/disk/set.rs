//! The blocks of a set, wherever its members have them.

use super::opened::{Disk, bytes_of};
use crate::error::{Error, Result};
use disk_format::{BLOCK_BYTES, Stripes};

/// A set's data.
pub struct SetData<'a> {
    /// Its members' disks, by member.
    pub disks: Vec<&'a Disk>,
    /// How the data is dealt out.
    pub stripes: Stripes,
}

impl SetData<'_> {
    /// Calls `each` with disk, its block and a part of `bytes`, which lie from block `first` of the set on.
    fn each<B>(
        &self,
        first: u64,
        len: usize,
        bytes: B,
        mut each: impl FnMut(&Disk, u64, &mut B, std::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = bytes;
        let mut done = 0;
        for piece in self.stripes.pieces(first, (len / BLOCK_BYTES) as u64) {
            let disk = self.disks.get(usize::from(piece.member)).ok_or_else(|| Error::from("a member is missing"))?;
            let start = usize::try_from(bytes_of(piece.offset)).unwrap_or(len);
            let end = start + usize::try_from(bytes_of(piece.blocks)).unwrap_or(len);
            each(disk, piece.block, &mut bytes, start..end)?;
            done = end;
        }
        if done == len { Ok(()) } else { Err(format!("block {first} of the set lies beyond its end").into()) }
    }

    /// Reads whole blocks from block `first` of the set on.
    pub fn read(&self, first: u64, to: &mut [u8]) -> Result<()> {
        self.each(first, to.len(), to, |disk, block, to, part| disk.read(block, &mut to[part]))
    }

    /// Writes whole blocks from block `first` of the set on.
    pub fn write(&self, first: u64, from: &[u8]) -> Result<()> {
        self.each(first, from.len(), from, |disk, block, from, part| disk.write(block, &from[part]))
    }

    /// Makes durable what was written.
    pub fn flush(&self) -> Result<()> {
        self.disks.iter().try_for_each(|disk| disk.flush())
    }
}

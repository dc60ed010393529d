//! The data of blocks: where it comes from, and its checksum.

use super::Store;
use disk_format::{BLOCK_BYTES, Block, Sum, zeroed};
use ring::SharedMemory;

/// Data of a block that is to be written.
pub trait Data {
    /// Copies it, once, to this place of a memory; `None` where it does not fit, or is not all there.
    fn put(&self, to: &SharedMemory, at: usize) -> Option<()>;
}

impl Data for Block {
    fn put(&self, to: &SharedMemory, at: usize) -> Option<()> {
        to.write(at, self)
    }
}

/// What lies at this place of a memory.
impl Data for (SharedMemory, usize) {
    fn put(&self, to: &SharedMemory, at: usize) -> Option<()> {
        let (memory, from) = self;
        memory.copy_to(*from, to, at, BLOCK_BYTES)
    }
}

impl Store {
    /// The sum of the block at this place of the DMA memory, which belongs to block `block` of the virtual disk with the id `disk`.
    pub(super) fn sum(&self, (disk, block): (u32, u64), memory: &SharedMemory, at: usize) -> Option<Sum> {
        match self.crc {
            Some(crc) => crc.over((disk, block), memory, at, BLOCK_BYTES).map(Sum::from_crc),
            None => table_sum((disk, block), memory, at),
        }
    }
}

/// As [`Store::sum`], on a processor that has no instruction for it. (The block is not to lie on the stack of whoever has one that does.)
#[inline(never)]
fn table_sum((disk, block): (u32, u64), memory: &SharedMemory, at: usize) -> Option<Sum> {
    let mut data = zeroed();
    memory.read(at, &mut data)?;
    Some(Sum::of(disk, block, &data))
}

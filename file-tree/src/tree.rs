//! The tree: blocks of the disk, and what they are.

use crate::blocks::{BLOCK, Blocks};
use crate::bytes::u32_at;
use crate::cache::Cache;
use crate::error::Error;
use crate::extents::{self, Place};
use crate::inode::{File, Inode};
use crate::superblock::Superblock;
use alloc::rc::Rc;
use alloc::string::ToString;
use core::ops::Range;

/// Blocks that a tree holds in memory at most: 64 KiB.
pub const CACHE_BLOCKS: usize = 16;
/// Bytes up to which a file's content is read by way of the cache. Larger ones would drive out everything else.
const SMALL: u64 = 4 * BLOCK as u64;

/// A read-only file tree.
pub struct Tree<B> {
    disk: B,
    cache: Cache,
    pub(crate) superblock: Superblock,
}

/// A block of the file system, which may be a part of a block of the disk.
pub(crate) struct View {
    bytes: Rc<[u8; BLOCK]>,
    range: Range<usize>,
}

impl View {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or(&[])
    }
}

impl<B: Blocks> Tree<B> {
    /// Reads the superblock, which is all that is read now.
    ///
    /// # Errors
    /// There is no ext4, or one that is damaged, or has what is not read here; or the disk cannot be read.
    pub async fn open(disk: B) -> Result<Tree<B>, Error> {
        if disk.blocks() == 0 {
            return Err(Error::Unsupported("the disk has no blocks; `mke2fs -t ext4 -d DIR` makes a tree"));
        }
        let mut first = alloc::boxed::Box::new([0; BLOCK]);
        disk.read(0, &mut first).await.map_err(|error| Error::Disk(0, error.to_string()))?;
        let superblock = Superblock::read(&first, disk.blocks())?;
        Ok(Tree { disk, cache: Cache::new(CACHE_BLOCKS), superblock })
    }

    /// What tells it from other trees: the first half of the file system's UUID.
    pub fn id(&self) -> u64 {
        self.superblock.id
    }

    /// Gives the memory of the cache back, as who has not been asked for a while should.
    pub fn forget(&self) {
        self.cache.clear();
    }

    /// Blocks in the cache.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// Reads bytes of a file from `offset` on. How many: as many as `into` takes, but for the end of the file.
    ///
    /// # Errors
    /// What is on the disk is damaged, or cannot be read.
    pub async fn read(&self, file: &File, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let File(inode) = file;
        let len = usize::try_from(inode.bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..len];
        let mut done = 0;
        while done < len {
            let (block, within) = self.split(offset + u64::try_from(done).unwrap_or(0));
            let piece = (self.superblock.block_bytes - within).min(len - done);
            let into = &mut into[done..done + piece];
            let number =
                u32::try_from(block).map_err(|_| Error::Damaged("a file is too large", inode.number.into()))?;
            match self.place(inode, number).await? {
                None => into.fill(0),
                Some(at) => match into.first_chunk_mut::<BLOCK>() {
                    // A whole block of the disk, as `within` is 0 then.
                    Some(whole) if inode.bytes > SMALL && self.superblock.block_bytes == BLOCK => {
                        self.read_past_the_cache(self.checked(at)?, whole).await?;
                    }
                    _ => {
                        let view = self.block(at).await?;
                        into.copy_from_slice(view.bytes().get(within..within + piece).unwrap_or(&[]));
                    }
                },
            }
            done += piece;
        }
        Ok(len)
    }

    /// The block of the file that has the byte at an offset, and where in it.
    fn split(&self, offset: u64) -> (u64, usize) {
        let bytes = u64::try_from(self.superblock.block_bytes).unwrap_or(1);
        (offset / bytes, usize::try_from(offset % bytes).unwrap_or(0))
    }

    /// Where a block of a file is; `None` for one that was never written, and reads as zeros.
    pub(crate) async fn place(&self, inode: &Inode, block: u32) -> Result<Option<u64>, Error> {
        let mut place = extents::look(&inode.map, None, block, inode.number)?;
        // Each level has to be lower than the one before, so this ends.
        while let Place::Below(node, depth) = place {
            let node = self.block(node).await?;
            place = extents::look(node.bytes(), Some(depth), block, inode.number)?;
        }
        Ok(match place {
            Place::At(block) => Some(block),
            _ => None,
        })
    }

    /// Reads an inode.
    pub(crate) async fn inode(&self, number: u32) -> Result<Inode, Error> {
        let damaged = |what| Error::Damaged(what, number.into());
        let ((block, offset), index) =
            self.superblock.place(number).ok_or_else(|| damaged("a directory names an inode that does not exist"))?;
        let descriptor = self.block(block).await?;
        let descriptor = descriptor.bytes().get(offset..offset + self.superblock.descriptor_bytes).unwrap_or(&[]);
        let high = if descriptor.len() >= 64 { u32_at(descriptor, 0x28) } else { 0 };
        let table = crate::bytes::joined(high, u32_at(descriptor, 0x8));
        let bytes = u64::try_from(self.superblock.inode_bytes).unwrap_or(0);
        // Far less than 64 bits can hold: both factors have 32 at most.
        let (block, within) = self.split(index * bytes);
        let block = table.checked_add(block).ok_or_else(|| damaged("a group's inodes are nowhere"))?;
        let view = self.block(block).await?;
        Inode::read(number, view.bytes().get(within..within + self.superblock.inode_bytes).unwrap_or(&[]))
    }

    /// A block of the file system, by way of the cache.
    pub(crate) async fn block(&self, block: u64) -> Result<View, Error> {
        let block = self.checked(block)?;
        let per_disk_block = u64::try_from(BLOCK / self.superblock.block_bytes).unwrap_or(1);
        let (of_disk, index) = (block / per_disk_block, usize::try_from(block % per_disk_block).unwrap_or(0));
        let bytes = match self.cache.get(of_disk) {
            Some(bytes) => bytes,
            None => {
                let mut bytes = Rc::new([0; BLOCK]);
                if let Some(bytes) = Rc::get_mut(&mut bytes) {
                    self.read_past_the_cache(of_disk, bytes).await?;
                }
                self.cache.put(of_disk, bytes.clone(), self.disk.may_keep());
                bytes
            }
        };
        let start = index * self.superblock.block_bytes;
        Ok(View { bytes, range: start..start + self.superblock.block_bytes })
    }

    /// The block, if the file system has it.
    fn checked(&self, block: u64) -> Result<u64, Error> {
        if block < self.superblock.blocks {
            Ok(block)
        } else {
            Err(Error::Damaged("something is in a block that does not exist", block))
        }
    }

    async fn read_past_the_cache(&self, block: u64, into: &mut [u8; BLOCK]) -> Result<(), Error> {
        self.disk.read(block, into).await.map_err(|error| Error::Disk(block, error.to_string()))
    }
}

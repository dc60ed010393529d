//! What the superblock says: where things are.

use crate::blocks::BLOCK;
use crate::bytes::{joined, u16_at, u32_at};
use crate::error::Error;

/// Where in the disk's first block it begins.
const OFFSET: usize = 1024;
/// Bytes of it.
const BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;

/// Features without which nobody can read what is there (`s_feature_incompat`), and which are known here.
mod feature {
    pub(super) const FILE_TYPES: u32 = 0x2;
    pub(super) const RECOVER: u32 = 0x4;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const BITS_64: u32 = 0x80;
    pub(super) const FLEX_GROUPS: u32 = 0x200;
    pub(super) const CHECKSUM_SEED: u32 = 0x2000;
    pub(super) const LARGE_DIRECTORIES: u32 = 0x4000;
}

/// The superblock, as far as it matters to who only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Bytes of a block of the file system: 1024, 2048 or 4096.
    pub block_bytes: usize,
    /// Blocks of the file system.
    pub blocks: u64,
    /// Inodes of the file system, which are numbered from 1.
    pub inodes: u32,
    /// Of them, those of one group; not 0.
    inodes_per_group: u32,
    /// Bytes of an inode: at least 128, and a block at most.
    pub inode_bytes: usize,
    /// Bytes of a group's descriptor; at least 32.
    pub descriptor_bytes: usize,
    /// The block that has the first of the descriptors.
    descriptors: u64,
    /// The first half of its UUID.
    pub id: u64,
}

impl Superblock {
    /// Reads it, from the first block of a disk of so many blocks of [`BLOCK`] bytes.
    pub(crate) fn read(block: &[u8; BLOCK], disk_blocks: u64) -> Result<Superblock, Error> {
        let bytes = &block[OFFSET..OFFSET + BYTES];
        if u16_at(bytes, 0x38) != MAGIC {
            return Err(Error::Unsupported(
                "there is no ext4 file system on the disk; `mke2fs -t ext4 -d DIR` makes one",
            ));
        }
        let features = u32_at(bytes, 0x60);
        refuse_unknown(features)?;
        let shift = u32_at(bytes, 0x18);
        if shift > 2 {
            return Err(Error::Unsupported("its blocks are larger than 4096 bytes; `mke2fs -b 4096` makes others"));
        }
        let block_bytes = 1024 << shift;
        let is_64 = features & feature::BITS_64 != 0;
        let blocks = joined(if is_64 { u32_at(bytes, 0x150) } else { 0 }, u32_at(bytes, 0x4));
        let per_disk_block = u64::try_from(BLOCK / block_bytes).unwrap_or(1);
        if blocks.div_ceil(per_disk_block) > disk_blocks {
            return Err(Error::Damaged("it is larger than its disk: so many blocks are missing", {
                blocks.div_ceil(per_disk_block) - disk_blocks
            }));
        }
        // Revision 0 has inodes of 128 bytes and says nothing.
        let inode_bytes = if u32_at(bytes, 0x4c) == 0 { 128 } else { usize::from(u16_at(bytes, 0x58)) };
        if !inode_bytes.is_power_of_two() || inode_bytes < 128 || inode_bytes > block_bytes {
            return Err(Error::Damaged("an inode cannot have so many bytes", u64::try_from(inode_bytes).unwrap_or(0)));
        }
        let descriptor_bytes = if is_64 { usize::from(u16_at(bytes, 0xfe)) } else { 32 };
        if !descriptor_bytes.is_power_of_two() || descriptor_bytes < 32 || descriptor_bytes > block_bytes {
            let bytes = u64::try_from(descriptor_bytes).unwrap_or(0);
            return Err(Error::Damaged("a group's descriptor cannot have so many bytes", bytes));
        }
        let inodes_per_group = u32_at(bytes, 0x28);
        if inodes_per_group == 0 {
            return Err(Error::Damaged("its groups have no inodes", 0));
        }
        Ok(Superblock {
            block_bytes,
            blocks,
            inodes: u32_at(bytes, 0x0),
            inodes_per_group,
            inode_bytes,
            descriptor_bytes,
            descriptors: u64::from(u32_at(bytes, 0x14)) + 1,
            // As it is written.
            id: joined(u32_at(bytes, 0x68).swap_bytes(), u32_at(bytes, 0x6c).swap_bytes()),
        })
    }

    /// Where the descriptor of an inode's group is: block, and offset there. And where the inode is in its group's table.
    pub(crate) fn place(&self, inode: u32) -> Option<((u64, usize), u64)> {
        if inode == 0 || inode > self.inodes {
            return None;
        }
        let (group, index) = ((inode - 1) / self.inodes_per_group, (inode - 1) % self.inodes_per_group);
        let per_block = u32::try_from(self.block_bytes / self.descriptor_bytes).ok()?;
        let offset = usize::try_from(group % per_block).ok()? * self.descriptor_bytes;
        Some(((self.descriptors + u64::from(group / per_block), offset), u64::from(index)))
    }
}

fn refuse_unknown(features: u32) -> Result<(), Error> {
    let known = feature::FILE_TYPES
        | feature::RECOVER
        | feature::EXTENTS
        | feature::BITS_64
        | feature::FLEX_GROUPS
        | feature::CHECKSUM_SEED
        | feature::LARGE_DIRECTORIES;
    if features & !known != 0 {
        return Err(Error::Unsupported(
            "the file system has features that are not known here; `mke2fs -t ext4 -d DIR` makes one without them",
        ));
    }
    if features & feature::RECOVER != 0 {
        return Err(Error::Unsupported("the file system was not unmounted; `e2fsck -p` on its image makes it whole"));
    }
    if features & feature::FILE_TYPES == 0 || features & feature::EXTENTS == 0 {
        return Err(Error::Unsupported("the file system is no ext4; `mke2fs -t ext4 -d DIR` makes one"));
    }
    Ok(())
}

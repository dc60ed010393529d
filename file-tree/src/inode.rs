//! Inodes: what a file is, but for its name.

use crate::bytes::{joined, u16_at, u32_at};
use crate::error::Error;

/// Bytes of what says where an inode's content is.
pub(crate) const MAP_BYTES: usize = 60;

const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    /// A device, a pipe, a socket: nothing that can be read.
    Special,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub number: u32,
    pub kind: Kind,
    /// Bytes of its content.
    pub bytes: u64,
    /// When the content was changed last: Unix seconds, and nanoseconds beyond.
    pub modified: (i64, u32),
    flags: u32,
    /// The root of its extents, or, of a short link, where it leads.
    pub map: [u8; MAP_BYTES],
}

impl Inode {
    /// Reads one, from its bytes, 128 at least.
    pub(crate) fn read(number: u32, bytes: &[u8]) -> Result<Inode, Error> {
        let damaged = |what| Error::Damaged(what, number.into());
        let map =
            bytes.get(0x28..).and_then(|rest| rest.first_chunk()).ok_or_else(|| damaged("an inode is cut off"))?;
        let kind = match u16_at(bytes, 0) >> 12 {
            0x8 => Kind::File,
            0x4 => Kind::Directory,
            0xa => Kind::Link,
            0x1 | 0x2 | 0x6 | 0xc => Kind::Special,
            _ => return Err(damaged("an inode is nothing that a directory could name")),
        };
        if u16_at(bytes, 0x1a) == 0 {
            return Err(damaged("a directory names an inode that was deleted"));
        }
        // Beyond the first 128 bytes there are as many as are said.
        let extra = usize::from(u16_at(bytes, 0x80)) + 0x80;
        let more = if extra >= 0x8c { u32_at(bytes, 0x88) } else { 0 };
        // A signed number of 32 bits, whose range two more bits extend upward.
        let seconds = i64::from(u32_at(bytes, 0x10).cast_signed()) + (i64::from(more & 3) << 32);
        let inode = Inode {
            number,
            kind,
            bytes: joined(u32_at(bytes, 0x6c), u32_at(bytes, 0x4)),
            modified: (seconds, (more >> 2).min(999_999_999)),
            flags: u32_at(bytes, 0x20),
            map: *map,
        };
        if inode.flags & (ENCRYPTED | INLINE) != 0 {
            return Err(Error::Unsupported("a file is encrypted, or lies in its inode, which is not read here"));
        }
        if !inode.has_extents() && inode.bytes > 0 && !inode.is_short_link() && inode.kind != Kind::Special {
            return Err(Error::Unsupported(
                "a file has no extents, as on ext2; `mke2fs -t ext4 -d DIR` makes a tree that has",
            ));
        }
        Ok(inode)
    }

    fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    /// A link that says in its inode where it leads.
    pub(crate) fn is_short_link(&self) -> bool {
        self.kind == Kind::Link && !self.has_extents() && usize::try_from(self.bytes).is_ok_and(|len| len < MAP_BYTES)
    }
}

/// A file, found and ready to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File(pub(crate) Inode);

impl File {
    /// Bytes that it has.
    pub fn len(&self) -> u64 {
        self.0.bytes
    }

    /// True when it has none.
    pub fn is_empty(&self) -> bool {
        self.0.bytes == 0
    }

    /// The number of its inode: two names of one file have the same.
    pub fn inode(&self) -> u32 {
        self.0.number
    }

    /// When it was changed last: Unix seconds (before 1970: negative), and nanoseconds beyond.
    pub fn modified(&self) -> (i64, u32) {
        self.0.modified
    }
}

//! One disk: an image file, or a block device of the host.

use crate::error::{Context, Result, fail};
use disk_format::{BLOCK_BYTES, Block, Seen, look, zeroed};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// Bytes at either end that have to be zeros for a disk to count as blank: other systems have their labels there.
const ENDS_BYTES: u64 = 1 << 20;

/// An open disk.
pub struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// Its blocks; what is no whole block at its end is not used.
    pub blocks: u64,
    file: File,
}

impl Disk {
    /// Opens the disk at `path`, for writing, too, where `writable`.
    pub fn open(path: &Path, writable: bool) -> Result<Disk> {
        let file = OpenOptions::new().read(true).write(writable).open(path);
        let mut file = file.context(|| format!("cannot open {}", path.display()))?;
        let kind = file.metadata().context(|| format!("cannot look at {}", path.display()))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            fail!("{} is no disk: give image files or block devices", path.display());
        }
        // A block device's length is where its end is.
        let bytes = file.seek(SeekFrom::End(0)).context(|| format!("cannot see how large {} is", path.display()))?;
        Ok(Disk { path: path.to_owned(), blocks: bytes / bytes_of(1), file })
    }

    /// Makes an image file of so many bytes, which takes no room where it holds zeros.
    pub fn create(path: &Path, bytes: u64) -> Result<Disk> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.context(|| format!("cannot create {}", path.display()))?;
        file.set_len(bytes).context(|| format!("cannot make {} so large", path.display()))?;
        Ok(Disk { path: path.to_owned(), blocks: bytes / bytes_of(1), file })
    }

    /// Reads whole blocks from `block` on.
    pub fn read(&self, block: u64, to: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(to, bytes_of(block));
        read.context(|| format!("cannot read block {block} of {}", self.path.display()))
    }

    /// Writes whole blocks from `block` on.
    pub fn write(&self, block: u64, from: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(from, bytes_of(block));
        written.context(|| format!("cannot write block {block} of {}", self.path.display()))
    }

    /// Makes durable what was written.
    pub fn flush(&self) -> Result<()> {
        self.file.sync_data().context(|| format!("cannot flush {}", self.path.display()))
    }

    /// What it shows of itself.
    pub fn look(&self) -> Seen {
        look(self.blocks, &mut zeroed(), |block, to: &mut Block| self.read(block, to).is_ok())
    }

    /// Whether there are only zeros at either end.
    pub fn is_blank(&self) -> Result<bool> {
        let bytes = bytes_of(self.blocks);
        let mut part = vec![0; usize::try_from(ENDS_BYTES.min(bytes)).unwrap_or(0)];
        for start in [0, bytes.saturating_sub(ENDS_BYTES)] {
            let read = self.file.read_exact_at(&mut part, start);
            read.context(|| format!("cannot read {}", self.path.display()))?;
            if part.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Bytes of so many blocks.
pub fn bytes_of(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}

/// A number of bytes as one reads it.
pub fn show(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|&(_, unit)| bytes >= unit && bytes.is_multiple_of(unit)) {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

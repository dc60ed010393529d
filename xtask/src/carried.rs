//! Files on the boot medium: they lie in the program of the web server, so that it serves them on a machine without a set of disks.

use crate::build;
use crate::disk::tree;
use crate::error::{Context, Result, fail};
use crate::manifest::Bytes;
use crate::manifest::model::System;
use crate::workspace::{Temporary, scratch};
use abi::limits::PAGE_SIZE;
use std::path::{Path, PathBuf};

/// The image whose program can carry files.
pub const IMAGE: &str = "httpd";
/// What a web server holds while it serves a client from a file system: its rings, the blocks that it has read, and content in pieces.
pub const RESERVE: u64 = 256 * 1024;
/// Bytes of a file system at most. All of it lies in the machine's memory, and below the first GiB of each VM of the image.
const MOST: u64 = 512 << 20;
/// What one page of nested tables maps.
const TABLE: u64 = 512 * PAGE_SIZE;

/// The file system that was made of a folder. It is gone when this is.
pub struct Files {
    dir: Temporary,
    bytes: u64,
}

impl Files {
    /// Makes it.
    ///
    /// # Errors
    /// There is no such folder, nothing in it, or more than a boot medium carries.
    pub fn of(folder: &Path) -> Result<Files> {
        let dir = scratch("carried")?;
        let mut files = Files { dir, bytes: 0 };
        let path = files.path();
        tree::make(folder, &path).map_err(|error| format!("--files: {error}"))?;
        files.bytes = path.metadata().context(|| format!("cannot read {}", path.display()))?.len();
        if files.bytes > MOST {
            fail!(
                "--files {}: its files take {} MiB, and a boot medium carries {} MiB, all of which lie in memory: put them on disks \
                 (cargo xtask mkdisk --files NAME=DIR)",
                folder.display(),
                files.bytes.div_ceil(1 << 20),
                MOST >> 20
            );
        }
        Ok(files)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Gives the web server's VMs addresses for the files, and each the memory that serving a client takes: the files themselves
    /// are in no VM's memory, but the pages of nested tables that show them are.
    ///
    /// # Errors
    /// The system has no such image.
    pub fn attach(&self, system: &mut System) -> Result<()> {
        let Some(image) = system.image.iter_mut().find(|image| image.name == IMAGE) else {
            fail!("--files: there is no image `{IMAGE}` in system.toml, which would serve them");
        };
        let tables = (self.bytes.div_ceil(TABLE) + 1) * PAGE_SIZE;
        let said = image.reserve.as_ref().map_or(0, |reserve| reserve.0);
        image.reserve = Some(Bytes(said.max(RESERVE) + tables));
        image.memory = Bytes(image.memory.0.saturating_add(self.bytes.next_multiple_of(PAGE_SIZE)));
        Ok(())
    }

    /// Builds the web server that carries them.
    ///
    /// # Errors
    /// It cannot be built, or has other files in it.
    pub fn build(&self) -> Result<PathBuf> {
        let path = self.path();
        let program = build::build_carrying(IMAGE, &path)?;
        let read = |path: &Path| std::fs::read(path).context(|| format!("cannot read {}", path.display()));
        if !holds(&read(&program)?, &read(&path)?) {
            fail!(
                "{} does not hold the files: another one was built at the same time, so try again",
                program.display()
            );
        }
        Ok(program)
    }
}

/// Whether a program holds a file system, whose first KiB is zeros and whose second one has its UUID.
fn holds(program: &[u8], files: &[u8]) -> bool {
    let Some(superblock) = files.get(1024..2048) else { return false };
    let starts = program.windows(superblock.len()).enumerate().filter(|(_, part)| *part == superblock);
    starts
        .map(|(at, _)| at.checked_sub(1024))
        .any(|start| start.and_then(|start| program.get(start..)).is_some_and(|rest| rest.starts_with(files)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::workspace::root;

    fn folder(dir: &Temporary, bytes: usize) -> PathBuf {
        let root = dir.path().join("public");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("index.html"), vec![b'x'; bytes]).unwrap();
        root
    }

    #[test]
    fn who_carries_files_has_addresses_for_them_and_memory_to_show_them() {
        let dir = scratch("folder").unwrap();
        let files = Files::of(&folder(&dir, 5 << 20)).unwrap();
        assert!(files.bytes > 5 << 20 && files.bytes < 6 << 20, "{}", files.bytes);
        let mut system = manifest::load(&root().join("system.toml")).unwrap();
        files.attach(&mut system).unwrap();
        let image = system.image.iter().find(|image| image.name == IMAGE).unwrap();
        assert_eq!(image.memory.0, (16 << 20) + files.bytes);
        assert_eq!(image.reserve.as_ref().map(|reserve| reserve.0), Some(RESERVE + 4 * PAGE_SIZE));
        assert!(image.disk.is_none());
        system.image.retain(|image| image.name != IMAGE);
        assert!(files.attach(&mut system).unwrap_err().to_string().contains("there is no image `httpd`"));
    }

    #[test]
    fn what_is_no_folder_or_too_large_is_refused() {
        let dir = scratch("folder").unwrap();
        let said = |folder: &Path| Files::of(folder).map(drop).unwrap_err().to_string();
        assert!(
            said(&dir.path().join("none")).contains("is no folder: give one"),
            "{}",
            said(&dir.path().join("none"))
        );
        let root = folder(&dir, 1);
        std::fs::File::create(root.join("hole")).unwrap().set_len(MOST).unwrap();
        assert!(said(&root).contains("a boot medium carries 512 MiB"), "{}", said(&root));
    }

    #[test]
    fn a_program_with_other_files_is_not_taken() {
        let files: Vec<u8> = (0..4096_u32).flat_map(u32::to_le_bytes).collect();
        let program = |files: &[u8]| [&[7; 300][..], files, &[8; 100]].concat();
        assert!(holds(&program(&files), &files));
        assert!(!holds(&program(&files[..files.len() - 1]), &files));
        assert!(!holds(&files[1024..], &files));
        let mut other = files.clone();
        other[9000] ^= 1;
        assert!(!holds(&program(&other), &files));
        assert!(!holds(&program(&files), &[]));
    }
}

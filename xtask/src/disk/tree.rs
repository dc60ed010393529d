//! Images of folders: a file system that guests read files from (`file-tree`).

use super::opened::show;
use crate::error::{Context, Error, Result, fail};
use abi::manifest::digest;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// Bytes of an inode.
const INODE: u64 = 256;
/// Inodes that every file system has before its first file.
const FIRST_INODES: u64 = 11;
/// Bytes of a folder's files at most: a web server's, not an archive's.
const MOST: u64 = 16 << 30;
/// Files, folders and links at most.
const MOST_ENTRIES: u64 = 1_000_000;
/// How often a larger image is tried, when mke2fs finds no room for what was reckoned to fit.
const TRIES: u32 = 4;

/// What is in a folder.
struct Inventory {
    entries: u64,
    blocks: u64,
    /// Of all names, sizes, times and contents.
    digests: Vec<u8>,
}

/// Makes an image of what is in `folder` at `image`. The same folder gives the same image: what is not in its files (dates of
/// access, owners) is left out, and the UUID is made of what is.
///
/// # Errors
/// There is no such folder, nothing in it or too much, something cannot be read, or e2fsprogs is missing.
pub fn make(folder: &Path, image: &Path) -> Result<()> {
    let shown = folder.display();
    if !folder.is_dir() {
        fail!("{shown} is no folder: give one with the files to serve");
    }
    let mut inventory = Inventory { entries: 0, blocks: 0, digests: Vec::new() };
    inventory.add(folder, folder)?;
    if inventory.entries == 0 {
        fail!("{shown} is empty: put an index.html there");
    }
    let uuid = inventory.uuid();
    let inodes = FIRST_INODES + 1 + inventory.entries;
    // The superblock, descriptors and bitmaps of a group of 128 MiB, the inodes, and what long directories and many extents take.
    let metadata = 16 + (inodes * INODE).div_ceil(BLOCK) + inventory.blocks / 64;
    let mut blocks = inventory.blocks + metadata;
    let mut tries = 1;
    loop {
        let _ = fs::remove_file(image);
        let made = tool("mke2fs", mke2fs_arguments(folder, image, &uuid, inodes, blocks), "")?;
        if made.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        if tries == TRIES {
            fail!("mke2fs makes no file system of {shown}, with {} for it: {said}", show(blocks * BLOCK));
        }
        blocks += blocks / 2;
        tries += 1;
    }
    forget_what_is_not_in_files(image, inventory.entries)
}

impl Inventory {
    /// Adds what is below `dir`, a folder in `root`.
    fn add(&mut self, dir: &Path, root: &Path) -> Result<()> {
        let cannot = || format!("cannot read {}", dir.display());
        let mut paths: Vec<PathBuf> = fs::read_dir(dir)
            .context(cannot)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()
            .context(cannot)?;
        paths.sort();
        self.blocks += 1 + paths.len() as u64 / 64;
        for path in paths {
            let cannot = || format!("cannot read {}", path.display());
            let metadata = path.symlink_metadata().context(cannot)?;
            self.entries += 1;
            let name = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes();
            self.digests.extend(digest(name));
            let facts = [u64::from(metadata.mode()), metadata.size(), metadata.mtime().cast_unsigned()];
            self.digests.extend(facts.iter().flat_map(|fact| fact.to_le_bytes()));
            if metadata.is_dir() {
                self.add(&path, root)?;
            } else if metadata.is_file() {
                self.blocks += metadata.len().div_ceil(BLOCK);
                if self.blocks * BLOCK > MOST || self.entries > MOST_ENTRIES {
                    fail!("{} is too large: {} and {MOST_ENTRIES} files are the most", root.display(), show(MOST));
                }
                self.content(&path)?;
            } else if metadata.is_symlink() {
                self.blocks += 1;
                self.digests.extend(digest(fs::read_link(&path).context(cannot)?.as_os_str().as_bytes()));
            }
        }
        Ok(())
    }

    fn content(&mut self, path: &Path) -> Result<()> {
        let cannot = || format!("cannot read {}", path.display());
        let mut file = File::open(path).context(cannot)?;
        let mut bytes = Vec::new();
        while Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut bytes).context(cannot)? > 0 {
            self.digests.extend(digest(&bytes));
            bytes.clear();
        }
        Ok(())
    }

    /// A UUID that is another one when anything in the folder is (RFC 9562, version 8).
    fn uuid(&self) -> String {
        let mut bytes = digest(&self.digests);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

fn mke2fs_arguments(folder: &Path, image: &Path, uuid: &str, inodes: u64, blocks: u64) -> Vec<std::ffi::OsString> {
    let extended = format!("nodiscard,lazy_itable_init=0,root_owner=0:0,hash_seed={uuid}");
    let inodes = inodes.to_string();
    let plain = ["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O", "^has_journal,^resize_inode"];
    let mut arguments: Vec<std::ffi::OsString> = plain.map(Into::into).to_vec();
    arguments.extend(["-N", &inodes, "-E", &extended, "-U", uuid, "-d"].map(Into::into));
    arguments.extend([folder.into(), image.into(), blocks.to_string().into()]);
    arguments
}

/// Owners, and dates but for that of the last change; and the folder `lost+found`, which nobody has asked for.
fn forget_what_is_not_in_files(image: &Path, entries: u64) -> Result<()> {
    let mut script = "rmdir lost+found\n".to_owned();
    for inode in [2].into_iter().chain(FIRST_INODES + 1..=FIRST_INODES + entries) {
        for field in ["atime", "ctime", "crtime", "uid", "gid"] {
            script.push_str(&format!("set_inode_field <{inode}> {field} 0\n"));
        }
    }
    let done = tool("debugfs", ["-w".into(), "-f".into(), "-".into(), image.into()].to_vec(), &script)?;
    if !done.status.success() {
        fail!("debugfs ends with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// Runs a program of e2fsprogs, in a time of its own.
fn tool(program: &str, arguments: Vec<std::ffi::OsString>, input: &str) -> Result<Output> {
    let mut command = Command::new(program);
    // They are for administrators, whose folders not everybody looks into.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command.env("E2FSPROGS_FAKE_TIME", "1").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.map_err(|error| {
        Error::from(format!("cannot start {program}: {error}; `cargo xtask setup` installs it (package e2fsprogs)"))
    })?;
    let mut stdin = child.stdin.take();
    let input = input.to_owned();
    // Beside reading what it says: neither waits for the other for ever.
    let feed = std::thread::spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().context(|| format!("cannot wait for {program}"))?;
    // One that ends early says why.
    let _ = feed.join();
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::scratch;

    fn folder(root: &Path) {
        fs::create_dir_all(root.join("a folder")).unwrap();
        fs::write(root.join("index.html"), "<p>").unwrap();
        fs::write(root.join("a folder/large"), vec![7; 3 << 20]).unwrap();
        for number in 0..700 {
            fs::write(root.join(format!("a folder/a file with a rather long name, which is number {number}")), "x")
                .unwrap();
        }
        std::os::unix::fs::symlink("index.html", root.join("link")).unwrap();
    }

    #[test]
    fn the_same_folder_gives_the_same_image_and_another_one_another() {
        let dir = scratch("tree").unwrap();
        let root = dir.path().join("public");
        folder(&root);
        let image = |name: &str| {
            let image = dir.path().join(name);
            make(&root, &image).unwrap();
            fs::read(image).unwrap()
        };
        let first = image("first");
        // Both leave traces in other dates.
        fs::read(root.join("index.html")).unwrap();
        let permissions = root.join("index.html").metadata().unwrap().permissions();
        fs::set_permissions(root.join("index.html"), permissions).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        assert!(first == image("second"));
        fs::write(root.join("index.html"), "<b>").unwrap();
        let other = image("third");
        assert!(first[1024 + 0x68..1024 + 0x78] != other[1024 + 0x68..1024 + 0x78], "its UUID is another one");
        let checked = tool("e2fsck", vec!["-fn".into(), dir.path().join("first").into()], "").unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        let listed = tool("debugfs", vec!["-R".into(), "ls /".into(), dir.path().join("first").into()], "").unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.contains("index.html") && !listed.contains("lost+found"), "{listed}");
        assert!(first.len() < 10 << 20, "{}", first.len());
    }

    #[test]
    fn what_is_no_folder_of_files_is_refused() {
        let dir = scratch("no-tree").unwrap();
        let said = |folder: &Path| make(folder, &dir.path().join("image")).unwrap_err().to_string();
        assert!(said(&dir.path().join("missing")).contains("is no folder: give one"));
        fs::create_dir(dir.path().join("empty")).unwrap();
        assert!(said(&dir.path().join("empty")).contains("is empty: put an index.html there"));
        fs::create_dir(dir.path().join("large")).unwrap();
        File::create(dir.path().join("large/file")).unwrap().set_len(MOST + 1).unwrap();
        assert!(said(&dir.path().join("large")).contains("is too large: 16 GiB"));
    }
}

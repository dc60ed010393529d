//! Images of trees, and disks of them whose answers take a while.

use file_tree::{BLOCK, Blocks};
use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::future::{Future, poll_fn};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

/// A disk in memory. Every answer comes at the second time of asking.
pub struct Image {
    bytes: Rc<Vec<u8>>,
    /// Bytes that are other ones: where, and what.
    pub changes: Vec<(usize, u8)>,
    /// Blocks from this one on cannot be read.
    pub bad_from: u64,
}

thread_local! {
    static READS: Cell<usize> = const { Cell::new(0) };
}

/// Blocks that this thread's disks were asked for.
pub fn reads() -> usize {
    READS.get()
}

impl Image {
    pub fn new(mut bytes: Vec<u8>) -> Image {
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        Image::of(&Rc::new(bytes))
    }

    /// A disk with these bytes, whole blocks of them.
    pub fn of(bytes: &Rc<Vec<u8>>) -> Image {
        Image { bytes: bytes.clone(), changes: Vec::new(), bad_from: u64::MAX }
    }
}

impl Blocks for Image {
    type Error = &'static str;

    fn blocks(&self) -> u64 {
        (self.bytes.len() / BLOCK) as u64
    }

    async fn read(&self, block: u64, into: &mut [u8; BLOCK]) -> Result<(), &'static str> {
        READS.set(READS.get() + 1);
        let mut asked = false;
        poll_fn(|_| match std::mem::replace(&mut asked, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        if block >= self.bad_from {
            return Err("a bad block");
        }
        let start = usize::try_from(block).expect("small") * BLOCK;
        *into = *self.bytes.get(start..).and_then(|rest| rest.first_chunk()).ok_or("beyond the end")?;
        for &(place, byte) in &self.changes {
            if let Some(changed) = place.checked_sub(start).and_then(|offset| into.get_mut(offset)) {
                *changed = byte;
            }
        }
        Ok(())
    }
}

/// Polls until it is done; nothing here waits for anything else.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
    }
}

/// A folder that goes with its owner.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the build's own folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn folder() -> Folder {
    thread_local! { static NEXT: Cell<u32> = const { Cell::new(0) }; }
    NEXT.set(NEXT.get() + 1);
    let name = format!("{:?}-{}-{}", std::thread::current().id(), std::process::id(), NEXT.get());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("a folder");
    Folder(path)
}

fn date(path: &Path, time: SystemTime) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a date");
}

/// Adds a file from 1960, which the other reader does not take.
pub fn add_ancient(source: &Folder) {
    let path = source.0.join("tree/ancient");
    fs::write(&path, b"1960").expect("a file");
    date(&path, SystemTime::UNIX_EPOCH - Duration::from_secs(300_000_000));
}

/// A tree with everything that there can be in one.
pub fn source() -> Folder {
    let folder = folder();
    let root = folder.0.join("tree");
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    };
    let text = write("docs/read me.txt", b"Hello, world.\n");
    date(&text, SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 0));
    write("empty", b"");
    write("docs/m\u{fc}sli.html", b"<p>");
    let big: Vec<u8> = (0..700_001_u32).flat_map(|number| number.to_le_bytes()).collect();
    write("big", &big);
    for number in 0..400 {
        write(&format!("many/file {number}"), number.to_string().as_bytes());
    }
    let holes = fs::File::create(root.join("holes")).expect("a file");
    holes.set_len(40 << 20).expect("room");
    for index in 0_u64..2_000 {
        let mut block = [7; BLOCK];
        block[..8].copy_from_slice(&(index + 1).to_le_bytes());
        holes.write_all_at(&block, (2 << 20) + index * 8192).expect("room");
    }
    fs::create_dir(root.join("links")).expect("a folder");
    for (name, target) in [
        ("link", "docs/read me.txt"),
        ("links/up", "../docs/read me.txt"),
        ("links/chain", "up"),
        ("links/directory", "../docs"),
        ("links/absolute", "/docs/read me.txt"),
        ("links/out", "../../etc"),
        ("links/circle", "circle"),
        ("links/dangling", "nothing"),
        ("links/long", &format!("{}../docs/read me.txt", "./".repeat(60))),
    ] {
        symlink(target, root.join(name)).expect("a link");
    }
    let made = Command::new("mkfifo").arg(root.join("pipe")).status().expect("mkfifo");
    assert!(made.success());
    folder
}

const DEFAULT: &[&str] = &["-t", "ext4", "-O", "^has_journal"];

/// An image of a tree, as mke2fs makes it with these options; without any, those for a tree that is only read.
pub fn make(source: &Folder, block_bytes: usize, options: &[&str]) -> Vec<u8> {
    let image = source.0.join("image");
    let _ = fs::remove_file(&image);
    let mut command = Command::new("mke2fs");
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command.args(["-q", "-F", "-b", &block_bytes.to_string()]);
    command
        .args(if options.is_empty() { DEFAULT } else { options })
        .arg("-d")
        .arg(source.0.join("tree"))
        .arg(&image)
        .arg("40M");
    let done = command.output().expect("mke2fs, of e2fsprogs, which `cargo xtask setup` installs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read(&image).expect("an image")
}

/// Where there are bytes in the superblock, the descriptors, and whatever begins with a short distance from them: inodes, directories and
/// extents, which are what is worth changing. (In an image with blocks of 1024 bytes.)
pub fn metadata(image: &[u8]) -> Vec<usize> {
    let u32_at = |at: usize| u32::from_le_bytes(*image[at..].first_chunk().expect("within"));
    let mut places: Vec<usize> = (1024..1024 + 0x100).chain(2048..2048 + 0x40).collect();
    let table = usize::try_from(u32_at(2048 + 8)).expect("small") * 1024;
    for inode in 1..40 {
        let at = table + inode * 256;
        places.extend(at..at + 0x90);
        if u32_at(at + 0x20) & 0x8_0000 == 0 {
            continue;
        }
        // The first of its blocks, or of its nodes.
        let (depth, entries) = (image[at + 0x28 + 6], u32_at(at + 0x28) >> 16);
        if entries > 0 {
            let first = u32_at(at + 0x28 + 12 + if depth == 0 { 8 } else { 4 });
            let first = usize::try_from(first).expect("small") * 1024;
            if first + 128 <= image.len() {
                places.extend(first..first + 128);
            }
        }
    }
    places
}

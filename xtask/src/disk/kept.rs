//! The disks of `run`: a set for each number of disks, made once.

use super::fsck::check;
use super::mkdisk::{Args, OPERATOR, make};
use crate::error::{Context, Result};
use crate::workspace::out;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What every set has.
const ALWAYS: [&str; 4] = ["--swap=128MiB", "--swap-region=64KiB", "--disk=log=16MiB", "--disk=operator=32MiB"];
/// What all of that takes, with what members have for themselves, in MiB.
const ALL: usize = 185;

/// Images of `count` disks that make a set, with the virtual disks `log` and `operator` on it. They are what the last run left.
pub fn kept(count: usize) -> Result<Vec<PathBuf>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let dir = out(&format!("disks/{count}"))?;
    let images: Vec<PathBuf> = (0..count).map(|number| dir.join(format!("disk{number}.img"))).collect();
    // What is there is never made anew: somebody may have data on it.
    if !images.iter().any(|image| image.exists()) {
        let words = ALWAYS.map(PathBuf::from);
        let size = PathBuf::from(format!("--size={}MiB", (ALL / count + 2).max(64)));
        eprintln!("{}", make(&Args::parse(images.iter().cloned().chain(words).chain([size]))?)?);
    }
    Ok(images)
}

/// Whether the set on these disks has a virtual disk for the operator's VM: one that was made before there was such a thing has none.
pub fn has_operator(images: &[PathBuf]) -> Result<bool> {
    Ok(!images.is_empty() && check(images, true)?.writable.iter().any(|name| name == OPERATOR))
}

/// The virtual disk with the files of a folder.
pub const FILES: &str = "files";

/// Images of `count` disks in `dir` that make a new set, with the files of `folder` on it beside what every set has.
pub fn with_files(count: usize, folder: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    let images: Vec<PathBuf> = (0..count).map(|number| dir.join(format!("disk{number}.img"))).collect();
    let tree = dir.join(format!("{FILES}.ext4"));
    super::tree::make(folder, &tree)?;
    let bytes = tree.metadata().context(|| format!("cannot read {}", tree.display()))?.len();
    // Beside the files: their checks, swap regions, the log, and what a member has for itself.
    let all = bytes + bytes / 256 + ((ALL as u64 + 8) << 20);
    let each = (all / count.max(1) as u64 + (8 << 20)).next_multiple_of(1 << 20).max(64 << 20) >> 20;
    let mut words: Vec<OsString> = images.iter().map(Into::into).collect();
    let mut image = OsString::from(format!("--image={FILES}="));
    image.push(&tree);
    words.extend([image, format!("--size={each}MiB").into()]);
    words.extend(ALWAYS.map(OsString::from));
    let made = make(&Args::parse(words)?)?;
    std::fs::remove_file(&tree).context(|| format!("cannot remove {}", tree.display()))?;
    eprintln!("{made}; \"{FILES}\" has {}", folder.display());
    Ok(images)
}

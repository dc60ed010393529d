//! The disks of `run`: a set for each number of disks, made once.

use super::mkdisk::{Args, make};
use crate::error::Result;
use crate::workspace::out;
use std::path::PathBuf;

/// Images of `count` disks that make a set, with a virtual disk `log` on it. They are what the last run left.
pub fn kept(count: usize) -> Result<Vec<PathBuf>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let dir = out(&format!("disks/{count}"))?;
    let images: Vec<PathBuf> = (0..count).map(|number| dir.join(format!("disk{number}.img"))).collect();
    // What is there is never made anew: somebody may have data on it.
    if !images.iter().any(|image| image.exists()) {
        let words = ["--swap=16MiB", "--disk=log=16MiB"].map(PathBuf::from);
        eprintln!("{}", make(&Args::parse(images.iter().cloned().chain(words))?)?);
    }
    Ok(images)
}

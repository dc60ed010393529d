//! A read-only file tree on a disk: ext4, as `mke2fs -d` writes it.
//!
//! The disk answers when it answers ([`Blocks`]), and whoever asks for a file awaits it, while others go on. Little is held in memory: what the
//! superblock says, and a few blocks in a cache of fixed size. Contents are read in pieces, from any place of a file.
//!
//! What is on the disk is an allegation: whatever it says, nothing here panics, takes more memory than is said here, or goes on for ever. Its
//! checksums are not looked at, since the virtual disk below has one for each block.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod blocks;
mod bytes;
mod cache;
mod directory;
mod error;
mod extents;
mod find;
mod inode;
mod superblock;
mod tree;

pub use blocks::{BLOCK, Blocks};
pub use error::Error;
pub use find::{LONGEST_PATH, MOST_LINKS, Node};
pub use inode::File;
pub use tree::{CACHE_BLOCKS, Tree};

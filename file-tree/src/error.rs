//! Why there is no answer.

use alloc::string::String;
use core::fmt;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is nothing of that name: no such entry, or a link that leads nowhere or out of the tree, or neither a file nor a directory.
    Missing,
    /// What is on the disk contradicts itself: what, and which inode or block.
    Damaged(&'static str, u64),
    /// What is on the disk may be good and is not what is read here: what, and what to do about it.
    Unsupported(&'static str),
    /// The disk could not read a block: which, and why.
    Disk(u64, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Missing => f.write_str("nothing has that name"),
            Error::Damaged(what, number) => {
                write!(f, "the file system is damaged: {what} ({number}); make it again, or try e2fsck on its image")
            }
            Error::Unsupported(what) => f.write_str(what),
            Error::Disk(block, reason) => write!(f, "block {block} of the disk cannot be read: {reason}"),
        }
    }
}

impl core::error::Error for Error {}

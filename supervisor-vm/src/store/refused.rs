//! Why a disk is not used, or not any more, and what to do about it.

use super::layout::{LEAST, VERSION};
use core::fmt;
use ilwaco::disk::DiskError;

/// Why a disk is not used as it is. Nothing was written on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has so many blocks, which are too few.
    Small(u64),
    /// It has fewer blocks, so many, than its first block says.
    Shrunk(u64),
    /// It is attached for reading only.
    ReadOnly,
    /// This block is none of a store, and no other one says that there is one.
    Foreign(u64),
    /// It has this version of the format.
    Version(u32),
    /// This block is not as it was written.
    Damaged(u64),
    /// The blocks are as they were written, and a record makes no sense.
    Senseless,
    /// A block cannot be read.
    Disk(u64, DiskError),
    /// It does not answer.
    Silent,
}

impl Refused {
    /// Whether writing it anew makes it one that is used.
    #[must_use]
    pub fn can_be_begun_anew(self) -> bool {
        matches!(
            self,
            Refused::Shrunk(_) | Refused::Foreign(_) | Refused::Version(_) | Refused::Damaged(_) | Refused::Senseless
        )
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anew = "`state begin-anew` writes over it and keeps what is known now";
        match self {
            Refused::Small(blocks) => write!(
                f,
                "it has {} KiB, and {} are needed: give this VM a larger one (disk= of its image)",
                blocks * 4,
                LEAST * 4
            ),
            Refused::Shrunk(blocks) => {
                write!(f, "it has {} KiB, and had more when it was first used; give the whole one back, or {anew}", blocks * 4)
            }
            Refused::ReadOnly => f.write_str("it is attached for reading only: attach it without :ro"),
            Refused::Foreign(block) => {
                write!(f, "block {block} holds what this VM has not written, so it may be somebody's; give another disk, or {anew}")
            }
            Refused::Version(version) => write!(
                f,
                "its format has version {version}, and this build knows {VERSION}: boot a build that knows it, or {anew}"
            ),
            Refused::Damaged(block) => {
                write!(f, "block {block} is not as it was written; put a copy of the disk back, or {anew}")
            }
            Refused::Senseless => {
                write!(f, "a record makes no sense, so another build has written it; boot that one, or {anew}")
            }
            Refused::Disk(block, error) => {
                write!(f, "block {block} cannot be read: {error}; `disks` on the operator's line says more, and another start of this VM tries again")
            }
            Refused::Silent => f.write_str(
                "it does not answer: `disks` on the operator's line says more, and another start of this VM tries again",
            ),
        }
    }
}

/// Why something is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// All that is to be kept needs more blocks than there are: so many.
    Full(u32),
    /// One of the records is too long.
    Long,
    /// The disk could not.
    Disk(DiskError),
    /// It does not answer.
    Silent,
}

impl From<DiskError> for Unkept {
    fn from(error: DiskError) -> Unkept {
        Unkept::Disk(error)
    }
}

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unkept::Full(blocks) => write!(
                f,
                "it takes more than the {} KiB that the disk has for it: `vm destroy` names that are not needed, or give this VM a larger disk",
                blocks * 4
            ),
            Unkept::Long => f.write_str("it is too long"),
            Unkept::Disk(error) => write!(f, "{error}: `disks` on the operator's line says more"),
            Unkept::Silent => f.write_str("the disk does not answer: `disks` on the operator's line says more"),
        }
    }
}

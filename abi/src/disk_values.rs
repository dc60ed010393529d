//! What numbers in answers about disks mean. The core passes them on.

/// Values of [`super::DiskReply::Read::how`].
pub mod read {
    /// It was read.
    pub const DONE: u16 = 0;
    /// There is no such virtual disk, or no set is in use.
    pub const NO_SUCH_DISK: u16 = 1;
    /// It has no such block, or a block no such part.
    pub const OUTSIDE: u16 = 2;
    /// A VM writes it, or it is about to be removed.
    pub const IN_USE: u16 = 3;
    /// Somebody else reads just now.
    pub const BUSY: u16 = 4;
    /// What is there is not what was written.
    pub const CORRUPT: u16 = 5;
    /// A disk could not do it.
    pub const FAILED: u16 = 6;
}

/// Values of [`super::DiskReply::Snapped::why`].
pub mod snapshot {
    /// It is there; or, of a removal, no more.
    pub const TAKEN: u16 = 0;
    /// No set is in use.
    pub const NO_SET: u16 = 1;
    /// One of the disks of the set takes no writes.
    pub const READ_ONLY_SET: u16 = 2;
    /// There is no such virtual disk.
    pub const NO_SUCH_DISK: u16 = 3;
    /// The virtual disk is never written.
    pub const NEVER_WRITTEN: u16 = 4;
    /// The name of the one that is to come is none.
    pub const BAD_NAME: u16 = 5;
    /// There is something of that name.
    pub const NAME_TAKEN: u16 = 6;
    /// As many virtual disks lie beneath each other as may.
    pub const TOO_DEEP: u16 = 7;
    /// The directory is full.
    pub const FULL: u16 = 8;
    /// There is no room for another virtual disk of that size.
    pub const NO_ROOM: u16 = 9;
    /// Another snapshot is being taken, virtual disk made, or removed; or the one that is to go is being scrubbed.
    pub const BUSY: u16 = 10;
    /// A disk could not do it. Nothing has changed.
    pub const FAILED: u16 = 11;
    /// A VM has the virtual disk that is to go.
    pub const IN_USE: u16 = 12;
    /// Another virtual disk lies on the one that is to go.
    pub const BENEATH: u16 = 13;
    /// A virtual disk has a block at least.
    pub const BAD_SIZE: u16 = 14;
}

/// Values of [`super::DiskReply::Disk::driver`].
pub mod driver {
    /// virtio-blk.
    pub const VIRTIO: u16 = 1;
    /// IDE with bus-master DMA.
    pub const IDE: u16 = 2;
    /// AHCI.
    pub const AHCI: u16 = 3;
    /// NVMe.
    pub const NVME: u16 = 4;
}

/// Values of [`super::DiskReply::Disk::state`].
pub mod disk_state {
    /// It holds nothing.
    pub const BLANK: u16 = 0;
    /// It is not ours.
    pub const FOREIGN: u16 = 1;
    /// It cannot be read.
    pub const UNREADABLE: u16 = 2;
    /// It is ours, of another version.
    pub const VERSION: u16 = 3;
    /// It is ours, and damaged.
    pub const DAMAGED: u16 = 4;
    /// Its superblocks tell of different members.
    pub const MIXED: u16 = 5;
    /// It is a member that has shrunk.
    pub const SHRUNK: u16 = 6;
    /// It is a member.
    pub const MEMBER: u16 = 7;
}

/// Values of [`super::DiskReply::Set::state`].
pub mod set_state {
    /// It is in use.
    pub const USED: u16 = 1;
    /// It could be used, and another one is.
    pub const SPARE: u16 = 2;
    /// It cannot be used; [`super::super::DiskReply::Problem`] says why.
    pub const BROKEN: u16 = 3;
    /// It is in use, for reading only: one of its disks takes no writes.
    pub const READ_ONLY: u16 = 4;
}

/// Values of [`super::DiskReply::Problem::what`].
pub mod problem {
    /// Member `which` is missing.
    pub const MISSING: u16 = 1;
    /// Disks `first` and `second` both are member `which`.
    pub const DUPLICATE: u16 = 2;
    /// Disk `which` has generation `first`, the set `second`.
    pub const STALE: u16 = 3;
    /// Disk `which` has `first` blocks, and had `second`.
    pub const SHRUNK: u16 = 4;
    /// Disk `which` describes the set otherwise.
    pub const DISAGREES: u16 = 5;
    /// It was never completed.
    pub const UNFINISHED: u16 = 6;
    /// No member has a good directory, or the change that opens the set failed.
    pub const UNOPENED: u16 = 7;
}

/// Values of [`super::DiskReply::Entry::kind`].
pub mod entry_kind {
    /// Swap regions.
    pub const SWAP: u16 = 1;
    /// A virtual disk.
    pub const DISK: u16 = 2;
    /// A virtual disk that is never written.
    pub const READ_ONLY: u16 = 3;
}

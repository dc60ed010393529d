//! What a controller asks the disk component about disks and sets of them, and the answers. `disk-format` and docs/disk-format.md say what the words
//! mean.
//!
//! A question about a number that there is not is answered by [`DiskReply::None`].

use crate::limits::Name;
use crate::message::messages;
use crate::vm::VmId;

messages! {
    /// A question.
    #[allow(missing_docs)]
    DiskRequest {
        /// What the disk of this number is.
        0x501 Disk { index: u16 },
        /// What the set of this number is.
        0x502 Set { index: u16 },
        /// What is wrong with a set, for the `index`th time.
        0x503 Problem { index: u16, set: u16 },
        /// What the entry of this number in the directory of the set in use is.
        0x504 Entry { index: u16 },
        /// Read all blocks of the virtual disk of this number and judge them. The answer takes as long as that.
        0x505 Scrub { index: u16 },
        /// How the disk of this number does.
        0x506 DiskLoad { index: u16 },
        /// How the first VM does that has a virtual disk and a seat with this number, or a higher one.
        0x507 VmLoad { index: u16 },
        /// Take a snapshot of the virtual disk `name`, called `new`. The answer takes as long as the writes that were begun before.
        0x508 Snapshot { name: Name, new: Name },
        /// Make a virtual disk `name` of so many blocks, none of which was ever written. The answer takes as long as that of a snapshot.
        0x509 Create { name: Name, blocks: u64 },
        /// Remove the virtual disk `name`, which no VM has, and on which none lies. The answer takes as long as that of a snapshot.
        0x50a Remove { name: Name },
        /// Part of a block of the virtual disk `name`, which no VM writes: the [`PART`] bytes of this number. Part 0 is read anew, and those
        /// behind it, asked for next, are of the same moment. The answer takes as long as the disks do.
        0x50b Read { name: Name, block: u64, part: u16 },
    }
}

messages! {
    /// An answer.
    #[allow(missing_docs)]
    DiskReply {
        /// There is none of that number.
        0x510 None,
        /// A disk: what it is ([`disk_state`]), its blocks, the UUID of its set, which member of it, its newest generation; requests that
        /// it was given, and how many of them failed.
        0x511 Disk {
            member: u16 | state: u16 | driver: u16 | index: u16,
            blocks: u64,
            set: [u8; 16],
            generation: u64,
            requests: u64,
            errors: u64,
        },
        /// A set ([`set_state`]): its members, its name, its UUID, its generation, and the blocks of its data.
        0x512 Set { state: u16 | members: u16 | index: u16, name: Name, id: [u8; 16], generation: u64, blocks: u64 },
        /// Something that is wrong with a set ([`problem`]): a member or a disk, and numbers that go with it.
        0x513 Problem { which: u16 | what: u16 | index: u16 | set: u16, first: u64, second: u64 },
        /// An entry of the directory ([`entry_kind`]): its name, its first block, how many can be used, and the virtual disk on which it lies.
        0x514 Entry { kind: u16 | index: u16, name: Name, first: u64, blocks: u64, beneath: Name },
        /// A virtual disk was read: blocks that were never written, that are good, and that are bad or could not be read; and the first of
        /// those.
        0x515 Scrubbed { index: u16, empty: u64, good: u64, bad: u64, first_bad: u64 },
        /// How a disk does: requests that it has now; and in which time half of the last ones were done, and 99 of a hundred.
        0x516 DiskLoad { queue: u16 | index: u16, p50_us: u32 | p99_us: u32 },
        /// How a VM does, by its seat: its virtual disk; requests that were taken from its ring, how many of them were not done, and how many are under way now; and, from then
        /// on, in which time half of the last ones ended, and 99 of a hundred.
        0x517 VmLoad {
            index: u16,
            vm: VmId,
            disk: Name,
            requests: u64,
            errors: u32 | queue: u32,
            p50_us: u32 | p99_us: u32,
        },
        /// How a snapshot, or the making or removal of a virtual disk, ended ([`snapshot`]); where there was no room, the blocks of the set that are needed and those that are free.
        0x518 Snapped { why: u16, needed: u64, free: u64 },
        /// How a part of a block was read ([`read`]), and what is there, with zeros behind the end of the block.
        0x519 Read { how: u16, bytes: [u8; PART] },
    }
}

/// Bytes of a part of a block.
pub const PART: usize = 48;

/// Values of [`DiskReply::Read::how`].
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

/// Values of [`DiskReply::Snapped::why`].
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

/// Values of [`DiskReply::Disk::driver`].
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

/// Values of [`DiskReply::Disk::state`].
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

/// Values of [`DiskReply::Set::state`].
pub mod set_state {
    /// It is in use.
    pub const USED: u16 = 1;
    /// It could be used, and another one is.
    pub const SPARE: u16 = 2;
    /// It cannot be used; [`super::DiskReply::Problem`] says why.
    pub const BROKEN: u16 = 3;
    /// It is in use, for reading only: one of its disks takes no writes.
    pub const READ_ONLY: u16 = 4;
}

/// Values of [`DiskReply::Problem::what`].
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

/// Values of [`DiskReply::Entry::kind`].
pub mod entry_kind {
    /// Swap regions.
    pub const SWAP: u16 = 1;
    /// A virtual disk.
    pub const DISK: u16 = 2;
    /// A virtual disk that is never written.
    pub const READ_ONLY: u16 = 3;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn messages_come_back_as_they_were() {
        for request in [
            DiskRequest::Disk { index: 1 },
            DiskRequest::Set { index: 2 },
            DiskRequest::Problem { set: 3, index: 4 },
            DiskRequest::Entry { index: u16::MAX },
            DiskRequest::Scrub { index: 5 },
            DiskRequest::DiskLoad { index: 6 },
            DiskRequest::VmLoad { index: 7 },
            DiskRequest::Snapshot { name: Name([1; 16]), new: Name([2; 16]) },
            DiskRequest::Create { name: Name([1; 16]), blocks: u64::MAX },
            DiskRequest::Remove { name: Name([3; 16]) },
            DiskRequest::Read { name: Name([4; 16]), block: u64::MAX, part: 85 },
        ] {
            assert_eq!(DiskRequest::try_from(&Message::from(request)), Ok(request));
        }
        let name = Name::new("web").expect("short");
        for reply in [
            DiskReply::None,
            DiskReply::Disk {
                index: 1,
                driver: 2,
                state: 3,
                member: 4,
                blocks: 5,
                set: [6; 16],
                generation: 7,
                requests: 8,
                errors: 9,
            },
            DiskReply::Set { index: 1, members: 2, state: 3, name, id: [4; 16], generation: 5, blocks: 6 },
            DiskReply::Problem { set: 1, index: 2, what: 3, which: 4, first: 5, second: 6 },
            DiskReply::Entry { index: 1, kind: 2, name, first: 3, blocks: 4, beneath: Name([5; 16]) },
            DiskReply::Snapped { why: 1, needed: 2, free: 3 },
            DiskReply::Read { how: 7, bytes: core::array::from_fn(|at| u8::try_from(at).expect("small")) },
            DiskReply::Scrubbed { index: 1, empty: 2, good: 3, bad: 4, first_bad: 5 },
            DiskReply::DiskLoad { index: 1, queue: 2, p50_us: 3, p99_us: 4 },
            DiskReply::VmLoad {
                index: 1,
                vm: VmId::from_raw(0x2_0000_0003),
                disk: name,
                requests: 4,
                errors: 5,
                queue: 6,
                p50_us: 7,
                p99_us: 8,
            },
        ] {
            assert_eq!(DiskReply::try_from(&Message::from(reply)), Ok(reply));
        }
        assert!(DiskRequest::try_from(&Message::new(0x5ff, [])).is_err());
        assert!(DiskRequest::try_from(&Message::new(0x501, [1 << 16])).is_err());
        assert!(DiskReply::try_from(&Message::new(0x512, [1 << 48])).is_err(), "nothing stands above three quarters");
        assert_eq!(
            Message::from(DiskReply::Problem { set: 1, index: 2, what: 3, which: 4, first: 5, second: 6 }).words[0],
            0x4_0003_0002_0001
        );
        assert!(DiskReply::try_from(&Message::new(0x501, [])).is_err());
    }
}

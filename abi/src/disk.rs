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

#[cfg(any(test, feature = "beyond-core"))]
#[path = "disk_values.rs"]
mod values;
#[cfg(any(test, feature = "beyond-core"))]
pub use values::{disk_state, driver, entry_kind, problem, read, set_state, snapshot};

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

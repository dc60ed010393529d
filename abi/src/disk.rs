//! What a controller asks the disk component about disks and sets of them, and the answers. `disk-format` and docs/disk-format.md say what the words
//! mean.
//!
//! A question about a number that there is not is answered by [`DiskReply::None`].

use crate::limits::Name;
use crate::message::{BadMessage, Message, bytes_to_words, low16, words_to_bytes};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DiskRequest {
    /// What the disk of this number is.
    Disk { index: u16 },
    /// What the set of this number is.
    Set { index: u16 },
    /// What is wrong with a set, for the `index`th time.
    Problem { set: u16, index: u16 },
    /// What the entry of this number in the directory of the set in use is.
    Entry { index: u16 },
    /// Read all blocks of the virtual disk of this number and judge them. The answer takes as long as that.
    Scrub { index: u16 },
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DiskReply {
    /// There is none of that number.
    None,
    /// A disk: what it is ([`disk_state`]), its blocks, the UUID of its set, which member of it, its newest generation; requests that
    /// it was given, and how many of them failed.
    Disk {
        index: u16,
        driver: u16,
        state: u16,
        member: u16,
        blocks: u64,
        set: [u8; 16],
        generation: u64,
        requests: u64,
        errors: u64,
    },
    /// A set ([`set_state`]): its members, its name, its UUID, its generation, and the blocks of its data.
    Set { index: u16, members: u16, state: u16, name: Name, id: [u8; 16], generation: u64, blocks: u64 },
    /// Something that is wrong with a set ([`problem`]): a member or a disk, and numbers that go with it.
    Problem { set: u16, index: u16, what: u16, which: u16, first: u64, second: u64 },
    /// An entry of the directory ([`entry_kind`]): its name, its first block, and how many can be used.
    Entry { index: u16, kind: u16, name: Name, first: u64, blocks: u64 },
    /// A virtual disk was read: blocks that were never written, that are good, and that are bad or could not be read; and the first of
    /// those.
    Scrubbed { index: u16, empty: u64, good: u64, bad: u64, first_bad: u64 },
}

/// Values of [`DiskReply::Disk::driver`].
pub mod driver {
    /// virtio-blk.
    pub const VIRTIO: u16 = 1;
    /// IDE with bus-master DMA.
    pub const IDE: u16 = 2;
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

const DISK: u32 = 0x501;
const SET: u32 = 0x502;
const PROBLEM: u32 = 0x503;
const ENTRY: u32 = 0x504;
const SCRUB: u32 = 0x505;
const R_NONE: u32 = 0x510;
const R_DISK: u32 = 0x511;
const R_SET: u32 = 0x512;
const R_PROBLEM: u32 = 0x513;
const R_ENTRY: u32 = 0x514;
const R_SCRUBBED: u32 = 0x515;

impl From<DiskRequest> for Message {
    fn from(request: DiskRequest) -> Message {
        match request {
            DiskRequest::Disk { index } => Message::new(DISK, [index.into()]),
            DiskRequest::Set { index } => Message::new(SET, [index.into()]),
            DiskRequest::Problem { set, index } => Message::new(PROBLEM, [index.into(), set.into()]),
            DiskRequest::Entry { index } => Message::new(ENTRY, [index.into()]),
            DiskRequest::Scrub { index } => Message::new(SCRUB, [index.into()]),
        }
    }
}

impl TryFrom<&Message> for DiskRequest {
    type Error = BadMessage;

    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [index, set, ..] = message.words;
        let index = low16(kind, index)?;
        Ok(match kind {
            DISK => DiskRequest::Disk { index },
            SET => DiskRequest::Set { index },
            PROBLEM => DiskRequest::Problem { set: low16(kind, set)?, index },
            ENTRY => DiskRequest::Entry { index },
            SCRUB => DiskRequest::Scrub { index },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}

/// Four numbers in a word, the first one lowest.
fn quarters([a, b, c, d]: [u16; 4]) -> u64 {
    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
}

/// The inverse of [`quarters`].
const fn split(word: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h])]
}

impl From<DiskReply> for Message {
    fn from(reply: DiskReply) -> Message {
        match reply {
            DiskReply::None => Message::new(R_NONE, []),
            DiskReply::Disk { index, driver, state, member, blocks, set, generation, requests, errors } => {
                let [low, high] = bytes_to_words(set);
                let first = quarters([index, driver, state, member]);
                Message::new(R_DISK, [first, blocks, low, high, generation, requests, errors])
            }
            DiskReply::Set { index, members, state, name, id, generation, blocks } => {
                let ([a, b], [c, d]) = (bytes_to_words(name.0), bytes_to_words(id));
                Message::new(R_SET, [quarters([index, members, state, 0]), a, b, c, d, generation, blocks])
            }
            DiskReply::Problem { set, index, what, which, first, second } => {
                Message::new(R_PROBLEM, [quarters([set, index, what, which]), first, second])
            }
            DiskReply::Entry { index, kind, name, first, blocks } => {
                let [a, b] = bytes_to_words(name.0);
                Message::new(R_ENTRY, [quarters([index, kind, 0, 0]), a, b, first, blocks])
            }
            DiskReply::Scrubbed { index, empty, good, bad, first_bad } => {
                Message::new(R_SCRUBBED, [index.into(), empty, good, bad, first_bad])
            }
        }
    }
}

impl TryFrom<&Message> for DiskReply {
    type Error = BadMessage;

    fn try_from(message: &Message) -> Result<Self, BadMessage> {
        let kind = message.kind;
        let [first, a, b, c, d, e, f] = message.words;
        let [w, x, y, z] = split(first);
        Ok(match kind {
            R_NONE => DiskReply::None,
            R_DISK => DiskReply::Disk {
                index: w,
                driver: x,
                state: y,
                member: z,
                blocks: a,
                set: words_to_bytes([b, c]),
                generation: d,
                requests: e,
                errors: f,
            },
            R_SET => DiskReply::Set {
                index: w,
                members: x,
                state: y,
                name: Name(words_to_bytes([a, b])),
                id: words_to_bytes([c, d]),
                generation: e,
                blocks: f,
            },
            R_PROBLEM => DiskReply::Problem { set: w, index: x, what: y, which: z, first: a, second: b },
            R_ENTRY => DiskReply::Entry { index: w, kind: x, name: Name(words_to_bytes([a, b])), first: c, blocks: d },
            R_SCRUBBED => DiskReply::Scrubbed { index: low16(kind, first)?, empty: a, good: b, bad: c, first_bad: d },
            _ => return Err(BadMessage::unknown(kind)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        for request in [
            DiskRequest::Disk { index: 1 },
            DiskRequest::Set { index: 2 },
            DiskRequest::Problem { set: 3, index: 4 },
            DiskRequest::Entry { index: u16::MAX },
            DiskRequest::Scrub { index: 5 },
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
            DiskReply::Entry { index: 1, kind: 2, name, first: 3, blocks: 4 },
            DiskReply::Scrubbed { index: 1, empty: 2, good: 3, bad: 4, first_bad: 5 },
        ] {
            assert_eq!(DiskReply::try_from(&Message::from(reply)), Ok(reply));
        }
        assert!(DiskRequest::try_from(&Message::new(0x5ff, [])).is_err());
        assert!(DiskRequest::try_from(&Message::new(DISK, [1 << 16])).is_err());
        assert!(DiskReply::try_from(&Message::new(DISK, [])).is_err());
    }
}

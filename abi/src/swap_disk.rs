//! Messages between the component that keeps the memory of VMs that are out and the disk striper, about swap regions.
//!
//! The bytes lie behind the slots of the ring `swap-diskmux` ([`DATA_BYTES`], shared by both), in *runs* of [`RUN_BLOCKS`] blocks, and each run is one request's from
//! when it was asked for to its end. What lies there is sealed: the striper reads and writes it as it is, and no disk sees anything else.
//!
//! Each request carries an id, its [`crate::message::Message::id`]. A session begins with `Hello`, is answered by `Regions`, and ends when either end dies: what was asked for
//! before is void, may or may not have been done, and is done with when `Regions` comes. A striper that has started says `Regions` for no session, which
//! asks for a `Hello`.

// The sentence above each message explains its fields.
#![allow(missing_docs)]

use crate::limits::PAGE_SIZE;
use crate::message::messages;

/// The ring that requests come in.
pub const REQUESTS: &str = "swap-diskmux";
/// The ring that answers come in.
pub const REPLIES: &str = "diskmux-swap";
/// Requests that can be under way: what a ring can have behind its slots has room for no more runs.
pub const RUNS: usize = 15;
/// Blocks of a run.
pub const RUN_BLOCKS: usize = 8;
/// Bytes behind the slots of the ring.
// 480 KiB.
#[allow(clippy::cast_possible_truncation)]
pub const DATA_BYTES: usize = RUNS * RUN_BLOCKS * PAGE_SIZE as usize;

messages! {
    /// Swap to striper.
    SwapDiskRequest {
        /// A session begins, of this number, which is not 0.
        0x901 Hello { session: u32 },
        /// Read `blocks` blocks of a swap region, from its block `first` on, into this run.
        0x902 Read { region: u32 | first: u32, blocks: u16 | run: u16 },
        /// Write them from there.
        0x903 Write { region: u32 | first: u32, blocks: u16 | run: u16 },
    }
}

messages! {
    /// Striper to swap.
    SwapDiskReply {
        /// The swap regions that there are, and blocks of each; none where there is no set of disks in use. `session`: the one that this begins, 0 for none.
        0x911 Regions { session: u32, regions: u32 | region_blocks: u32, writable: bool },
        /// A request has ended ([`status`]).
        0x912 Ended { status: u16 | run: u16 },
    }
}

/// Values of [`SwapDiskReply::Ended::status`].
pub mod status {
    /// It was done.
    pub const DONE: u16 = 0;
    /// A disk could not, or has not answered.
    pub const FAILED: u16 = 1;
    /// There is no such region, block or run.
    pub const NONSENSE: u16 = 2;
}

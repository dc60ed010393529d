//! The virtual disk of a VM: where it lies in the VM's memory, and what goes through its rings.
//!
//! One page with registers and both rings, then block slots. Guest and disk striper share these pages and nobody else maps them, while the VM
//! is admitted. A request names a slot, in which the block lies; so a guest hands over no addresses.

use crate::guest::NIC_BASE;
use crate::guest_control::CONTROL_PAGE;
use crate::limits::{Name, PAGE_SIZE};
use crate::message::messages;
use crate::nic::WINDOW_STRIDE;
use crate::ring::{HEADER_BYTES, SLOT_BYTES};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block: a page.
// A page.
#[allow(clippy::cast_possible_truncation)]
pub const BLOCK_BYTES: usize = PAGE_SIZE as usize;
/// Guest-physical address of the disk page ([`crate::guest::RegisterPage::disk_page`]): behind the largest NIC.
pub const DISK_BASE: u64 = NIC_BASE + WINDOW_STRIDE;
/// Block slots, which follow the disk page.
pub const SLOTS: u16 = 8;
/// Pages of a virtual disk, the disk page included.
pub const PAGES: u64 = 1 + SLOTS as u64;
/// Offset of the ring of requests in the disk page: header, then slots. Producer: the guest.
pub const REQUESTS: usize = 256;
/// Slots of the ring of requests.
pub const REQUEST_SLOTS: u32 = 16;
/// Offset of the ring of completions in the disk page: header, then slots. Producer: the disk striper.
pub const COMPLETIONS: usize = REQUESTS + ring_bytes(REQUEST_SLOTS);
/// Slots of the ring of completions, and so requests that can be on their way at the same time: further ones stay in their ring.
pub const COMPLETION_SLOTS: u32 = 16;

/// Bytes that a ring of so many slots takes in the disk page.
// A small number.
#[allow(clippy::cast_possible_truncation)]
pub const fn ring_bytes(slots: u32) -> usize {
    HEADER_BYTES + slots as usize * SLOT_BYTES
}

/// The start of the disk page. Both sides may write all of it, so neither believes what it did not write itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DiskPage {
    /// [`state`]. Everything else holds once it is [`state::READY`].
    pub state: u32,
    /// [`flags`].
    pub flags: u32,
    /// Blocks of the disk, of [`BLOCK_BYTES`] each.
    pub blocks: u64,
    /// Its name.
    pub name: Name,
}

/// Values of [`DiskPage::state`].
pub mod state {
    /// The disk striper has not said anything yet.
    pub const COMING: u32 = 0;
    /// The disk is there. ([`crate::guest::pending::DISK`] says when.)
    pub const READY: u32 = 1;
}

/// Bits of [`DiskPage::flags`].
pub mod flags {
    /// The VM may not write.
    pub const READ_ONLY: u32 = 1 << 0;
}

messages! {
    /// Guest to disk striper. The completion carries the request's id.
    ///
    /// Requests to the same block are carried out in the order in which they came, and a flush behind all that came before it; nothing else
    /// is ordered. A request whose completion has not come when the rings are reset is given again, with the same id and slot: it is then as if
    /// it had been given once.
    #[allow(missing_docs)]
    DiskOrder {
        /// Read a block into a slot.
        0x601 Read { block: u64, slot: u16 },
        /// Write a block from a slot, which is not touched until the completion has come.
        0x602 Write { block: u64, slot: u16 },
        /// Make durable what was written and discarded.
        0x603 Flush,
        /// A block is to read as zeros from now on.
        0x604 Discard { block: u64 },
    }
}

impl DiskOrder {
    /// The block that it is about; none of a flush.
    #[must_use]
    pub const fn block(&self) -> Option<u64> {
        match *self {
            DiskOrder::Read { block, .. } | DiskOrder::Write { block, .. } | DiskOrder::Discard { block } => {
                Some(block)
            }
            DiskOrder::Flush => None,
        }
    }
}

messages! {
    /// Disk striper to guest.
    #[allow(missing_docs)]
    DiskCompletion {
        /// The request of this id has ended: [`status`].
        0x611 Ended { status: u16 },
    }
}

/// Values of [`DiskCompletion::Ended::status`].
pub mod status {
    /// It was done. Of a read: the block lies in the slot. A write and a discard are durable after the next flush.
    pub const DONE: u16 = 0;
    /// The block that was to be read was never written, or was discarded: it is zeros. The slot was left as it was.
    pub const ZEROS: u16 = 1;
    /// What is on the disk is not what was written there.
    pub const CORRUPT: u16 = 2;
    /// A disk could not do it. A block that was to be written holds what it held or what was written; of a flush nobody knows what is durable.
    pub const FAILED: u16 = 3;
    /// There is no such block.
    pub const OUT_OF_RANGE: u16 = 4;
    /// The disk is read-only.
    pub const READ_ONLY: u16 = 5;
    /// It is no request, or names no slot.
    pub const BAD_REQUEST: u16 = 6;
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<DiskPage>() <= REQUESTS);
    assert!(offset_of!(DiskPage, flags) == 4 && offset_of!(DiskPage, blocks) == 8 && offset_of!(DiskPage, name) == 16);
    assert!(COMPLETIONS + ring_bytes(COMPLETION_SLOTS) <= BLOCK_BYTES);
    assert!(DISK_BASE + PAGES * PAGE_SIZE <= CONTROL_PAGE);
    assert!(PAGES * PAGE_SIZE <= WINDOW_STRIDE);
};

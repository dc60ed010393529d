//! Layout of the fixed message ring: one producer, one consumer, a power of two of 64-byte slots.
//!
//! Every word is written by one side only. An index word carries the epoch in its upper half, so that a store which was
//! under way while the ring was reset is recognised as stale and counts for nothing: after a reset a word whose epoch is
//! not the current one means "index 0".

use crate::limits::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in one slot.
pub const SLOT_BYTES: usize = 64;
/// Bytes that the header takes; slots of a self-contained ring start here.
pub const HEADER_BYTES: usize = 256;
/// Slots that a ring may have at most.
pub const MAX_SLOTS: u32 = 4096;

/// What the two ends share beside the slots. Each group of words has a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RingHeader {
    /// Written by the producer: epoch in bits 63..32, count of slots produced in this epoch (free-running) in bits 31..0.
    pub tail: u64,
    /// Written by the producer: 1 while it sleeps and wants a doorbell when there is space.
    pub producer_waits: u32,
    _reserved: u32,
    /// Written by the producer of a ring of packets: epoch in bits 63..32; in bits 31..0 the index that the ring has gone on
    /// from when it was last empty, a multiple of the slots, with [`WRAP_VALID`]. 0 for none.
    pub wrap: u64,
    _producer: [u32; 10],
    /// Written by the consumer: epoch in bits 63..32, count of slots consumed in this epoch (free-running) in bits 31..0.
    pub head: u64,
    /// Written by the consumer: 1 while it sleeps and wants a doorbell when there is something to take.
    pub consumer_waits: u32,
    _consumer: [u32; 13],
    /// Written by whoever resets the ring (the core): the current epoch.
    pub epoch: u32,
    _owner: [u32; 31],
}

/// Offset of [`RingHeader::tail`].
pub const TAIL: usize = 0;
/// Offset of [`RingHeader::producer_waits`].
pub const PRODUCER_WAITS: usize = 8;
/// Offset of [`RingHeader::wrap`].
pub const WRAP: usize = 16;
/// Offset of [`RingHeader::head`].
pub const HEAD: usize = 64;
/// Offset of [`RingHeader::consumer_waits`].
pub const CONSUMER_WAITS: usize = 72;
/// Offset of [`RingHeader::epoch`].
pub const EPOCH: usize = 128;

const _: () = {
    assert!(core::mem::size_of::<RingHeader>() == HEADER_BYTES);
    assert!(core::mem::offset_of!(RingHeader, tail) == TAIL);
    assert!(core::mem::offset_of!(RingHeader, producer_waits) == PRODUCER_WAITS);
    assert!(core::mem::offset_of!(RingHeader, wrap) == WRAP);
    assert!(core::mem::offset_of!(RingHeader, head) == HEAD);
    assert!(core::mem::offset_of!(RingHeader, consumer_waits) == CONSUMER_WAITS);
    assert!(core::mem::offset_of!(RingHeader, epoch) == EPOCH);
};

/// An index word taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexWord {
    /// The epoch in which the index was written.
    pub epoch: u32,
    /// Slots produced or consumed since that epoch began, modulo 2^32.
    pub index: u32,
}

impl IndexWord {
    /// The word as it stands in memory.
    pub const fn pack(self) -> u64 {
        // Widening only; `u64::from` is not const.
        #[allow(clippy::cast_lossless)]
        {
            (self.epoch as u64) << 32 | self.index as u64
        }
    }

    /// The word taken from memory.
    pub const fn unpack(word: u64) -> Self {
        // Both halves are meant to be cut out.
        #[allow(clippy::cast_possible_truncation)]
        IndexWord { epoch: (word >> 32) as u32, index: word as u32 }
    }
}

/// In the index of [`RingHeader::wrap`]: there is one. The index itself is even, since a ring of one slot never wraps.
pub const WRAP_VALID: u32 = 1;
/// Slots in a page.
pub const PAGE_SLOTS: u32 = 64;

const _: () = assert!(PAGE_SLOTS as u64 * SLOT_BYTES as u64 == PAGE_SIZE);

/// Bytes that a self-contained ring (header, then slots) of `slots` slots takes, in whole pages.
pub const fn ring_bytes(slots: u32) -> u64 {
    // Widening only.
    #[allow(clippy::cast_lossless)]
    let bytes = HEADER_BYTES as u64 + slots as u64 * SLOT_BYTES as u64;
    bytes.div_ceil(PAGE_SIZE) * PAGE_SIZE
}

/// First bytes of a packet record. A record takes whole, consecutive slots and never wraps: where it would, a record of
/// kind [`PACKET_PAD`] fills the slots up to the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketHeader {
    /// Bytes that follow this header: the Ethernet frame without its checksum. In a pad record, 0.
    pub len: u16,
    /// [`PACKET_FRAME`], [`PACKET_SEGMENTS`] or [`PACKET_PAD`].
    pub kind: u16,
    /// Slots that this record takes, its header included.
    pub slots: u16,
    /// In a record of kind [`PACKET_SEGMENTS`], the bytes of data in each frame that is made of it, not zero. In all others, zero.
    pub segment: u16,
}

/// Bytes of a [`PacketHeader`].
pub const PACKET_HEADER_BYTES: usize = 8;
/// Kind of a record that holds a frame.
pub const PACKET_FRAME: u16 = 1;
/// Kind of a record that holds the headers of a frame and behind them the data of several, to be cut by whoever takes it
/// ([`crate::nic::NicPage::max_segments`]).
pub const PACKET_SEGMENTS: u16 = 3;
/// Kind of a record that only fills the slots up to the ring's end.
pub const PACKET_PAD: u16 = 2;

const _: () = assert!(core::mem::size_of::<PacketHeader>() == PACKET_HEADER_BYTES);

/// Slots that a record with `len` payload bytes takes.
pub const fn packet_slots(len: usize) -> usize {
    (PACKET_HEADER_BYTES + len).div_ceil(SLOT_BYTES)
}

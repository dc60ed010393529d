//! The NIC's pages as a driver sees them: what honest and lying guests need of them.

use crate::machine::{hypercall, offset, peek16, peek32, peek64, poke16, set64, yield_turn};
use abi::guest::{NIC_BASE, device, hypercall as number};
use abi::nic::{NicPage, TX_RING, tx_slots_offset};
use abi::ring::{HEAD, IndexWord, PACKET_FRAME, PACKET_HEADER_BYTES, SLOT_BYTES, TAIL, packet_slots};
use core::mem::offset_of;

/// A word of a ring's header.
pub(super) const fn word(ring: u64, at: usize) -> u64 {
    // Widening only.
    #[allow(clippy::cast_lossless)]
    let at = at as u64;
    NIC_BASE + ring + at
}

pub(super) const TX_TAIL: u64 = word(TX_RING, TAIL);
const TX_HEAD: u64 = word(TX_RING, HEAD);

/// Slots of the receive and of the transmit ring.
pub(super) fn slots() -> (u32, u32) {
    let field = |at: usize| peek32(NIC_BASE + offset(at));
    (field(offset_of!(NicPage, rx_slots)), field(offset_of!(NicPage, tx_slots)))
}

/// Lets the demultiplexer look at the transmit ring, and gives it the time to.
pub(super) fn kick() {
    hypercall(number::KICK, device::NIC, 0);
    yield_turn();
}

/// Puts a record into the transmit ring behind what is there; its header is what the caller says. The demultiplexer's head is
/// believed: this guest lies, not the other.
pub(super) fn put(frame: &[u8], len: u16, kind: u16, slots_taken: u16) {
    let (rx, slots) = slots();
    let base = NIC_BASE + tx_slots_offset(rx);
    let tail = IndexWord::unpack(peek64(TX_TAIL));
    let mask = u64::from(slots - 1);
    // Records do not wrap, so a long one starts at slot 0: the rest of the ring is filled by a pad record.
    let needed = u32::try_from(packet_slots(frame.len())).unwrap_or(u32::MAX).min(slots);
    let mut index = tail.index;
    let to_end = slots - (index & (slots - 1));
    if needed > to_end {
        header(base + (u64::from(index) & mask) * SLOT, 0, abi::ring::PACKET_PAD, u16::try_from(to_end).unwrap_or(0));
        index = index.wrapping_add(to_end);
    }
    let place = base + (u64::from(index) & mask) * SLOT;
    header(place, len, kind, slots_taken);
    let end = base + u64::from(slots) * SLOT;
    for (byte, at) in frame.iter().zip((place + offset(PACKET_HEADER_BYTES)..).take_while(|&at| at < end)) {
        // SAFETY: within the transmit slots.
        unsafe { crate::machine::poke8(at, *byte) };
    }
    set64(TX_TAIL, IndexWord { epoch: tail.epoch, index: index.wrapping_add(needed) }.pack());
}

/// Bytes of a slot.
pub(super) const SLOT: u64 = SLOT_BYTES as u64;

pub(super) fn header(place: u64, len: u16, kind: u16, slots: u16) {
    for (value, at) in [len, kind, slots, 0].into_iter().zip((place..).step_by(2)) {
        // SAFETY: within the transmit slots.
        unsafe { poke16(at, value) };
    }
}

/// Sends a frame in an orderly record.
pub(super) fn send(frame: &[u8]) {
    let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    put(frame, len, PACKET_FRAME, u16::try_from(packet_slots(frame.len())).unwrap_or(u16::MAX));
    kick();
}

/// Sends a frame again and again, as fast as the demultiplexer takes them, and never gives the CPU up.
pub(super) fn send_for_ever(frame: &[u8]) -> ! {
    let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    let taken = u16::try_from(packet_slots(frame.len())).unwrap_or(u16::MAX);
    let (_, slots) = slots();
    loop {
        let index = |at: u64| IndexWord::unpack(peek64(at)).index;
        if index(TX_TAIL).wrapping_sub(index(TX_HEAD)) < slots / 2 {
            put(frame, len, PACKET_FRAME, taken);
        } else {
            hypercall(number::KICK, device::NIC, 0);
        }
    }
}

/// A counter of the NIC page.
pub(super) fn counter(at: usize) -> u64 {
    peek64(NIC_BASE + offset(offset_of!(NicPage, counters)) + offset(at))
}

/// True when the link is up.
pub(super) fn link_up() -> bool {
    peek16(NIC_BASE + offset(offset_of!(NicPage, link_up))) != 0
}

//! The virtual NIC: one page of registers and ring headers, then the receive slots, then the transmit slots.
//!
//! Guest and network demultiplexer share these pages and nobody else maps them. Frames lie in the slots as packet
//! records ([`crate::ring::PacketHeader`]).

use crate::limits::PAGE_SIZE;
use crate::ring::{HEADER_BYTES, SLOT_BYTES};
use crate::vm::Slot;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots of a ring unless the manifest says otherwise: 16 KiB, ten full frames or up to 256 short ones.
pub const DEFAULT_SLOTS: u32 = 256;
/// Slots of the two rings together at most, so that a NIC fits into its window.
pub const MAX_SLOTS_TOTAL: u32 = 960;
/// Bytes of the address range that one VM's NIC takes in the demultiplexer's window.
pub const WINDOW_STRIDE: u64 = 0x1_0000;
/// Longest Ethernet frame, without its checksum.
pub const MAX_FRAME: usize = 1514;
/// Longest record of several TCP segments ([`NicPage::max_segments`]): five full ones and a half, as half of a ring of
/// [`DEFAULT_SLOTS`] carries.
pub const MAX_SEGMENTS: usize = DEFAULT_SLOTS as usize / 2 * SLOT_BYTES - crate::ring::PACKET_HEADER_BYTES;
/// Fewest bytes of data in each of them but the last (what RFC 9293 3.7.1 has everybody take).
pub const MIN_SEGMENT: usize = 536;
/// Shortest Ethernet frame that is taken from a guest (addresses and type).
pub const MIN_FRAME: usize = 14;

/// Offset of the receive ring's header in the NIC page (producer: demultiplexer).
pub const RX_RING: u64 = 256;
/// Offset of the transmit ring's header in the NIC page (producer: guest).
pub const TX_RING: u64 = 512;
/// Offset of the receive slots from the NIC page.
pub const RX_SLOTS: u64 = PAGE_SIZE;

/// The start of the NIC page. Both sides may write all of it, so neither believes what it did not write itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NicPage {
    /// The MAC address of this VM, written by the core at start; bytes 6 and 7 are zero.
    pub mac: [u8; 8],
    /// Slots of the receive ring.
    pub rx_slots: u32,
    /// Slots of the transmit ring.
    pub tx_slots: u32,
    /// 1 while the physical link is up.
    pub link_up: u32,
    /// Longest frame, without checksum.
    pub max_frame: u32,
    /// Written by the demultiplexer.
    pub counters: NicCounters,
    /// Written by the guest.
    pub listens: Listens,
    /// Longest record of kind [`crate::ring::PACKET_SEGMENTS`] that is taken: headers of Ethernet, IPv4 and TCP and behind them the data
    /// of several segments. 0: none is.
    pub max_segments: u32,
    /// Written by the demultiplexer: 1 where the NIC cuts such records and computes the checksums. 0: the demultiplexer does.
    pub nic_cuts: u32,
}

/// What a guest wants to hear of what is sent to all or to a group, and of what begins something while it is out. Written by the guest, so an allegation, by which the demultiplexer
/// decides what to give to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Listens {
    /// [`Listens::SAID`], or 0: it has not said, and wants everything.
    pub said: u32,
    /// UDP ports at which broadcasts are wanted, and datagrams while the VM is out; 0 for none.
    pub broadcast_ports: [u16; 10],
    /// IPv4 groups (10.0.2.16 would be 0x0a000210); 0 for none.
    pub groups: [u32; 6],
    /// [`Listens::SAID`]: the ports behind this are all at which connections are accepted. 0: at any, perhaps.
    pub accepts: u32,
    /// TCP ports at which connections are accepted, also while the VM is out; 0 for none.
    pub tcp_ports: [u16; 10],
}

impl Listens {
    /// [`Listens::said`], [`Listens::accepts`]: the words behind it are all that is wanted.
    pub const SAID: u32 = 1;
}

/// Counters of one VM's NIC, from its start. All count frames but the two byte counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NicCounters {
    /// Frames given to the guest.
    pub rx_frames: u64,
    /// Bytes given to the guest.
    pub rx_bytes: u64,
    /// Frames taken from the guest and sent.
    pub tx_frames: u64,
    /// Bytes taken from the guest and sent.
    pub tx_bytes: u64,
    /// Dropped on the way in: the receive ring was full.
    pub rx_drop_full: u64,
    /// Dropped on the way out: the source MAC is not the VM's.
    pub tx_drop_mac: u64,
    /// Dropped on the way out: the IPv4 source or ARP sender is not the VM's.
    pub tx_drop_ip: u64,
    /// Dropped on the way out: shorter or longer than a frame can be, or a record that makes no sense.
    pub tx_drop_malformed: u64,
    /// Dropped on the way out: the NIC or the receiver had no space.
    pub tx_drop_full: u64,
}

/// Offset of the transmit slots from the NIC page.
pub const fn tx_slots_offset(rx_slots: u32) -> u64 {
    // Widening only.
    #[allow(clippy::cast_lossless)]
    let rx_bytes = rx_slots as u64 * SLOT_BYTES as u64;
    RX_SLOTS + rx_bytes.div_ceil(PAGE_SIZE) * PAGE_SIZE
}

/// Pages of a NIC with these rings, its first page included.
pub const fn nic_pages(rx_slots: u32, tx_slots: u32) -> u64 {
    // Widening only.
    #[allow(clippy::cast_lossless)]
    let tx_bytes = tx_slots as u64 * SLOT_BYTES as u64;
    (tx_slots_offset(rx_slots) + tx_bytes.div_ceil(PAGE_SIZE) * PAGE_SIZE) / PAGE_SIZE
}

/// What tells the VMs of one Foraker from those of others on the same LAN: a number of [`Node::BITS`] bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node(u32);

impl Node {
    /// Bits of a node's number.
    pub const BITS: u32 = 26;

    /// The node of this number, of which the lowest [`Node::BITS`] bits count.
    pub const fn new(number: u32) -> Node {
        Node(number & ((1 << Node::BITS) - 1))
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The node that a machine is by itself: the last bits of the address of its NIC, in which the NICs of one maker differ.
    pub const fn of_nic(mac: [u8; 6]) -> Node {
        let [_, _, c, d, e, f] = mac;
        Node::new(u32::from_be_bytes([c, d, e, f]))
    }
}

/// Bits of a MAC address that are a VM's slot.
pub const MAC_SLOT_BITS: u32 = 20;

const _: () = assert!(crate::limits::MAX_SLOTS == 1 << MAC_SLOT_BITS);

/// MAC of the VM in a slot: locally administered, unicast. The node's number takes the bits 7..2 of the first byte, and the 20 bits behind
/// that byte; the slot the last 20 bits.
pub const fn mac_of(node: Node, slot: Slot) -> [u8; 6] {
    let [high, ..] = (node.0 >> 18).to_le_bytes();
    let [_, a, b, c] = (node.0 << 4 & 0x00ff_fff0 | slot.number() >> 16 & 0xf).to_be_bytes();
    let [_, _, d, e] = slot.number().to_be_bytes();
    [high & 0xfc | 2, a, b, c, d, e]
}

/// The node and slot whose VM has a MAC; `None` for one that no VM of any node has.
pub const fn owner_of(mac: [u8; 6]) -> Option<(Node, Slot)> {
    let [a, b, c, d, e, f] = mac;
    if a & 3 != 2 {
        return None;
    }
    let node = u32::from_be_bytes([0, b, c, d]) >> 4 | u32::from_be_bytes([0, 0, 0, a & 0xfc]) << 18;
    Some((Node::new(node), Slot::new(u32::from_be_bytes([0, d & 0xf, e, f]))))
}

const _: () = {
    assert!(core::mem::size_of::<NicPage>() as u64 <= RX_RING);
    assert!(RX_RING + HEADER_BYTES as u64 <= TX_RING);
    assert!(core::mem::offset_of!(NicPage, counters) == 24);
    assert!(core::mem::offset_of!(NicPage, listens) == 96);
    assert!(core::mem::offset_of!(NicPage, max_segments) == 168);
    assert!(core::mem::offset_of!(NicPage, nic_cuts) == 172);
    assert!(core::mem::size_of::<NicPage>() == 176);
    assert!(MAX_SEGMENTS > 5 * MAX_FRAME);
    assert!(core::mem::size_of::<Listens>() == 72);
    assert!(nic_pages(DEFAULT_SLOTS, DEFAULT_SLOTS) == 9);
    assert!(nic_pages(512, 448) * PAGE_SIZE <= WINDOW_STRIDE);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_names_node_and_slot() {
        let (node, slot) = (Node::new(0x2ab_cdef), Slot::new(0x12345));
        assert_eq!(mac_of(node, slot), [0b1010_1010, 0xbc, 0xde, 0xf1, 0x23, 0x45]);
        for node in [0, 1, 0x3ff_ffff, 0x2aa_aaaa, 0x155_5555].map(Node::new) {
            for slot in [0, 1, 0xf_ffff, 0xa_aaaa].map(Slot::new) {
                let mac = mac_of(node, slot);
                assert_eq!((mac[0] & 3, owner_of(mac)), (2, Some((node, slot))));
            }
        }
        // Groups, and addresses of makers.
        assert_eq!([0, 1, 3].map(|first| owner_of([first, 2, 3, 4, 5, 6])), [None; 3]);
    }

    #[test]
    fn nics_of_one_maker_are_different_nodes() {
        assert_eq!(Node::of_nic([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]), Node::new(0x12_3456));
        assert_ne!(Node::of_nic([0, 1, 2, 0xff, 0xff, 0xff]), Node::of_nic([0, 1, 2, 0xff, 0xff, 0xfe]));
        assert_eq!(Node::of_nic([0xff; 6]).number(), 0x3ff_ffff);
    }
}

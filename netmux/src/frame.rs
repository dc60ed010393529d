//! What the demultiplexer reads of a frame: addresses, type, and the few header fields behind them.

use abi::nic::{Node, mac_of};
use abi::vm::Slot;
use ring::SharedMemory;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Bytes of the Ethernet header.
pub const ETHERNET: usize = abi::nic::MIN_FRAME;
/// Bytes of a frame up to the end of an IPv4 header without options.
pub const IPV4_END: usize = ETHERNET + 20;
/// Bytes of a frame up to the end of an IPv6 header.
pub const IPV6_END: usize = ETHERNET + 40;
/// Bytes of an ARP frame for Ethernet and IPv4.
pub const ARP_END: usize = ETHERNET + 28;

/// A MAC address; byte `i` of the address is bits `8 * i + 7 .. 8 * i`, so that it compares as one number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mac(u64);

/// The bits of a VM's address that are not its slot.
const NODE_BITS: u64 = Mac::new([0xff, 0xff, 0xff, 0xf0, 0, 0]).0;

impl Mac {
    /// The address of everybody.
    pub const BROADCAST: Mac = Mac(0xffff_ffff_ffff);
    /// IPv6's all-routers group, ff02::2.
    pub const ALL_ROUTERS: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 2]);
    /// IPv6's group of those that listen to MLDv2 reports, ff02::16.
    pub const MLD_REPORTS: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 0x16]);

    /// The address of these bytes, in the order of the wire.
    pub const fn new(b: [u8; 6]) -> Mac {
        Mac(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0]))
    }

    /// The address of the VM in a slot.
    pub const fn of(node: Node, slot: Slot) -> Mac {
        Mac::new(mac_of(node, slot))
    }

    /// The address of the VM in a slot of the node of the tests.
    #[cfg(test)]
    pub const fn of_slot(slot: u16) -> Mac {
        Mac::of(crate::test_frames::NODE, Slot::new(slot as u32))
    }

    /// The bytes in the order of the wire.
    pub const fn bytes(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// The slot whose VM has this address, on the node whose first slot has the address `first`, if there is such a slot.
    #[inline]
    pub fn slot_behind(self, first: Mac) -> Option<Slot> {
        (self.0 & NODE_BITS == first.0).then(|| self.last_slot())
    }

    /// The slot of the VM on this node that listens to this solicited-node group (RFC 4291, section 2.7.1; RFC 2464, section 7): the
    /// group carries the last three bytes of the interface identifier, which are those of the MAC, and so four bits of the node.
    pub fn solicited_on(self, node: Node) -> Option<Slot> {
        let slot = self.last_slot();
        let [_, _, _, d, e, f] = Mac::of(node, slot).bytes();
        (Mac::new([0x33, 0x33, 0xff, d, e, f]) == self).then_some(slot)
    }

    /// The last 20 bits.
    #[inline]
    fn last_slot(self) -> Slot {
        let [_, _, _, d, e, f] = self.bytes();
        Slot::new(u32::from_be_bytes([0, d & 0xf, e, f]))
    }

    /// True for every solicited-node group, whoever listens to it.
    pub const fn is_solicited_node(self) -> bool {
        self.0 & 0xff_ffff == 0xff_3333
    }

    /// True for the groups that a bridge must not forward (IEEE 802.1D, table 7-10): 01:80:c2:00:00:00 to :0f.
    pub const fn is_bridge_local(self) -> bool {
        self.0 & 0xf0ff_ffff_ffff == 0xc2_8001
    }

    /// True for broadcast and multicast.
    pub const fn is_group(self) -> bool {
        self.0 & 1 != 0
    }

    /// The interface identifier that IPv6 derives from this address (modified EUI-64, RFC 4291, appendix A).
    pub const fn interface_id(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.bytes();
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, f] = self.bytes();
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{self}")
    }
}

/// An IPv4 address as it is written in text; lives as a number with the first byte the most significant, as in
/// [`abi::net::NetEvent::Attach`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ipv4(pub u32);

impl core::fmt::Display for Ipv4 {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d] = self.0.to_be_bytes();
        write!(out, "{a}.{b}.{c}.{d}")
    }
}

/// What stands for the IPv4 destination of frames that have none: the address of everybody.
pub const NO_IPV4: u32 = u32::MAX;

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The MAC address.
    pub mac: Mac,
    /// The address in its IPv4 header ([`NO_IPV4`] for other protocols, and where the frame ends before).
    pub ipv4: u32,
    /// It is an IPv4 datagram of UDP.
    pub udp: bool,
}

/// A frame in memory that nobody else writes while it is looked at.
pub trait Frame {
    /// Bytes of the frame, without its checksum.
    fn len(&self) -> usize;

    /// True for a frame without a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whom it is for, of a frame that is long enough to have a destination.
    fn target(&self) -> Target {
        let head = self.head();
        let is_ipv4 = head.ethertype() == IPV4 && self.len() >= IPV4_END;
        let ipv4 = if is_ipv4 { head.ipv4_destination() } else { NO_IPV4 };
        Target { mac: head.destination(), ipv4, udp: is_ipv4 && head.ipv4_protocol() == UDP }
    }

    /// The first [`HEAD_BYTES`] bytes; those beyond the frame's end are anything.
    fn head(&self) -> Head;

    /// Copies as many bytes as the frame has, but at most `buffer.len()`, and returns the copied part.
    fn copy<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8];
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn head(&self) -> Head {
        let mut bytes = [0; HEAD_BYTES];
        let count = self.len().min(HEAD_BYTES);
        bytes[..count].copy_from_slice(&self[..count]);
        Head::from_bytes(&bytes)
    }

    fn copy<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        let count = self.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self[..count]);
        &buffer[..count]
    }
}

/// A frame in DMA memory, which neither guests nor, while we have it, the NIC can write.
#[derive(Clone, Copy, Debug)]
pub struct DmaFrame {
    /// The DMA memory.
    pub memory: SharedMemory,
    /// Where the frame begins; a multiple of 8.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
}

impl DmaFrame {
    /// The first `N` words; zeros where the memory ends before. Read through a window of constant size, so that one check
    /// covers all words.
    #[inline(always)]
    fn words<const N: usize>(&self) -> [u64; N] {
        let mut words = [0; N];
        if let Some(window) = self.memory.sub(self.offset, N * 8) {
            for (i, word) in words.iter_mut().enumerate() {
                *word = window.read64(i * 8).unwrap_or(0);
            }
        }
        words
    }
}

impl Frame for DmaFrame {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    // As the default says, but of the words that it needs.
    #[inline]
    fn target(&self) -> Target {
        let [first, second, third, fourth, fifth] = self.words::<5>();
        let mac = Mac(first & 0xffff_ffff_ffff);
        if second >> 32 & 0xffff != u64::from(IPV4.to_be()) || self.len < IPV4_END {
            return Target { mac, ipv4: NO_IPV4, udp: false };
        }
        let [.., a, b] = fourth.to_le_bytes();
        let [c, d, ..] = fifth.to_le_bytes();
        Target { mac, ipv4: u32::from_be_bytes([a, b, c, d]), udp: third >> 56 == u64::from(UDP) }
    }

    #[inline]
    fn head(&self) -> Head {
        Head(self.words())
    }

    fn copy<'b>(&self, buffer: &'b mut [u8]) -> &'b [u8] {
        let count = self.len.min(buffer.len());
        let bytes = &mut buffer[..count];
        // Every buffer of the driver lies within the memory; otherwise the caller sees zeros.
        let _ = self.memory.read(self.offset, bytes);
        bytes
    }
}

/// Words of a [`Head`].
pub const HEAD_WORDS: usize = 6;
/// Bytes of a [`Head`]: enough for ARP, and for IPv4 without options and the ports behind it.
pub const HEAD_BYTES: usize = HEAD_WORDS * 8;

/// The first bytes of a frame, read once. A field means something only when the frame is long enough for it; the
/// methods do not check that.
#[derive(Clone, Copy)]
pub struct Head(pub [u64; HEAD_WORDS]);

impl Head {
    /// From the first bytes of a frame.
    pub fn from_bytes(bytes: &[u8; HEAD_BYTES]) -> Head {
        let mut words = [0; HEAD_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Head(words)
    }

    /// The `N` bytes from `at`, which must lie within the head: both are constants wherever this is called.
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&zerocopy::IntoBytes::as_bytes(&self.0)[at..at + N]);
        out
    }

    /// The 16-bit field at `at`.
    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    /// The 32-bit field at `at`.
    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> Mac {
        Mac(self.0[0] & 0xffff_ffff_ffff)
    }

    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> Mac {
        Mac(self.0[0] >> 48 | (self.0[1] & 0xffff_ffff) << 16)
    }

    /// EtherType (or a length, below 1536).
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        self.u16(12)
    }

    /// IPv4: true for version 4 with a header of 20 bytes.
    #[inline(always)]
    pub fn ipv4_plain(&self) -> bool {
        self.bytes::<1>(14)[0] == 0x45
    }

    /// IPv4 and IPv6: the version.
    #[inline(always)]
    pub fn ip_version(&self) -> u8 {
        self.bytes::<1>(14)[0] >> 4
    }

    /// IPv4: bytes of the header; less than 20 is nonsense.
    #[inline(always)]
    pub fn ipv4_header(&self) -> usize {
        usize::from(self.bytes::<1>(14)[0] & 15) * 4
    }

    /// IPv4: offset of this fragment in units of 8 bytes; 0 for the first one and for a whole packet.
    #[inline(always)]
    pub fn ipv4_fragment_offset(&self) -> u16 {
        self.u16(20) & 0x1fff
    }

    /// IPv4: true unless this is a whole packet.
    #[inline(always)]
    pub fn ipv4_is_fragment(&self) -> bool {
        self.u16(20) & 0x3fff != 0
    }

    /// IPv4: the protocol above it.
    #[inline(always)]
    pub fn ipv4_protocol(&self) -> u8 {
        self.bytes::<1>(23)[0]
    }

    /// IPv4: source address.
    #[inline(always)]
    pub fn ipv4_source(&self) -> u32 {
        self.u32(26)
    }

    /// IPv4: destination address.
    #[inline(always)]
    pub fn ipv4_destination(&self) -> u32 {
        self.u32(30)
    }

    /// UDP source and destination port behind an IPv4 header without options.
    #[inline(always)]
    pub fn ipv4_ports(&self) -> (u16, u16) {
        (self.u16(34), self.u16(36))
    }

    /// ARP: true for Ethernet and IPv4.
    #[inline(always)]
    pub fn arp_is_ipv4(&self) -> bool {
        self.bytes::<6>(14) == [0, 1, 8, 0, 6, 4]
    }

    /// ARP: 1 for a request, 2 for a reply.
    #[inline(always)]
    pub fn arp_operation(&self) -> u16 {
        self.u16(20)
    }

    /// ARP: hardware address of the sender.
    #[inline(always)]
    pub fn arp_sender(&self) -> Mac {
        Mac::new(self.bytes(22))
    }

    /// ARP: IPv4 address of the sender.
    #[inline(always)]
    pub fn arp_sender_ipv4(&self) -> u32 {
        self.u32(28)
    }

    /// ARP: IPv4 address that is asked for.
    #[inline(always)]
    pub fn arp_target_ipv4(&self) -> u32 {
        self.u32(38)
    }

    /// IPv6: type of the header behind it.
    #[inline(always)]
    pub fn ipv6_next(&self) -> u8 {
        self.bytes::<1>(20)[0]
    }

    /// IPv6: source address.
    #[inline(always)]
    pub fn ipv6_source(&self) -> [u8; 16] {
        self.bytes(22)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_address_names_its_slot_and_no_other_address_does() {
        for node in [0, 0x3ff_ffff, 0x12_3456].map(Node::new) {
            for slot in [0, 1, 0x1234, 0xf_ffff].map(Slot::new) {
                let first = Mac::of(node, Slot::new(0));
                assert_eq!(Mac::of(node, slot).slot_behind(first), Some(slot));
                assert_eq!(Mac::of(node, slot).bytes(), mac_of(node, slot));
                assert_eq!(Mac::of(node, slot).slot_behind(Mac::of(Node::new(0x77_7777), Slot::new(0))), None);
            }
            for byte in 0..4 {
                let mut other = mac_of(node, Slot::new(7));
                other[byte] ^= 0x10;
                assert_eq!(Mac::new(other).slot_behind(Mac::of(node, Slot::new(0))), None);
            }
            assert_eq!(Mac::BROADCAST.slot_behind(Mac::of(node, Slot::new(0))), None);
        }
    }

    #[test]
    fn solicited_node_groups_lead_to_the_slot() {
        let node = Node::new(0x123);
        let group = Mac::new([0x33, 0x33, 0xff, 0x3a, 0x01, 0x02]);
        assert_eq!(group.solicited_on(node), Some(Slot::new(0xa_0102)));
        let foreign = Mac::new([0x33, 0x33, 0xff, 0x4a, 0x01, 0x02]);
        assert!(foreign.is_solicited_node());
        assert_eq!(foreign.solicited_on(node), None);
        assert!(!Mac::ALL_ROUTERS.is_solicited_node());
        assert_eq!(Mac::new([0x33, 0x32, 0xff, 0x3a, 0x01, 0x02]).solicited_on(node), None);
    }

    #[test]
    fn bridge_local_groups() {
        assert!(Mac::new([1, 0x80, 0xc2, 0, 0, 0]).is_bridge_local());
        assert!(Mac::new([1, 0x80, 0xc2, 0, 0, 0x0e]).is_bridge_local());
        assert!(!Mac::new([1, 0x80, 0xc2, 0, 0, 0x21]).is_bridge_local());
        assert!(!Mac::BROADCAST.is_bridge_local());
    }

    #[test]
    fn head_reads_the_fields_where_the_standards_have_them() {
        let mut bytes = [0_u8; HEAD_BYTES];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(i).unwrap_or(0);
        }
        let head = Head::from_bytes(&bytes);
        assert_eq!(head.destination(), Mac::new([0, 1, 2, 3, 4, 5]));
        assert_eq!(head.source(), Mac::new([6, 7, 8, 9, 10, 11]));
        assert_eq!(head.ethertype(), 0x0c0d);
        assert_eq!(head.ipv4_source(), 0x1a1b_1c1d);
        assert_eq!(head.ipv4_destination(), 0x1e1f_2021);
        assert_eq!(head.ipv4_ports(), (0x2223, 0x2425));
        assert_eq!(head.arp_sender(), Mac::new([22, 23, 24, 25, 26, 27]));
        assert_eq!(head.arp_target_ipv4(), 0x2627_2829);
        assert_eq!(head.ipv6_source()[0], 22);
    }

    #[test]
    fn the_target_is_the_same_wherever_the_frame_lies() {
        let memory = crate::test_machine::memory(64);
        let kinds = [(64, IPV4), (IPV4_END, IPV4), (IPV4_END - 1, IPV4), (64, ARP), (64, 0x0008)];
        for ((len, ethertype), protocol) in kinds.into_iter().flat_map(|kind| [(kind, UDP), (kind, 6)]) {
            let mut bytes: std::vec::Vec<u8> = (100..164).collect();
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            bytes[23] = protocol;
            memory.write(0, &bytes).expect("room");
            let is_ipv4 = len >= IPV4_END && ethertype == IPV4;
            let expected = Target {
                mac: Mac::new([100, 101, 102, 103, 104, 105]),
                ipv4: if is_ipv4 { 0x8283_8485 } else { NO_IPV4 },
                udp: is_ipv4 && protocol == UDP,
            };
            let target = DmaFrame { memory, offset: 0, len }.target();
            assert_eq!(target, expected, "{len} {ethertype:#x} {protocol}");
            assert_eq!(bytes[..len].target(), target);
        }
    }

    #[test]
    fn interface_id_is_modified_eui_64() {
        assert_eq!(Mac::new([2, 0x46, 0x4b, 0, 1, 2]).interface_id(), [0x00, 0x46, 0x4b, 0xff, 0xfe, 0, 1, 2]);
    }
}

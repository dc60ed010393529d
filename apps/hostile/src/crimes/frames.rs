//! Frames that a guest may not send, and one that it may.

use super::nic::{counter, link_up, send, send_for_ever};
use super::{Deed, Escape};
use crate::machine::{offset, peek8, yield_turn};
use abi::guest::NIC_BASE;
use abi::nic::{MAX_FRAME, NicCounters, Node};
use abi::vm::Slot;
use core::mem::offset_of;
use core::net::Ipv4Addr;

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(Deed::Check(match name {
        "own-frame" => own_frame,
        "spoofed-mac" => || refused(by_mac(), &Frame::arp(NEIGHBOUR, NEIGHBOUR, own_ip(), own_ip())),
        "spoofed-ipv4" => || refused(by_ip(), &Frame::udp(own_mac(), FOREIGN, 1000, 1000)),
        "spoofed-arp" => || refused(by_ip(), &Frame::arp(own_mac(), own_mac(), FOREIGN, own_ip()).with(21, 2)),
        "spoofed-arp-mac" => || refused(by_ip(), &Frame::arp(own_mac(), NEIGHBOUR, own_ip(), own_ip()).with(21, 2)),
        "spoofed-ipv6" => || refused(by_ip(), &Frame::ipv6(own_mac(), foreign_v6(), 17)),
        "vlan" => {
            || refused(malformed(), &Frame::arp(own_mac(), own_mac(), own_ip(), own_ip()).with(12, 0x81).with(13, 0))
        }
        "runt" => runts,
        "oversized" => oversized,
        "dhcp-server" => || refused(by_ip(), &Frame::udp(own_mac(), own_ip(), 67, 68)),
        "router-advertisement" => || refused(by_ip(), &Frame::ipv6(own_mac(), own_v6(), 58).with(54, 134)),
        "neighbour-advertisement" => neighbour_advertisement,
        "bad-ip-headers" => bad_headers,
        _ => return None,
    }))
}

/// A MAC address: that of the VM in slot 3, or 4 for that one.
const NEIGHBOUR: [u8; 6] = abi::nic::mac_of(Node::new(7), Slot::new(0x3fff));
const BROADCAST: [u8; 6] = [0xff; 6];
const ARP: u16 = 0x806;
const IPV4: u16 = 0x800;
const IPV6: u16 = 0x86dd;
/// A card of somebody outside: administered locally, as VMs' are, and none of theirs.
const OUTSIDE: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// An address of which no VM is the owner (RFC 5737).
const FOREIGN: [u8; 4] = [192, 0, 2, 66];

/// A frame in the making.
struct Frame {
    bytes: [u8; 128],
    len: usize,
}

impl Frame {
    fn new(source: [u8; 6], ethertype: u16) -> Frame {
        let mut frame = Frame { bytes: [0; 128], len: 0 };
        frame.push(&BROADCAST);
        frame.push(&source);
        frame.push(&ethertype.to_be_bytes());
        frame
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// The frame with another byte at `at`.
    fn with(mut self, at: usize, byte: u8) -> Frame {
        self.bytes[at] = byte;
        self
    }

    /// The frame's first `len` bytes.
    fn cut(mut self, len: usize) -> Frame {
        self.len = self.len.min(len);
        self
    }

    /// An ARP question (RFC 826) of `sender` for the address `target`.
    fn arp(source: [u8; 6], sender: [u8; 6], sender_ip: [u8; 4], target: [u8; 4]) -> Frame {
        let mut frame = Frame::new(source, ARP);
        frame.push(&[0, 1, 8, 0, 6, 4, 0, 1]);
        frame.push(&sender);
        frame.push(&sender_ip);
        frame.push(&[0; 6]);
        frame.push(&target);
        frame.push(&[0; 18]);
        frame
    }

    /// A UDP packet (RFC 791, RFC 768) to all.
    fn udp(source: [u8; 6], source_ip: [u8; 4], from: u16, to: u16) -> Frame {
        let mut frame = Frame::new(source, IPV4);
        frame.push(&[0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.push(&source_ip);
        frame.push(&[255; 4]);
        frame.push(&from.to_be_bytes());
        frame.push(&to.to_be_bytes());
        frame.push(&[0, 16, 0, 0]);
        frame.push(&[0; 8]);
        frame
    }

    /// A UDP packet for somebody at the wire, whose card is no VM's.
    fn udp_outside(source: [u8; 6], source_ip: [u8; 4]) -> Frame {
        let mut frame = Frame::udp(source, source_ip, 9, 9);
        frame.bytes[..6].copy_from_slice(&OUTSIDE);
        frame.bytes[30..34].copy_from_slice(&FOREIGN);
        frame
    }

    /// A UDP packet of a VM with these addresses for the one in the first slot, whose addresses are as much less as this VM's slot says.
    fn udp_to_first(source: [u8; 6], source_ip: [u8; 4]) -> Frame {
        let [a, b, rest @ ..] = source;
        let rest = u32::from_be_bytes(rest);
        let slot = rest & ((1 << abi::nic::MAC_SLOT_BITS) - 1);
        let mut frame = Frame::udp(source, source_ip, 9, 9);
        frame.bytes[..2].copy_from_slice(&[a, b]);
        frame.bytes[2..6].copy_from_slice(&(rest - slot).to_be_bytes());
        let to = u32::from_be_bytes(source_ip).wrapping_sub(slot);
        frame.bytes[30..34].copy_from_slice(&to.to_be_bytes());
        let words = frame.bytes[14..34].as_chunks::<2>().0.iter().map(|&word| u32::from(u16::from_be_bytes(word)));
        let sum: u32 = words.sum();
        // Ten words carry at most once.
        let sum = (sum & 0xffff) + (sum >> 16);
        let [.., high, low] = (!sum).to_be_bytes();
        frame.with(24, high).with(25, low)
    }

    /// An IPv6 packet (RFC 8200) with 32 bytes of the protocol `next`, to all nodes.
    fn ipv6(source: [u8; 6], source_ip: [u8; 16], next: u8) -> Frame {
        let mut frame = Frame::new(source, IPV6);
        frame.push(&[0x60, 0, 0, 0, 0, 32, next, 255]);
        frame.push(&source_ip);
        frame.push(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.push(&[0; 32]);
        frame
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn own_mac() -> [u8; 6] {
    [0, 1, 2, 3, 4, 5].map(|at| peek8(NIC_BASE + at))
}

/// The IPv4 address of this VM, from its boot arguments; 0.0.0.0 with DHCP.
fn own_ip() -> [u8; 4] {
    let args = ilwaco::args::Args::of_this_vm();
    address(args.get("ip").unwrap_or_default()).octets()
}

/// The address in `10.0.2.16/24`.
fn address(text: &str) -> Ipv4Addr {
    text.split('/').next().and_then(|text| text.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// The link-local address of a MAC address (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

fn own_v6() -> [u8; 16] {
    link_local(own_mac())
}

fn foreign_v6() -> [u8; 16] {
    link_local(NEIGHBOUR)
}

fn by_mac() -> usize {
    offset_of!(NicCounters, tx_drop_mac)
}

fn by_ip() -> usize {
    offset_of!(NicCounters, tx_drop_ip)
}

fn malformed() -> usize {
    offset_of!(NicCounters, tx_drop_malformed)
}

/// Sends a frame and waits until it is counted at `place`; nothing else may be counted with it.
fn counted(place: usize, frame: &[u8]) -> Result<(), Escape> {
    let places =
        [offset_of!(NicCounters, tx_frames), by_mac(), by_ip(), malformed(), offset_of!(NicCounters, tx_drop_full)];
    let before = places.map(counter);
    send(frame);
    for _ in 0..1_000 {
        for (&at, before) in places.iter().zip(before) {
            match counter(at).wrapping_sub(before) {
                0 => {}
                1 if at == place => return Ok(()),
                _ => return Escape::because("the frame was counted in another place, at offset", offset(at)),
            }
        }
        yield_turn();
    }
    Escape::because("the frame was not counted at all, at offset", offset(place))
}

fn refused(place: usize, frame: &Frame) -> Result<(), Escape> {
    counted(place, frame.bytes())
}

/// A frame that is in order is sent.
pub(super) fn own_frame() -> Result<(), Escape> {
    Escape::unless(link_up(), "the link is down, so nothing can be told", 0)?;
    let frame = Frame::arp(own_mac(), own_mac(), own_ip(), FOREIGN);
    counted(offset_of!(NicCounters, tx_frames), frame.bytes())
}

/// Asks who has the address of the router, so that an answer comes.
pub(super) fn ask_gateway() {
    let args = ilwaco::args::Args::of_this_vm();
    let gateway = address(args.get("gw").unwrap_or_default()).octets();
    send(Frame::arp(own_mac(), own_mac(), own_ip(), gateway).bytes());
    yield_turn();
}

fn runts() -> Result<(), Escape> {
    let frame = Frame::arp(own_mac(), own_mac(), own_ip(), own_ip());
    (0..abi::nic::MIN_FRAME).try_for_each(|len| counted(malformed(), &frame.bytes()[..len]))
}

fn oversized() -> Result<(), Escape> {
    let mut bytes = [0; 8_000];
    let frame = Frame::udp(own_mac(), own_ip(), 1000, 1000);
    bytes[..frame.len].copy_from_slice(frame.bytes());
    counted(malformed(), &bytes[..MAX_FRAME + 1])?;
    counted(malformed(), &bytes)
}

fn neighbour_advertisement() -> Result<(), Escape> {
    // ICMPv6 type 136; the target stands eight bytes behind it (RFC 4861, 4.4).
    let mut frame = Frame::ipv6(own_mac(), own_v6(), 58).with(54, 136);
    frame.bytes[62..78].copy_from_slice(&foreign_v6());
    refused(by_ip(), &frame)
}

fn bad_headers() -> Result<(), Escape> {
    let frame = || Frame::udp(own_mac(), own_ip(), 1000, 1000);
    refused(malformed(), &frame().with(14, 0x95))?;
    refused(malformed(), &frame().with(14, 0x41))?;
    refused(malformed(), &frame().cut(20))?;
    refused(malformed(), &frame().cut(36))
}

/// Sends broadcasts without end.
pub(super) fn broadcast_for_ever() -> ! {
    send_for_ever(Frame::arp(own_mac(), own_mac(), own_ip(), FOREIGN).bytes())
}

/// Sends datagrams without end to the VM in the first slot, to a port where it does not listen.
pub(super) fn datagrams_for_ever() -> ! {
    send_for_ever(Frame::udp_to_first(own_mac(), own_ip()).bytes())
}

/// Sends datagrams without end to somebody outside.
pub(super) fn to_the_wire_for_ever() -> ! {
    send_for_ever(Frame::udp_outside(own_mac(), own_ip()).bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_fields_where_the_standards_say() {
        let mac = [2, 0x46, 0x4b, 0, 0, 7];
        let arp = Frame::arp(mac, mac, [10, 0, 2, 16], [10, 0, 2, 2]);
        assert_eq!(
            (arp.len, &arp.bytes()[6..14], &arp.bytes()[28..32]),
            (60, &[2, 0x46, 0x4b, 0, 0, 7, 8, 6][..], &[10, 0, 2, 16][..])
        );
        let first = Frame::udp_to_first(mac, [10, 0, 2, 23]);
        assert_eq!((&first.bytes()[..6], &first.bytes()[30..34]), (&[2, 0x46, 0x4b, 0, 0, 0][..], &[10, 0, 2, 16][..]));
        let words = first.bytes()[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        assert_eq!(words.sum::<u32>() % 0xffff, 0);
        let out = Frame::udp_outside(mac, [10, 0, 2, 23]);
        assert_eq!((&out.bytes()[..6], &out.bytes()[30..34]), (&OUTSIDE[..], &FOREIGN[..]));
        assert!(abi::nic::owner_of(OUTSIDE).is_none_or(|(node, _)| node != Node::new(7)));
        let udp = Frame::udp(mac, [10, 0, 2, 16], 67, 68);
        assert_eq!(
            (udp.len, &udp.bytes()[26..30], &udp.bytes()[34..38]),
            (14 + 36, &[10, 0, 2, 16][..], &[0, 67, 0, 68][..])
        );
        let ipv6 = Frame::ipv6(mac, link_local(mac), 58);
        assert_eq!((ipv6.len, ipv6.bytes()[20], ipv6.bytes()[29], ipv6.bytes()[53]), (14 + 40 + 32, 58, 0, 1));
        assert_eq!(ipv6.bytes()[30..38], [0, 0x46, 0x4b, 0xff, 0xfe, 0, 0, 7]);
    }

    #[test]
    fn addresses_come_from_boot_arguments() {
        assert_eq!(address("10.0.2.16/24"), Ipv4Addr::new(10, 0, 2, 16));
        assert_eq!(address("dhcp"), Ipv4Addr::UNSPECIFIED);
    }
}

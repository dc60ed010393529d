//! Datagrams of guests to somebody outside, and what comes back for them, as frames.

use super::{HOST, HOST_MAC};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet,
    IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};
use std::net::Ipv4Addr;

/// Longest payload: what one frame holds, since nobody here puts fragments together.
pub const LONGEST: usize = abi::nic::MAX_FRAME - 14 - 20 - 8;

/// Bytes of a packet that are quoted at most: with them a message has 576 (RFC 1812 4.3.2.3).
const QUOTED: usize = 576 - 20 - 8;

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    pub guest: Ipv4Addr,
    pub guest_port: u16,
    pub to: Ipv4Addr,
    pub port: u16,
}

/// A guest's datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub ends: Ends,
    pub payload: Vec<u8>,
    pub origin: Origin,
}

/// Where a datagram of a guest's has come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    mac: EthernetAddress,
    ends: Ends,
    /// How its packet began, as it was: what is quoted of it.
    quote: Vec<u8>,
}

impl Parcel {
    /// Reads it from a frame to the gateway's MAC, if it is one. Damaged ones are none, and neither are fragments.
    pub fn read(frame: &[u8]) -> Option<Parcel> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4 || frame.dst_addr().0 != HOST_MAC {
            return None;
        }
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        let fragment = packet.more_frags() || packet.frag_offset() != 0;
        if packet.next_header() != IpProtocol::Udp || fragment || !packet.verify_checksum() {
            return None;
        }
        let (guest, to) = (packet.src_addr(), packet.dst_addr());
        let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
        if datagram.dst_port() == 0 || !datagram.verify_checksum(&guest.into(), &to.into()) {
            return None;
        }
        let ends = Ends { guest, guest_port: datagram.src_port(), to, port: datagram.dst_port() };
        let total = usize::from(packet.total_len());
        let quote = frame.payload().get(..total.min(QUOTED))?.to_vec();
        let origin = Origin { mac: frame.src_addr(), ends, quote };
        Some(Parcel { ends, payload: datagram.payload().to_vec(), origin })
    }
}

impl Origin {
    /// A frame for the guest with a datagram from whom it has talked to, of [`LONGEST`] bytes at most.
    pub fn answer(&self, payload: &[u8]) -> Vec<u8> {
        let Ends { guest, guest_port, to, port } = self.ends;
        let datagram = UdpRepr { src_port: port, dst_port: guest_port };
        self.frame(to, IpProtocol::Udp, datagram.header_len() + payload.len(), |bytes| {
            let fill = |bytes: &mut [u8]| bytes.copy_from_slice(payload);
            let sums = ChecksumCapabilities::default();
            let mut packet = UdpPacket::new_unchecked(bytes);
            datagram.emit(&mut packet, &to.into(), &guest.into(), payload.len(), fill, &sums);
        })
    }

    /// A frame that says that the datagram has not arrived (RFC 792). Nobody at that port: whom it was for says so; else the gateway.
    pub fn unreachable(&self, reason: Icmpv4DstUnreachable) -> Vec<u8> {
        let from = if reason == Icmpv4DstUnreachable::PortUnreachable { self.ends.to } else { HOST };
        self.frame(from, IpProtocol::Icmp, 8 + self.quote.len(), |bytes| {
            bytes[8..].copy_from_slice(&self.quote);
            let mut message = Icmpv4Packet::new_unchecked(bytes);
            message.set_msg_type(Icmpv4Message::DstUnreachable);
            message.set_msg_code(reason.into());
            message.fill_checksum();
        })
    }

    fn frame(&self, from: Ipv4Addr, protocol: IpProtocol, len: usize, emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let packet = Ipv4Repr {
            src_addr: from,
            dst_addr: self.ends.guest,
            next_header: protocol,
            payload_len: len,
            hop_limit: 64,
        };
        let header =
            EthernetRepr { src_addr: EthernetAddress(HOST_MAC), dst_addr: self.mac, ethertype: EthernetProtocol::Ipv4 };
        let mut bytes = vec![0; header.buffer_len() + packet.buffer_len() + len];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        header.emit(&mut frame);
        let mut ip = Ipv4Packet::new_unchecked(frame.payload_mut());
        packet.emit(&mut ip, &ChecksumCapabilities::default());
        emit(ip.payload_mut());
        bytes
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A guest's frame with a datagram.
    pub fn frame(ends: Ends, payload: &[u8]) -> Vec<u8> {
        // The answer of its mirror image.
        let Ends { guest, guest_port, to, port } = ends;
        let mirrored = Ends { guest: to, guest_port: port, to: guest, port: guest_port };
        Origin { mac: EthernetAddress(HOST_MAC), ends: mirrored, quote: Vec::new() }.answer(payload)
    }

    const ENDS: Ends =
        Ends { guest: Ipv4Addr::new(10, 0, 2, 16), guest_port: 50_000, to: Ipv4Addr::new(192, 0, 2, 1), port: 53 };

    #[test]
    fn datagrams_are_told_from_everything_else() {
        let good = frame(ENDS, b"hello");
        let parcel = Parcel::read(&good).unwrap();
        assert_eq!((parcel.ends, parcel.payload.as_slice()), (ENDS, &b"hello"[..]));
        for len in 0..good.len() {
            assert_eq!(Parcel::read(&good[..len]), None, "{len} bytes");
        }
        // To another MAC, not IPv4, a fragment, not UDP, damaged headers and a damaged byte.
        for (at, value) in [(0, 0), (12, 0x86), (20, 0x20), (23, 6), (24, 1), (36, 1), (46, b'!')] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Parcel::read(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_message_quotes_what_was_sent_as_it_was() {
        let mut sent = frame(ENDS, b"hello");
        // What nobody here would write.
        (sent[15], sent[18], sent[19], sent[22]) = (0x10, 0x12, 0x34, 9);
        Ipv4Packet::new_unchecked(&mut sent[14..]).fill_checksum();
        let origin = Parcel::read(&sent).unwrap().origin;
        for (reason, from, code) in [
            (Icmpv4DstUnreachable::PortUnreachable, ENDS.to, 3),
            (Icmpv4DstUnreachable::HostUnreachable, HOST, 1),
            (Icmpv4DstUnreachable::CommProhibited, HOST, 13),
        ] {
            let bytes = origin.unreachable(reason);
            let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
            assert!(packet.verify_checksum() && packet.next_header() == IpProtocol::Icmp);
            assert_eq!((packet.src_addr(), packet.dst_addr()), (from, ENDS.guest));
            let message = packet.payload();
            assert!(Icmpv4Packet::new_checked(message).unwrap().verify_checksum());
            assert_eq!((&message[..2], &message[4..8]), (&[3, code][..], &[0; 4][..]));
            assert_eq!(message[8..], sent[14..]);
        }
        let long = Parcel::read(&frame(ENDS, &[7; LONGEST])).unwrap().origin;
        assert_eq!(long.unreachable(Icmpv4DstUnreachable::PortUnreachable).len(), 14 + 576);
    }
}

//! Connections that guests open: to the gateway's address they go on to the host's loopback interface, port by port; to others where
//! [`super::outside`] lets them; elsewhere they are refused at once, so that nobody waits.

use super::{HOST, HOST_MAC, PREFIX};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
    TcpPacket, TcpRepr,
};
use std::net::Ipv4Addr;

/// A guest's segment that opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    guest_mac: EthernetAddress,
    guest: Ipv4Addr,
    guest_port: u16,
    /// Whom the guest wants to reach.
    pub to: Ipv4Addr,
    /// The port that the guest wants to reach.
    pub port: u16,
    sequence: smoltcp::wire::TcpSeqNumber,
}

impl Opening {
    /// Reads it from a frame to the gateway's MAC, if it is one. Damaged ones are none.
    pub fn read(frame: &[u8]) -> Option<Opening> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4 || frame.dst_addr().0 != HOST_MAC {
            return None;
        }
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        let fragment = packet.more_frags() || packet.frag_offset() != 0;
        if packet.next_header() != IpProtocol::Tcp || fragment || !packet.verify_checksum() {
            return None;
        }
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        if !segment.syn() || segment.ack() || segment.rst() || segment.fin() {
            return None;
        }
        segment.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()).then(|| Opening {
            guest_mac: frame.src_addr(),
            guest: packet.src_addr(),
            guest_port: segment.src_port(),
            to: packet.dst_addr(),
            port: segment.dst_port(),
            sequence: segment.seq_number(),
        })
    }

    /// True for the connection of this guest's address and port.
    pub fn is_from(&self, endpoint: smoltcp::wire::IpEndpoint) -> bool {
        endpoint == (self.guest, self.guest_port).into()
    }

    /// A frame that says: nobody takes connections there.
    pub fn refusal(&self) -> Vec<u8> {
        let segment = TcpRepr {
            src_port: self.port,
            dst_port: self.guest_port,
            control: TcpControl::Rst,
            seq_number: smoltcp::wire::TcpSeqNumber(0),
            ack_number: Some(self.sequence + 1),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let packet = Ipv4Repr {
            src_addr: self.to,
            dst_addr: self.guest,
            next_header: IpProtocol::Tcp,
            payload_len: segment.buffer_len(),
            hop_limit: 64,
        };
        let header = EthernetRepr {
            src_addr: EthernetAddress(HOST_MAC),
            dst_addr: self.guest_mac,
            ethertype: EthernetProtocol::Ipv4,
        };
        let sums = ChecksumCapabilities::default();
        let mut bytes = vec![0; header.buffer_len() + packet.buffer_len() + segment.buffer_len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        header.emit(&mut frame);
        let mut ip = Ipv4Packet::new_unchecked(frame.payload_mut());
        packet.emit(&mut ip, &sums);
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        segment.emit(&mut tcp, &self.to.into(), &self.guest.into(), &sums);
        bytes
    }
}

/// True for a frame that the gateway's stack, which has every address, may see: what is for the gateway or for all, and segments to others, which
/// belong to connections that it carries, or to none.
pub fn concerns_host(frame: &[u8]) -> bool {
    let Ok(frame) = EthernetFrame::new_checked(frame) else { return false };
    match frame.ethertype() {
        EthernetProtocol::Arp => frame.payload().get(24..28) == Some(&HOST.octets()),
        EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(frame.payload()).is_ok_and(|packet| {
            let to = packet.dst_addr();
            let here = u32::MAX << (32 - PREFIX);
            to == HOST
                || to.is_broadcast()
                || to.to_bits() == HOST.to_bits() | !here
                || packet.next_header() == IpProtocol::Tcp && (to.to_bits() ^ HOST.to_bits()) & here != 0
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a guest's segment, made of the refusal of its mirror image.
    fn frame(to: Ipv4Addr, change: impl FnOnce(&mut TcpPacket<&mut [u8]>)) -> Vec<u8> {
        let guest = Ipv4Addr::new(10, 0, 2, 16);
        let mirror = Opening {
            guest_mac: EthernetAddress(HOST_MAC),
            guest: to,
            guest_port: 8000,
            to: guest,
            port: 50_000,
            sequence: smoltcp::wire::TcpSeqNumber(6),
        };
        let mut bytes = mirror.refusal();
        let mut ip = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_rst(false);
        tcp.set_ack(false);
        tcp.set_syn(true);
        tcp.fill_checksum(&guest.into(), &to.into());
        change(&mut tcp);
        bytes
    }

    #[test]
    fn openings_are_told_from_everything_else() {
        let opening = Opening::read(&frame(HOST, |_| {})).unwrap();
        assert_eq!(opening.to, HOST);
        assert_eq!((opening.port, opening.guest_port), (8000, 50_000));
        let other = Opening::read(&frame(Ipv4Addr::new(192, 0, 2, 1), |_| {})).unwrap();
        assert_eq!(other.to, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(Opening::read(&frame(HOST, |tcp| tcp.set_ack(true))), None);
        assert_eq!(Opening::read(&frame(HOST, |tcp| tcp.set_dst_port(9))), None, "damaged");
        for len in 0..54 {
            assert_eq!(Opening::read(&frame(HOST, |_| {})[..len]), None);
        }
    }

    #[test]
    fn what_the_gateway_answers_for() {
        let to = |to: [u8; 4], change: fn(&mut [u8])| {
            let mut bytes = frame(Ipv4Addr::from(to), |_| {});
            change(&mut bytes);
            concerns_host(&bytes)
        };
        let ping: fn(&mut [u8]) = |bytes| bytes[23] = 1;
        assert!(
            to(HOST.octets(), |_| {}) && to(HOST.octets(), ping) && to([255; 4], ping) && to([10, 0, 2, 255], ping)
        );
        assert!(to([192, 0, 2, 1], |_| {}) && !to([192, 0, 2, 1], ping), "it does not play others");
        assert!(!to([10, 0, 2, 17], |_| {}) && !to([10, 0, 2, 17], ping));
        let arp: fn(&mut [u8]) = |bytes| {
            bytes[12..14].copy_from_slice(&[8, 6]);
            bytes[38..42].copy_from_slice(&[10, 0, 2, 2]);
        };
        assert!(to([192, 0, 2, 1], arp));
        assert!(!to([192, 0, 2, 1], |bytes| bytes[12..14].copy_from_slice(&[8, 6])), "nor another VM");
        assert!(!to(HOST.octets(), |bytes| bytes[12..14].copy_from_slice(&[0x86, 0xdd])));
    }

    #[test]
    fn a_refusal_answers_the_opening() {
        let opening = Opening::read(&frame(Ipv4Addr::new(192, 0, 2, 1), |_| {})).unwrap();
        let bytes = opening.refusal();
        let ip = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.rst() && tcp.ack() && tcp.ack_number() == opening.sequence + 1);
        assert!(ip.verify_checksum() && tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((ip.src_addr(), tcp.src_port(), tcp.dst_port()), (Ipv4Addr::new(192, 0, 2, 1), 8000, 50_000));
    }
}

//! A first look at a received frame, before anything else sees it: is it whole, are its checksums right, can it come from
//! where it says, and whose is it?

use super::checksum;
use super::frame::{
    ARP, ETHERNET_HEADER, Flow, ICMP, ICMPV6, IPV4, IPV6, Own, Segment, TCP, UDP, be16, be32, mapped, solicited,
};

/// The group of all hosts of the link.
const ALL_NODES: u128 = 0xff02 << 112 | 1;
/// Where DHCP's answers arrive.
const DHCP_CLIENT: u16 = 68;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A TCP segment for this VM.
    Tcp(Segment),
    /// ARP.
    Arp,
    /// An ICMP message; `start`: where it starts, `unicast`: it was sent to this VM alone.
    Icmp { start: usize, unicast: bool },
    /// The same for IPv6, neighbour discovery among it.
    Icmpv6 { start: usize, unicast: bool },
    /// UDP. `port`: ours; `unicast`: it was sent to this VM alone.
    Datagram { port: u16, unicast: bool },
    /// An answer of a DHCP server.
    Dhcp,
    /// A piece of an IPv4 datagram, whose header is right.
    Fragment,
    /// An IPv6 packet for this VM, or for all hosts of the link, with something else than a transport behind its header: see
    /// `extension.rs`.
    Extended { unicast: bool },
    /// Of no use here: not IP, damaged, cut short, for another host, or from an address that no host has.
    Refuse,
}

/// Looks at a frame.
#[inline]
pub(super) fn classify(frame: &[u8], own: &Own) -> Class {
    let class = match be16(frame, 12) {
        Some(IPV4) => ipv4(frame, own),
        Some(IPV6) => ipv6(frame, own),
        Some(ARP) => Some(Class::Arp),
        _ => None,
    };
    class.unwrap_or(Class::Refuse)
}

/// True when no host can have sent a packet from this address to another (RFC 1122 3.2.1.3, RFC 6890): loopback, multicast,
/// reserved, broadcast, or our own.
#[inline]
fn is_martian(source: u32, own: &Own) -> bool {
    source >> 24 == 127 || source >> 28 >= 0xe || (source == own.v4 && source != 0) || is_broadcast(source, own)
}

/// True for the broadcast address of the VM's own network, and for that of all networks.
#[inline]
fn is_broadcast(address: u32, own: &Own) -> bool {
    // Networks of one or two hosts have no broadcast address (RFC 3021).
    address == u32::MAX || (own.v4 != 0 && !own.mask > 1 && address == (own.v4 | !own.mask))
}

#[inline]
fn ipv4(frame: &[u8], own: &Own) -> Option<Class> {
    let packet = &frame[ETHERNET_HEADER..];
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(be16(fixed, 2)?);
    let ttl = fixed[8];
    if fixed[0] >> 4 != 4 || header_len < 20 || total < header_len || ttl == 0 {
        return None;
    }
    let packet = packet.get(..total)?;
    let (header, segment) = packet.split_at(header_len);
    let (source, target) = (be32(fixed, 12)?, be32(fixed, 16)?);
    if !checksum::header_valid(header) || is_martian(source, own) {
        return None;
    }
    if be16(fixed, 6)? & 0x3fff != 0 {
        return Some(Class::Fragment);
    }
    let for_us = target == own.v4 && own.v4 != 0 && source != 0 && frame[0] & 1 == 0;
    let start = ETHERNET_HEADER + header_len;
    transport(frame, fixed[9], mapped(source), &fixed[12..20], segment, start, for_us)
}

#[inline]
fn ipv6(frame: &[u8], own: &Own) -> Option<Class> {
    let packet = &frame[ETHERNET_HEADER..];
    let header: &[u8; 40] = packet.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let segment = packet.get(40..40 + usize::from(be16(header, 4)?))?;
    let remote = u128::from_be_bytes(*header[8..].first_chunk()?);
    let target = u128::from_be_bytes(*header[24..].first_chunk()?);
    // From multicast, loopback, ourselves, or an IPv4 address in disguise; for loopback.
    if header[8] == 0xff || remote == 1 || own.is_v6(remote) || remote >> 32 == 0xffff || target == 1 {
        return None;
    }
    let for_us = own.is_v6(target) && remote != 0 && frame[0] & 1 == 0;
    if !matches!(header[6], TCP | UDP | ICMPV6) {
        // Routers ask all listeners with an alert for routers in front.
        let asks_all = header[6] == 0 && (target == ALL_NODES || target == solicited(own.v6()));
        return (for_us || asks_all).then_some(Class::Extended { unicast: for_us });
    }
    // A peer that calls us by the address that others know us by gets no connection: its answers would come from elsewhere.
    let for_us = for_us && (header[6] != TCP || target == own.v6_for(remote));
    transport(frame, header[6], remote, &header[8..40], segment, ETHERNET_HEADER + 40, for_us)
}

#[inline]
fn transport(
    frame: &[u8],
    protocol: u8,
    remote: u128,
    addresses: &[u8],
    segment: &[u8],
    start: usize,
    for_us: bool,
) -> Option<Class> {
    match protocol {
        TCP => {
            let fixed: &[u8; 20] = segment.first_chunk()?;
            let header_len = usize::from(fixed[12] >> 4) * 4;
            // TCP is between two hosts: what was sent to all is nobody's.
            if !for_us || header_len < 20 || !checksum::segment_valid(addresses, protocol, segment) {
                return None;
            }
            let ports = be32(fixed, 0)?;
            Some(Class::Tcp(Segment {
                flow: Flow { remote, ports },
                hop: *frame.get(6..)?.first_chunk()?,
                start,
                flags: fixed[13],
                seq: be32(fixed, 4)?,
                ack: be32(fixed, 8)?,
                window: be16(fixed, 14)?,
                len: u32::try_from(segment.len().checked_sub(header_len)?).ok()?,
            }))
        }
        UDP => {
            let port = be16(segment, 2)?;
            // A UDP checksum of zero means none, with IPv4 only.
            let valid = match be16(segment, 6)? {
                0 => addresses.len() == 8,
                _ => checksum::segment_valid(addresses, protocol, segment),
            };
            match valid {
                true if port == DHCP_CLIENT && addresses.len() == 8 => Some(Class::Dhcp),
                true => Some(Class::Datagram { port, unicast: for_us }),
                false => None,
            }
        }
        ICMP if addresses.len() == 8 && segment.len() >= 8 => {
            checksum::header_valid(segment).then_some(Class::Icmp { start, unicast: for_us })
        }
        ICMPV6 if addresses.len() == 32 && segment.len() >= 8 => {
            checksum::segment_valid(addresses, protocol, segment).then_some(Class::Icmpv6 { start, unicast: for_us })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{ACK, SYN};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn syn() -> Vec<u8> {
        let mut frame: Vec<u8> = [2; 12].into();
        frame.extend(IPV4.to_be_bytes());
        frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, TCP, 0, 0, 10, 0, 2, 2, 10, 0, 2, 16]);
        frame.extend([0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
        checksum::fill(&mut frame);
        frame
    }

    const OWN: Own = Own { mac: [2; 6], v4: 0x0a00_0210, mask: 0xffff_ff00, id: 2, net: 0 };

    fn classify(frame: &[u8]) -> Class {
        super::classify(frame, &OWN)
    }

    fn class(change: impl FnOnce(&mut Vec<u8>), again: bool) -> Class {
        let mut frame = syn();
        change(&mut frame);
        if again {
            checksum::fill(&mut frame);
        }
        classify(&frame)
    }

    #[test]
    fn a_connection_request() {
        let flow = Flow::new([10, 0, 2, 2].into(), 0x1234, 80);
        let segment = Segment { flow, hop: [2; 6], start: 34, flags: SYN, seq: 1, ack: 0, window: 0x2000, len: 0 };
        assert_eq!(classify(&syn()), Class::Tcp(segment));
        assert_eq!((flow.local_port(), segment.span()), (80, 1));
        assert_eq!(class(|f| f[47] = 0x12, true), Class::Tcp(Segment { flags: SYN | ACK, ..segment }));
        assert_eq!(
            class(|f| f.extend([0; 6]), true),
            Class::Refuse,
            "the checksum covers what IP says, not the padding"
        );
        assert_eq!(class(|f| f.extend([0; 6]), false), Class::Tcp(segment));
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(class(|f| f[30] ^= 1, false), Class::Refuse, "damaged header");
        assert_eq!(class(|f| f[50] ^= 1, false), Class::Refuse, "damaged segment");
        assert_eq!(class(|f| f[20] = 0x20, true), Class::Fragment, "first fragment");
        assert_eq!(class(|f| f[21] = 5, true), Class::Fragment, "later fragment");
        assert_eq!(
            class(|f| f[20..27].copy_from_slice(&[0x20, 0, 64, TCP, 0, 0, 127]), true),
            Class::Refuse,
            "martian"
        );
        assert_eq!(class(|f| f.truncate(50), false), Class::Refuse, "cut short");
        assert_eq!(class(|f| f[14] = 0x4f, true), Class::Refuse, "header longer than the packet");
        assert_eq!(class(|f| f[14] = 0x41, true), Class::Refuse, "header shorter than a header");
        assert_eq!(class(|f| f[17] = 10, true), Class::Refuse, "packet shorter than its header");
        assert_eq!(class(|f| f[46] = 0x40, true), Class::Refuse, "TCP header shorter than a header");
        assert_eq!(class(|f| f[46] = 0xf0, true), Class::Refuse, "TCP header longer than the segment");
        assert_eq!(class(|f| f[12] = 0x99, false), Class::Refuse, "no IP");
        assert_eq!(classify(&[]), Class::Refuse);
        assert_eq!(classify(&[0; 13]), Class::Refuse);
    }

    #[test]
    fn addresses_that_no_host_has() {
        let from = |source: [u8; 4]| class(|f| f[26..30].copy_from_slice(&source), true);
        for (source, why) in [
            ([127, 0, 0, 1], "loopback"),
            ([10, 0, 2, 16], "ourselves (LAND)"),
            ([224, 0, 0, 1], "multicast"),
            ([240, 0, 0, 1], "reserved"),
            ([255, 255, 255, 255], "broadcast"),
            ([10, 0, 2, 255], "broadcast of the network"),
            ([0, 0, 0, 0], "nobody"),
        ] {
            assert_eq!(from(source), Class::Refuse, "{why}");
        }
        assert!(matches!(from([10, 0, 3, 255]), Class::Tcp(_)));
        let to = |target: [u8; 4]| class(|f| f[30..34].copy_from_slice(&target), true);
        for (target, why) in [
            ([10, 0, 2, 17], "another host"),
            ([10, 0, 2, 255], "all hosts"),
            ([255; 4], "all"),
            ([224, 0, 0, 1], "a group"),
        ] {
            assert_eq!(to(target), Class::Refuse, "{why}");
        }
        assert_eq!(class(|f| f[0] = 0xff, true), Class::Refuse, "TCP in a broadcast frame");
        assert_eq!(class(|f| f[22] = 0, true), Class::Refuse, "no hops left");
        assert!(matches!(class(|f| f[22] = 1, true), Class::Tcp(_)));
    }

    proptest! {
        #[test]
        fn any_bytes(mut frame in prop::collection::vec(any::<u8>(), 0..120), kind in prop::sample::select([IPV4, IPV6, ARP, 7].as_slice()), protocol: u8) {
            if let Some(field) = frame.get_mut(12..14) {
                field.copy_from_slice(&kind.to_be_bytes());
            }
            for (at, value) in [(14, if kind == IPV4 { 0x45 } else { 0x60 }), (23, protocol), (20, protocol)] {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            let _ = classify(&frame);
        }
    }
}

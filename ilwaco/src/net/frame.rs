//! A first look at a received frame, before the stack sees it: is it whole, are its checksums right, and whose is it?

use super::checksum;

pub(super) const ETHERNET_HEADER: usize = 14;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// One end of a TCP connection as seen from the other: what names the connection here, since this VM has one address per
/// family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// The peer's address; that of IPv4 in its mapped form.
    pub(super) remote: u128,
    /// The peer's port in the upper, ours in the lower half; 0 for no flow.
    pub(super) ports: u32,
}

impl Flow {
    /// No flow.
    pub(super) const NONE: Flow = Flow { remote: 0, ports: 0 };

    /// From the peer's address and the two ports.
    pub(super) fn new(remote: core::net::IpAddr, remote_port: u16, local_port: u16) -> Flow {
        let remote = match remote {
            core::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
            core::net::IpAddr::V6(address) => address,
        };
        Flow { remote: remote.to_bits(), ports: u32::from(remote_port) << 16 | u32::from(local_port) }
    }

    /// Our port.
    pub(super) fn local_port(self) -> u16 {
        u16::try_from(self.ports & 0xffff).unwrap_or(0)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A TCP segment; `opens`: it asks for a new connection.
    Tcp { flow: Flow, opens: bool },
    /// ARP, or ICMPv6, through which neighbours are found.
    Neighbour,
    /// Anything else for the stack: UDP, ICMP.
    Other,
    /// Of no use here: not IP, damaged, cut short, or a fragment (which this stack does not put together).
    Refuse,
}

/// The big-endian number at `offset`.
#[inline]
pub(super) fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    let (field, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u16::from_be_bytes(*field))
}

/// Looks at a frame.
#[inline]
pub(super) fn classify(frame: &[u8]) -> Class {
    let class = match be16(frame, 12) {
        Some(IPV4) => ipv4(&frame[ETHERNET_HEADER..]),
        Some(IPV6) => ipv6(&frame[ETHERNET_HEADER..]),
        Some(ARP) => Some(Class::Neighbour),
        _ => None,
    };
    class.unwrap_or(Class::Refuse)
}

#[inline]
fn ipv4(packet: &[u8]) -> Option<Class> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(be16(fixed, 2)?);
    if fixed[0] >> 4 != 4 || header_len < 20 || total < header_len || be16(fixed, 6)? & 0x3fff != 0 {
        return None;
    }
    let packet = packet.get(..total)?;
    let (header, segment) = packet.split_at(header_len);
    if !checksum::header_valid(header) {
        return None;
    }
    let remote = u128::from(u32::from_be_bytes(*fixed[12..].first_chunk()?)) | 0xffff << 32;
    transport(fixed[9], remote, &fixed[12..20], segment)
}

#[inline]
fn ipv6(packet: &[u8]) -> Option<Class> {
    let header: &[u8; 40] = packet.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let segment = packet.get(40..40 + usize::from(be16(header, 4)?))?;
    let remote = u128::from_be_bytes(*header[8..].first_chunk()?);
    transport(header[6], remote, &header[8..40], segment)
}

#[inline]
fn transport(protocol: u8, remote: u128, addresses: &[u8], segment: &[u8]) -> Option<Class> {
    match protocol {
        TCP => {
            let fixed: &[u8; 20] = segment.first_chunk()?;
            if !checksum::segment_valid(addresses, protocol, segment) {
                return None;
            }
            let ports = u32::from_be_bytes(*fixed.first_chunk()?);
            // FIN, SYN, RST and ACK: only SYN is set.
            Some(Class::Tcp { flow: Flow { remote, ports }, opens: fixed[13] & 0x17 == 0x02 })
        }
        // A UDP checksum of zero means none, with IPv4 only.
        UDP if be16(segment, 6)? == 0 => (addresses.len() == 8).then_some(Class::Other),
        UDP => checksum::segment_valid(addresses, protocol, segment).then_some(Class::Other),
        ICMP if addresses.len() == 8 => checksum::header_valid(segment).then_some(Class::Other),
        ICMPV6 if addresses.len() == 32 => {
            checksum::segment_valid(addresses, protocol, segment).then_some(Class::Neighbour)
        }
        _ => None,
    }
}

/// True for a frame that asks who has an address: an ARP request or a neighbour solicitation.
#[inline]
pub(super) fn is_solicitation(frame: &[u8]) -> bool {
    match be16(frame, 12) {
        Some(ARP) => be16(frame, 20) == Some(1),
        Some(IPV6) => frame.get(20) == Some(&ICMPV6) && frame.get(54) == Some(&135),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(classify(&syn()), Class::Tcp { flow, opens: true });
        assert_eq!(flow.local_port(), 80);
        assert_eq!(class(|f| f[47] = 0x12, true), Class::Tcp { flow, opens: false });
        assert_eq!(
            class(|f| f.extend([0; 6]), true),
            Class::Refuse,
            "the checksum covers what IP says, not the padding"
        );
        assert_eq!(class(|f| f.extend([0; 6]), false), Class::Tcp { flow, opens: true });
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(class(|f| f[30] ^= 1, false), Class::Refuse, "damaged header");
        assert_eq!(class(|f| f[50] ^= 1, false), Class::Refuse, "damaged segment");
        assert_eq!(class(|f| f[20] = 0x20, true), Class::Refuse, "first fragment");
        assert_eq!(class(|f| f[21] = 5, true), Class::Refuse, "later fragment");
        assert_eq!(class(|f| f.truncate(50), false), Class::Refuse, "cut short");
        assert_eq!(class(|f| f[14] = 0x4f, true), Class::Refuse, "header longer than the packet");
        assert_eq!(class(|f| f[14] = 0x41, true), Class::Refuse, "header shorter than a header");
        assert_eq!(class(|f| f[17] = 10, true), Class::Refuse, "packet shorter than its header");
        assert_eq!(class(|f| f[12] = 0x99, false), Class::Refuse, "no IP");
        assert_eq!(classify(&[]), Class::Refuse);
        assert_eq!(classify(&[0; 13]), Class::Refuse);
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
            let _ = (classify(&frame), is_solicitation(&frame));
        }
    }
}

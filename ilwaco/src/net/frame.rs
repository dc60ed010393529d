//! What frames are made of: the fields of their headers, addresses, and what a TCP segment says.

use smoltcp::wire::Ipv6Address;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_HEADER: usize = 14;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
/// Bytes of an IPv6 header.
pub(super) const IPV6_HEADER: usize = 40;
/// TCP's flags.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
/// A hardware address.
pub(super) type Mac = [u8; 6];

/// What this VM is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) mac: Mac,
    /// The IPv4 address; 0 for none.
    pub(super) v4: u32,
    /// Ones where addresses of the VM's own IPv4 network agree with its own.
    pub(super) mask: u32,
    /// The interface identifier: the lower half of the IPv6 addresses.
    pub(super) id: u64,
    /// The upper half of the IPv6 address that is good beyond the link; 0 for none.
    pub(super) net: u64,
}

impl Own {
    /// The IPv6 link-local address.
    #[inline]
    pub(super) fn v6(&self) -> u128 {
        0xfe80 << 112 | u128::from(self.id)
    }

    /// The IPv6 address that is good beyond the link; 0 for none.
    #[inline]
    pub(super) fn global(&self) -> u128 {
        if self.net == 0 { 0 } else { u128::from(self.net) << 64 | u128::from(self.id) }
    }

    /// True for one of the IPv6 addresses.
    #[inline]
    pub(super) fn is_v6(&self, address: u128) -> bool {
        address == self.v6() || (address == self.global() && address != 0)
    }

    /// The IPv6 address that a peer knows us by: the link-local one for those of the link, and where there is no other.
    #[inline]
    pub(super) fn v6_for(&self, peer: u128) -> u128 {
        if self.net == 0 || is_link_local(peer) { self.v6() } else { self.global() }
    }
}

/// One end of a TCP connection as seen from the other: what names the connection here, since a peer knows this VM by one
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    /// The peer's address; that of IPv4 in its mapped form.
    pub(super) remote: u128,
    /// The peer's port in the upper, ours in the lower half; 0 for no flow.
    pub(super) ports: u32,
}

/// True for addresses of this link alone.
pub(super) fn is_link_local(address: u128) -> bool {
    address >> 118 == 0xfe80 >> 6
}

/// The group that an address's questions go to (RFC 4291 2.7.1).
pub(super) const fn solicited(address: u128) -> u128 {
    0xff02 << 112 | 1 << 32 | 0xff << 24 | (address & 0xff_ffff)
}

/// Where packets for a group go (RFC 2464 7).
pub(super) fn group_mac(group: Ipv6Address) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The mapped form of an IPv4 address.
#[inline]
pub(super) const fn mapped(v4: u32) -> u128 {
    v4 as u128 | 0xffff << 32
}

/// The IPv4 address that an address in mapped form stands for.
#[inline]
pub(super) fn unmapped(address: u128) -> Option<u32> {
    if address >> 32 == 0xffff { u32::try_from(address & 0xffff_ffff).ok() } else { None }
}

impl Flow {
    /// No flow.
    pub(super) const NONE: Flow = Flow { remote: 0, ports: 0 };

    /// From the peer's address and the two ports.
    pub(super) fn new(remote: core::net::IpAddr, remote_port: u16, local_port: u16) -> Flow {
        Flow { remote: address_bits(remote), ports: u32::from(remote_port) << 16 | u32::from(local_port) }
    }

    /// Our port.
    pub(super) fn local_port(self) -> u16 {
        u16::try_from(self.ports & 0xffff).unwrap_or(0)
    }
}

/// An address of either family, that of IPv4 in its mapped form.
pub(super) fn address_bits(address: core::net::IpAddr) -> u128 {
    match address {
        core::net::IpAddr::V4(address) => mapped(address.to_bits()),
        core::net::IpAddr::V6(address) => address.to_bits(),
    }
}

/// What a TCP segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) flow: Flow,
    /// Where its frame comes from.
    pub(super) hop: Mac,
    /// Where its header starts in the frame.
    pub(super) start: usize,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// The window as it stands there, before it is scaled.
    pub(super) window: u16,
    /// Bytes of data.
    pub(super) len: u32,
}

impl Segment {
    /// True when one of these flags is set.
    #[inline]
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Sequence numbers that the segment takes.
    #[inline]
    pub(super) fn span(&self) -> u32 {
        self.len + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }
}

/// The big-endian number at `offset`.
#[inline]
pub(super) fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    let (field, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u16::from_be_bytes(*field))
}

/// The big-endian number at `offset`.
#[inline]
pub(super) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let (field, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u32::from_be_bytes(*field))
}

//! How large packets may be on the way to a peer (RFC 1191, RFC 8201), and messages about that (checked as RFC 5927 asks).

use super::bounded::Bounded;
use super::device::capabilities;
use super::frame::{Flow, IPV4, Own, TCP, be16, be32, mapped};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

/// Peers whose paths are remembered at least, if there are as many.
const PATHS: usize = 64;
/// Paths that an idle VM remembers.
const FEW: usize = 4;
/// How long a path is believed to be narrow (RFC 1191 6.3).
const NARROW_US: u64 = 600_000_000;
/// The size of packets on the wire itself.
pub(super) const WIDE: u16 = 1500;
/// Sizes of packets that links have (RFC 1191 7, and tunnels of today): a path's is rounded down to one of them, so that
/// there are never more than these.
const PLATEAUS: [u16; 12] = [1492, 1480, 1472, 1460, 1450, 1440, 1420, 1400, 1350, 1280, 1006, 576];
/// No smaller ones are believed in: a message that says so would make us send much for little.
const LEAST_V4: u16 = 576;
const LEAST_V6: u16 = 1280;

struct Path {
    mtu: u16,
    since: u64,
}

/// What a router says about a packet of ours that was too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooBig {
    /// The connection that the packet belonged to.
    pub(super) flow: Flow,
    /// Its sequence number.
    pub(super) seq: u32,
    /// The size that fits.
    mtu: u16,
}

impl TooBig {
    /// Reads an ICMP or ICMPv6 message that starts at `start`; `None` where it is about something else.
    pub(super) fn read(frame: &[u8], start: usize, own: &Own) -> Option<TooBig> {
        let message = frame.get(start..)?;
        let quoted = message.get(8..)?;
        let (remote, mtu, size, least, segment) = if be16(frame, 12)? == IPV4 {
            if message[..2] != [3, 4] || quoted.first()? >> 4 != 4 || *quoted.get(9)? != TCP {
                return None;
            }
            if be32(quoted, 12)? != own.v4 {
                return None;
            }
            let header_len = usize::from(quoted[0] & 0x0f) * 4;
            let mtu = u32::from(be16(message, 6)?);
            (mapped(be32(quoted, 16)?), mtu, be16(quoted, 2)?, LEAST_V4, quoted.get(header_len..)?)
        } else {
            if message[0] != 2 || quoted.first()? >> 4 != 6 || *quoted.get(6)? != TCP {
                return None;
            }
            let remote = u128::from_be_bytes(*quoted.get(24..)?.first_chunk()?);
            if u128::from_be_bytes(*quoted.get(8..)?.first_chunk()?) != own.v6_for(remote) {
                return None;
            }
            let size = be16(quoted, 4)?.checked_add(40)?;
            (remote, be32(message, 4)?, size, LEAST_V6, quoted.get(40..)?)
        };
        // Routers of before RFC 1191 do not say what fits.
        let mtu = if mtu == 0 { u32::from(size) - 1 } else { mtu };
        // It must have been too large for that, and what fits a size that links have.
        if mtu >= u32::from(size) {
            return None;
        }
        let fits = PLATEAUS.iter().copied().find(|&plateau| u32::from(plateau) <= mtu);
        let mtu = fits.unwrap_or(least).max(least);
        let ports = be32(segment, 0)?.rotate_left(16);
        Some(TooBig { flow: Flow { remote, ports }, seq: be32(segment, 4)?, mtu })
    }
}

/// Leave to do nothing: of a device that neither sends nor receives.
struct NoToken;

impl RxToken for NoToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&[])
    }
}

impl TxToken for NoToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        f(&mut alloc::vec![0; len])
    }
}

/// A device that only has a size, and perhaps takes several segments in one packet of at most so many bytes.
struct Sized(u16, Option<NonZeroUsize>);

impl Device for Sized {
    type RxToken<'a> = NoToken;
    type TxToken<'a> = NoToken;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = capabilities(Medium::Ip, usize::from(self.0));
        all.segmentation.tcpv4 = self.1;
        all
    }
}

/// An interface whose packets are no larger than this.
pub(super) fn interface(mtu: u16, seed: u64, now: Instant) -> Interface {
    interface_of(Sized(mtu, None), seed, now)
}

fn interface_of(mut size: Sized, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    Interface::new(config, &mut size, now)
}

/// Paths that are narrower than the wire.
pub(super) struct Paths {
    known: Bounded<u128, Path, PATHS>,
    /// One interface for each size in use, of packets and of several segments in one (0: never): an interface has one size, and each connection
    /// may be served by another one.
    narrow: Vec<((u16, usize), Box<Interface>)>,
}

impl Paths {
    pub(super) fn new(seed: u64) -> Paths {
        Paths { known: Bounded::new(seed), narrow: Vec::new() }
    }

    /// The size of packets to a peer.
    #[inline]
    pub(super) fn mtu(&mut self, remote: u128, now: u64) -> u16 {
        match self.known.get_mut(&remote) {
            Some(path) if now < path.since + NARROW_US => path.mtu,
            _ => WIDE,
        }
    }

    /// What a message says about a connection's path is true. The size of its packets.
    pub(super) fn learn(&mut self, message: &TooBig, now: u64) -> u16 {
        self.remember(message.flow.remote, message.mtu, now);
        message.mtu
    }

    /// Packets to this peer are to be no larger than this.
    pub(super) fn remember(&mut self, remote: u128, mtu: u16, now: u64) {
        let mtu = mtu.min(self.mtu(remote, now));
        self.known.insert(remote, Path { mtu, since: now });
    }

    /// The interface for packets of this size, made like `wide`.
    pub(super) fn interface(&mut self, mtu: u16, wide: &Interface, now: Instant) -> &mut Interface {
        self.interface_for((mtu, 0), wide, now)
    }

    /// The same for packets that may hold several segments over IPv4, up to so many bytes.
    #[inline]
    pub(super) fn interface_for(&mut self, size: (u16, usize), wide: &Interface, now: Instant) -> &mut Interface {
        let index = match self.narrow.iter().position(|(other, _)| *other == size) {
            Some(index) => index,
            None => {
                let (mtu, segments) = size;
                let mut narrow = interface_of(Sized(mtu, NonZeroUsize::new(segments)), u64::from(mtu), now);
                narrow.update_ip_addrs(|addresses| addresses.extend(wide.ip_addrs().iter().copied()));
                set_routes(&mut narrow);
                self.narrow.push((size, Box::new(narrow)));
                self.narrow.len() - 1
            }
        };
        &mut self.narrow[index].1
    }

    /// The interface that they are copies of has changed.
    pub(super) fn forget_interfaces(&mut self) {
        self.narrow = Vec::new();
    }

    /// Gives memory that is not in use back to the heap. A few paths take little, and are dear to find out.
    pub(super) fn shrink(&mut self, now: u64) {
        let few = self.known.len() <= FEW;
        self.known.retain(|_, path| few && now < path.since + NARROW_US);
        self.narrow = Vec::new();
    }
}

/// Everything leaves by the one wire: where to, the link layer finds.
pub(super) fn set_routes(iface: &mut Interface) {
    use smoltcp::wire::{Ipv4Address, Ipv6Address};
    let routes = iface.routes_mut();
    // The table has room for two, and is empty.
    let _ = routes.add_default_ipv4_route(Ipv4Address::new(192, 0, 0, 8));
    let _ = routes.add_default_ipv6_route(Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
}

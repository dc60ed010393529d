//! The way out: what a VM may send, and where it goes. Looks at a copy that the VM can no longer change.

use crate::dhcp::{CLIENT_PORT, SERVER_PORT};
use crate::directory::Directory;
use crate::frame::{ARP, ARP_END, ETHERNET, Frame, Head, ICMPV6, IPV4, IPV4_END, IPV6, IPV6_END, Mac, UDP};
use crate::ingress::{self, Receivers};
use abi::vm::Seat;

/// Why a frame of a VM is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The source MAC is not the VM's.
    Mac,
    /// The IPv4 or IPv6 source, the sender in ARP, or the target of a neighbour advertisement is not the VM's.
    Address,
    /// Only a router or a DHCP server sends this.
    Role,
    /// An EtherType other than IPv4, ARP and IPv6, such as a VLAN tag.
    Type,
    /// Too short, too long, or with headers that make no sense.
    Malformed,
}

impl core::fmt::Display for Cause {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(match self {
            Cause::Mac => "its source MAC is not the VM's",
            Cause::Address => "its IP source is not the VM's",
            Cause::Role => "only routers and DHCP servers send this",
            Cause::Type => "its type is neither IPv4 nor ARP nor IPv6",
            Cause::Malformed => "its headers make no sense",
        })
    }
}

/// Where a frame of a VM goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the attached VM in this seat.
    Inside(Seat),
    /// To the wire.
    Outside,
    /// To the attached VM in this seat, and to the wire.
    Both(Seat),
    /// To every other VM, and to the wire.
    Everybody,
}

/// Who sends: what the demultiplexer itself knows about the VM.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Seat of the VM.
    pub seat: Seat,
    /// Its MAC address.
    pub mac: Mac,
    /// Its IPv4 address; 0 while it has none.
    pub ipv4: u32,
}

/// Checks a frame, of [`ETHERNET`] to [`abi::nic::MAX_FRAME`] bytes, and decides where it goes.
///
/// # Errors
///
/// Why it may not leave its VM.
#[inline]
pub fn check(frame: &(impl Frame + ?Sized), sender: Sender, directory: &impl Directory) -> Result<Route, Cause> {
    if frame.len() < ETHERNET || frame.len() > abi::nic::MAX_FRAME {
        return Err(Cause::Malformed);
    }
    let head = frame.head();
    if head.source() != sender.mac {
        return Err(Cause::Mac);
    }
    match head.ethertype() {
        IPV4 => {
            let ports = ipv4(frame, &head, sender)?;
            Ok(route(&head, ports.is_some_and(|(_, to)| to == SERVER_PORT), directory))
        }
        ARP => arp(frame.len(), &head, sender, directory),
        IPV6 => {
            ipv6(frame, &head, sender)?;
            Ok(route(&head, false, directory))
        }
        _ => Err(Cause::Type),
    }
}

/// Where a frame goes that is no ARP question. `for_servers`: it is meant for servers that no VM can be.
#[inline]
fn route(head: &Head, for_servers: bool, directory: &impl Directory) -> Route {
    let destination = head.destination();
    if !destination.is_group() {
        return directory.resident(destination).map_or(Route::Outside, |resident| Route::Inside(resident.seat));
    }
    if destination.is_solicited_node() {
        return directory.solicited(destination).map_or(Route::Outside, Route::Both);
    }
    let unheard = for_servers
        || destination == Mac::ALL_ROUTERS
        || destination == Mac::MLD_REPORTS
        || destination.is_bridge_local();
    if unheard { Route::Outside } else { Route::Everybody }
}

/// Checks IPv4 and returns the UDP ports, source first, of a frame that has them.
#[inline]
fn ipv4(frame: &(impl Frame + ?Sized), head: &Head, sender: Sender) -> Result<Option<(u16, u16)>, Cause> {
    if frame.len() < IPV4_END || head.ip_version() != 4 || head.ipv4_header() < 20 {
        return Err(Cause::Malformed);
    }
    let ports = if head.ipv4_protocol() == UDP && head.ipv4_fragment_offset() == 0 {
        Some(udp_ports(frame, head)?)
    } else {
        None
    };
    if let Some((SERVER_PORT, _)) = ports {
        return Err(Cause::Role);
    }
    let source = head.ipv4_source();
    let asks_for_address = source == 0 && ports == Some((CLIENT_PORT, SERVER_PORT)) && !head.ipv4_is_fragment();
    if asks_for_address || (source != 0 && source == sender.ipv4) { Ok(ports) } else { Err(Cause::Address) }
}

#[inline]
pub(crate) fn udp_ports(frame: &(impl Frame + ?Sized), head: &Head) -> Result<(u16, u16), Cause> {
    if head.ipv4_plain() {
        return if frame.len() < IPV4_END + 4 { Err(Cause::Malformed) } else { Ok(head.ipv4_ports()) };
    }
    let mut buffer = [0; ETHERNET + 60 + 4];
    let ports = frame.copy(&mut buffer).get(ETHERNET + head.ipv4_header()..).unwrap_or(&[]);
    match *ports {
        [a, b, c, d, ..] => Ok((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
        _ => Err(Cause::Malformed),
    }
}

fn arp(len: usize, head: &Head, sender: Sender, directory: &impl Directory) -> Result<Route, Cause> {
    let operation = head.arp_operation();
    if len < ARP_END || !head.arp_is_ipv4() || !matches!(operation, 1 | 2) {
        return Err(Cause::Malformed);
    }
    let claimed = head.arp_sender_ipv4();
    // A probe (RFC 5227, section 1.1) asks without claiming an address.
    let is_probe = operation == 1 && claimed == 0;
    if head.arp_sender() != sender.mac || !(is_probe || (claimed != 0 && claimed == sender.ipv4)) {
        return Err(Cause::Address);
    }
    if head.destination() == Mac::BROADCAST && operation == 1 {
        return Ok(match ingress::arp(len, head, directory) {
            // Nobody outside can answer a question about a VM.
            Receivers::One(seat) if seat != sender.seat => Route::Inside(seat),
            Receivers::All => Route::Everybody,
            _ => Route::Outside,
        });
    }
    Ok(route(head, false, directory))
}

/// Bytes of a frame within which the chain of IPv6 headers must end.
const CHAIN_BYTES: usize = 256;
/// Extension headers that are followed.
const CHAIN_HEADERS: usize = 8;

fn ipv6(frame: &(impl Frame + ?Sized), head: &Head, sender: Sender) -> Result<(), Cause> {
    if frame.len() < IPV6_END || head.ip_version() != 6 {
        return Err(Cause::Malformed);
    }
    let source = head.ipv6_source();
    if source != [0; 16] && !is_own(source, sender) {
        return Err(Cause::Address);
    }
    // TCP has nothing to hide; all else may be a router's or a server's.
    if head.ipv6_next() == 6 { Ok(()) } else { ipv6_chain(frame, head.ipv6_next(), sender) }
}

/// True for a unicast address, of any network, whose interface identifier is the one derived from the VM's MAC.
fn is_own(address: [u8; 16], sender: Sender) -> bool {
    address[0] != 0xff && address[8..] == sender.mac.interface_id()
}

/// Follows the extension headers (RFC 8200, section 4) to what the packet carries. The first fragment must hold the
/// whole chain (RFC 7112), or a router advertisement could hide in the second.
fn ipv6_chain(frame: &(impl Frame + ?Sized), mut next: u8, sender: Sender) -> Result<(), Cause> {
    let mut buffer = [0; CHAIN_BYTES];
    let bytes = frame.copy(&mut buffer);
    let mut rest = bytes.get(IPV6_END..).ok_or(Cause::Malformed)?;
    for _ in 0..CHAIN_HEADERS {
        let skip = match (next, rest) {
            // Hop-by-hop, routing, destination options; mobility has the same form.
            (0 | 43 | 60 | 135, &[following, len, ..]) => {
                next = following;
                (usize::from(len) + 1) * 8
            }
            // Authentication (RFC 4302).
            (51, &[following, len, ..]) => {
                next = following;
                (usize::from(len) + 2) * 4
            }
            (44, &[following, _, high, low, ..]) => {
                if u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                    return Ok(());
                }
                next = following;
                8
            }
            (ICMPV6, message) => return icmpv6(message, sender),
            (UDP, &[high, low, ..]) => {
                // DHCPv6 servers (RFC 8415, section 7.2).
                return if u16::from_be_bytes([high, low]) == 547 { Err(Cause::Role) } else { Ok(()) };
            }
            (0 | 43 | 60 | 135 | 51 | 44 | UDP, _) => return Err(Cause::Malformed),
            _ => return Ok(()),
        };
        rest = rest.get(skip..).ok_or(Cause::Malformed)?;
    }
    Err(Cause::Malformed)
}

fn icmpv6(message: &[u8], sender: Sender) -> Result<(), Cause> {
    match message {
        // Router advertisement, redirect (RFC 4861, sections 4.2 and 4.5).
        [134 | 137, ..] => Err(Cause::Role),
        // Neighbour advertisement: its target is bound to the MAC that it names.
        [136, rest @ ..] => match rest.get(7..).and_then(|target| target.first_chunk::<16>()) {
            Some(&target) if is_own(target, sender) => Ok(()),
            Some(_) => Err(Cause::Address),
            None => Err(Cause::Malformed),
        },
        [_, ..] => Ok(()),
        [] => Err(Cause::Malformed),
    }
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;

//! What a VM that is out would say to whoever wants something of it that it does not have: a reset to who connects to a port at which it does
//! not accept connections (RFC 9293, 3.10.7.1), "port unreachable" to who sends a datagram to one at which it does not listen
//! (RFC 792; RFC 4443, 3.1). Pure.

use crate::frame::{ETHERNET, Frame, Head, ICMPV6, IPV4, IPV4_END, IPV6, IPV6_END, Mac};
use crate::neighbours::{Begins, ICMP, TCP, checksum};

/// Bytes of the longest refusal.
pub const REFUSAL_BYTES: usize = IPV6_END + ICMP_HEADER + QUOTED;
const ICMP_HEADER: usize = 8;
/// Bytes of a packet that are quoted at most: an IPv4 header with all options and 8 bytes, or an IPv6 header and 28.
const QUOTED: usize = 68;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const HOPS: u8 = 64;

/// The refusal of what `begins` with a packet for the VM with this MAC, and its bytes. `None`: nothing is said, since it
/// came from nobody or is for more than one.
pub fn refuse(
    frame: &(impl Frame + ?Sized),
    head: &Head,
    begins: Begins,
    mac: Mac,
    out: &mut [u8; REFUSAL_BYTES],
) -> Option<usize> {
    let mut buffer = [0; ETHERNET + 60 + TCP_HEADER];
    let bytes = frame.copy(&mut buffer);
    let envelope = Envelope::of(bytes, head)?;
    let at = envelope.at();
    let (protocol, len) = match begins {
        Begins::Connection(_) => (TCP, reset(bytes, &envelope, out.get_mut(at..)?)?),
        Begins::Datagram(_) => (envelope.icmp(), unreachable(bytes, &envelope, out.get_mut(at..)?)?),
        Begins::Echo | Begins::LaterFragment | Begins::Nothing | Begins::Other => return None,
    };
    envelope.write(head, mac, protocol, len, out)?;
    Some(at + len)
}

/// Where the headers of a packet end, and who sent it to whom.
enum Envelope<'b> {
    Ipv4 { payload: usize, end: usize, source: &'b [u8], destination: &'b [u8] },
    Ipv6 { end: usize, source: &'b [u8], destination: &'b [u8] },
}

impl<'b> Envelope<'b> {
    fn of(bytes: &'b [u8], head: &Head) -> Option<Envelope<'b>> {
        if head.source().is_group() {
            return None;
        }
        let (high, low) = (*bytes.get(16)?, *bytes.get(17)?);
        match head.ethertype() {
            IPV4 => {
                let (source, destination) = (bytes.get(26..30)?, bytes.get(30..34)?);
                // This net, loopback, groups and what is reserved behind them (RFC 1122, 3.2.1.3).
                let is_host = !matches!(source[0], 0 | 127 | 224..);
                let payload = ETHERNET + head.ipv4_header();
                let end = ETHERNET + usize::from(u16::from_be_bytes([high, low]));
                is_host.then_some(Envelope::Ipv4 { payload, end, source, destination })
            }
            IPV6 => {
                let (source, destination) = (bytes.get(22..38)?, bytes.get(38..54)?);
                let is_host = source[0] != 0xff && source[..15].iter().any(|&byte| byte != 0);
                let (high, low) = (*bytes.get(18)?, *bytes.get(19)?);
                let end = IPV6_END + usize::from(u16::from_be_bytes([high, low]));
                (is_host && destination[0] != 0xff).then_some(Envelope::Ipv6 { end, source, destination })
            }
            _ => None,
        }
    }

    /// Where the payload of an answer lies.
    fn at(&self) -> usize {
        match self {
            Envelope::Ipv4 { .. } => IPV4_END,
            Envelope::Ipv6 { .. } => IPV6_END,
        }
    }

    /// Where that of the packet does, and where it ends by its own account.
    fn payload(&self) -> (usize, usize) {
        match *self {
            Envelope::Ipv4 { payload, end, .. } => (payload, end),
            Envelope::Ipv6 { end, .. } => (IPV6_END, end),
        }
    }

    fn icmp(&self) -> u8 {
        match self {
            Envelope::Ipv4 { .. } => ICMP,
            Envelope::Ipv6 { .. } => ICMPV6,
        }
    }

    /// The headers before an answer's payload, and the checksum in that.
    fn write(&self, head: &Head, mac: Mac, protocol: u8, len: usize, out: &mut [u8]) -> Option<()> {
        let at = self.at();
        out[..6].copy_from_slice(&head.source().bytes());
        out[6..12].copy_from_slice(&mac.bytes());
        let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
        let pseudo = match self {
            Envelope::Ipv4 { source, destination, .. } => {
                out[12..14].copy_from_slice(&IPV4.to_be_bytes());
                let [total_high, total_low] = u16::try_from(20 + len).ok()?.to_be_bytes();
                // Don't fragment, no identification (RFC 6864).
                out[14..26].copy_from_slice(&[0x45, 0, total_high, total_low, 0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
                out[26..30].copy_from_slice(destination);
                out[30..34].copy_from_slice(source);
                let sum = !checksum(&out[14..34], 0);
                out[24..26].copy_from_slice(&sum.to_be_bytes());
                if protocol == ICMP { 0 } else { u32::from(checksum(&out[26..34], u32::from(protocol))) }
            }
            Envelope::Ipv6 { source, destination, .. } => {
                out[12..14].copy_from_slice(&IPV6.to_be_bytes());
                out[14..22].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol, HOPS]);
                out[22..38].copy_from_slice(destination);
                out[38..54].copy_from_slice(source);
                u32::from(checksum(&out[22..54], u32::from(protocol)))
            }
        };
        let length = if protocol == ICMP { 0 } else { u32::from(u16::from_be_bytes([high, low])) };
        let sum = !checksum(&out[at..at + len], pseudo + length);
        let field = at + if protocol == TCP { 16 } else { 2 };
        out[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        Some(())
    }
}

/// A reset that acknowledges all of a segment, without its checksum.
fn reset(bytes: &[u8], envelope: &Envelope<'_>, out: &mut [u8]) -> Option<usize> {
    let (at, end) = envelope.payload();
    let segment = bytes.get(at..at + TCP_HEADER)?;
    let header = usize::from(segment[12] >> 4) * 4;
    let data = u32::try_from(end.checked_sub(at + header)?).ok()?;
    let sequence = u32::from_be_bytes(*segment.get(4..)?.first_chunk()?);
    let out = out.get_mut(..TCP_HEADER)?;
    out.fill(0);
    out[..2].copy_from_slice(&segment[2..4]);
    out[2..4].copy_from_slice(&segment[..2]);
    // A SYN counts as one.
    out[8..12].copy_from_slice(&sequence.wrapping_add(data).wrapping_add(1).to_be_bytes());
    out[12..14].copy_from_slice(&[0x50, 0x14]);
    Some(TCP_HEADER)
}

/// "Port unreachable" with the beginning of the packet, without its checksum.
fn unreachable(bytes: &[u8], envelope: &Envelope<'_>, out: &mut [u8]) -> Option<usize> {
    let (at, end) = envelope.payload();
    let (kind, most) = match envelope {
        Envelope::Ipv4 { .. } => ([3, 3], at + UDP_HEADER),
        Envelope::Ipv6 { .. } => ([1, 4], ETHERNET + QUOTED),
    };
    // It may say that it is shorter than its header.
    let whole = end.min(bytes.len());
    let quoted = bytes.get(ETHERNET..most.min(whole)).filter(|_| at + UDP_HEADER <= whole)?;
    let out = out.get_mut(..ICMP_HEADER + quoted.len())?;
    out[..ICMP_HEADER].fill(0);
    out[..2].copy_from_slice(&kind);
    out[ICMP_HEADER..].copy_from_slice(quoted);
    Some(out.len())
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;

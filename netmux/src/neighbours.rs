//! Questions for the link-layer address of a VM that is out, and the answers that it would give: ARP (RFC 826, RFC 5227) and neighbour
//! solicitation (RFC 4861). And which packets such a VM has to see ([`crate::refusals`] has the answers to others).

use crate::frame::{ARP, ARP_END, ETHERNET, Frame, Head, ICMPV6, IPV4, IPV4_END, IPV6, IPV6_END, Mac};

/// Bytes of the longest answer.
pub const ANSWER_BYTES: usize = IPV6_END + ADVERTISEMENT;
/// A neighbour advertisement with the option that says the link-layer address.
const ADVERTISEMENT: usize = 32;
/// A neighbour solicitation, without options.
const SOLICITATION: usize = 24;
pub const TCP: u8 = 6;
const UDP: u8 = 17;
pub const ICMP: u8 = 1;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who has this IPv4 address?
    Ipv4(u32),
    /// Who has this IPv6 address?
    Ipv6([u8; 16]),
}

impl Question {
    /// The question that a frame asks, if it does.
    pub fn of(frame: &(impl Frame + ?Sized), head: &Head) -> Option<Question> {
        match head.ethertype() {
            ARP if frame.len() >= ARP_END && head.arp_is_ipv4() && head.arp_operation() == 1 => {
                // An announcement is none.
                let asked = head.arp_target_ipv4();
                (asked != head.arp_sender_ipv4()).then_some(Question::Ipv4(asked))
            }
            IPV6 if frame.len() >= IPV6_END + SOLICITATION && head.ipv6_next() == ICMPV6 => {
                let mut buffer = [0; IPV6_END + SOLICITATION];
                let bytes = frame.copy(&mut buffer);
                let (hops, message) = (bytes.get(ETHERNET + 7)?, bytes.get(IPV6_END..)?);
                let target = message.get(8..24)?.first_chunk::<16>()?;
                (*hops == 255 && message[0] == 135 && message[1] == 0).then_some(Question::Ipv6(*target))
            }
            _ => None,
        }
    }
}

/// The answer to an ARP question that `head` asks: the address is that of the VM with this MAC.
pub fn arp_answer(head: &Head, mac: Mac, out: &mut [u8; ANSWER_BYTES]) -> usize {
    let (asker, asker_ipv4) = (head.arp_sender(), head.arp_sender_ipv4());
    out[..6].copy_from_slice(&asker.bytes());
    out[6..12].copy_from_slice(&mac.bytes());
    out[12..14].copy_from_slice(&ARP.to_be_bytes());
    out[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    out[22..28].copy_from_slice(&mac.bytes());
    out[28..32].copy_from_slice(&head.arp_target_ipv4().to_be_bytes());
    out[32..38].copy_from_slice(&asker.bytes());
    out[38..42].copy_from_slice(&asker_ipv4.to_be_bytes());
    ARP_END
}

/// The answer to a neighbour solicitation that `head` asks for `target`, an address of the VM with this MAC.
pub fn advertisement(head: &Head, target: [u8; 16], mac: Mac, out: &mut [u8; ANSWER_BYTES]) -> usize {
    // Who asks whether an address is free has none himself, and everybody is told (RFC 4861, section 7.2.4).
    let asker = head.ipv6_source();
    let is_probe = asker == [0; 16];
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let (to, to_mac) = if is_probe { (ALL_NODES, Mac::new([0x33, 0x33, 0, 0, 0, 1])) } else { (asker, head.source()) };
    out[..6].copy_from_slice(&to_mac.bytes());
    out[6..12].copy_from_slice(&mac.bytes());
    out[12..14].copy_from_slice(&IPV6.to_be_bytes());
    // Version, length, ICMPv6, hop limit.
    out[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    out[22..38].copy_from_slice(&target);
    out[38..54].copy_from_slice(&to);
    // Solicited unless it is a probe, override.
    out[54..62].copy_from_slice(&[136, 0, 0, 0, if is_probe { 0x20 } else { 0x60 }, 0, 0, 0]);
    out[62..78].copy_from_slice(&target);
    out[78..80].copy_from_slice(&[2, 1]);
    out[80..86].copy_from_slice(&mac.bytes());
    let sum = !checksum(&out[22..86], u32::from(ICMPV6) + 32);
    out[56..58].copy_from_slice(&sum.to_be_bytes());
    ANSWER_BYTES
}

/// The sum of the Internet checksum (RFC 1071) over a few hundred bytes, and `more`.
pub fn checksum(bytes: &[u8], more: u32) -> u16 {
    let mut sum = more;
    let (pairs, rest) = bytes.as_chunks::<2>();
    for pair in pairs {
        sum += u32::from(u16::from_be_bytes(*pair));
    }
    sum += rest.first().map_or(0, |&last| u32::from(last) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Both halves of a sum that was folded.
    u16::try_from(sum).unwrap_or(0)
}

/// What a packet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// A connection to this TCP port.
    Connection(u16),
    /// A datagram came to this UDP port.
    Datagram(u16),
    /// A question whether somebody is there.
    Echo,
    /// A piece of a packet without its ports.
    LaterFragment,
    /// Nothing: a datagram that is cut off within its header.
    Nothing,
    /// Nothing either, but it may belong to a connection, or say something about one.
    Other,
}

impl Begins {
    /// What a packet begins.
    pub fn of(frame: &(impl Frame + ?Sized), head: &Head) -> Begins {
        let (protocol, at, echo) = match head.ethertype() {
            IPV4 if frame.len() >= IPV4_END && head.ip_version() == 4 && head.ipv4_header() >= 20 => {
                if head.ipv4_fragment_offset() != 0 {
                    return Begins::LaterFragment;
                }
                (head.ipv4_protocol(), ETHERNET + head.ipv4_header(), (ICMP, 8))
            }
            IPV6 if frame.len() >= IPV6_END && head.ip_version() == 6 => (head.ipv6_next(), IPV6_END, (ICMPV6, 128)),
            _ => return Begins::Other,
        };
        let mut buffer = [0; ETHERNET + 60 + 14];
        match (protocol, frame.copy(&mut buffer).get(at..).unwrap_or(&[])) {
            (UDP, &[_, _, high, low, _, _, _, _, ..]) => Begins::Datagram(u16::from_be_bytes([high, low])),
            (UDP, _) => Begins::Nothing,
            // SYN, and neither ACK nor RST nor FIN.
            (TCP, &[_, _, high, low, _, _, _, _, _, _, _, _, _, flags, ..]) if flags & 0x17 == 2 => {
                Begins::Connection(u16::from_be_bytes([high, low]))
            }
            (_, &[kind, ..]) if (protocol, kind) == echo => Begins::Echo,
            _ => Begins::Other,
        }
    }
}

#[cfg(test)]
#[path = "neighbours_tests.rs"]
mod tests;

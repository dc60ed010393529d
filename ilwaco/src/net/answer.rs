//! Answers that need no socket: segments without a connection, echoes, errors. Every byte of them is written here; nothing is
//! left as the slot held it before, and what is quoted is quoted as it arrived.

use super::checksum;
use super::frame::{ACK, ETHERNET_HEADER, ICMP, ICMPV6, IPV4, Own, RST, SYN, Segment, TCP, be16};

/// The largest datagram that an error for IPv4 may be (RFC 1812 4.3.2.3).
const ERROR_V4: usize = 576;
/// The same for IPv6 (RFC 4443 2.4).
const ERROR_V6: usize = 1280;
/// Bytes of the longest segment that is written here: headers of Ethernet, IPv6 and TCP, and twelve bytes of options.
const SEGMENT: usize = ETHERNET_HEADER + 40 + 20 + 12;

/// What a segment without data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
}

impl Control {
    /// The reset that a segment without a connection gets (RFC 9293 3.10.7.1); `None` for one that is a reset itself.
    pub(super) fn reset(segment: &Segment) -> Option<Control> {
        if segment.has(RST) {
            return None;
        }
        Some(if segment.has(ACK) {
            Control { seq: segment.ack, ack: 0, flags: RST, window: 0 }
        } else {
            Control { seq: 0, ack: segment.seq.wrapping_add(segment.span()), flags: RST | ACK, window: 0 }
        })
    }
}

/// A short frame.
pub(super) struct Short {
    bytes: [u8; SEGMENT],
    len: usize,
}

impl Short {
    fn new() -> Short {
        Short { bytes: [0; SEGMENT], len: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        // Everything that is written here fits.
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The headers of Ethernet and IP of an answer with `len` bytes behind them, to whoever sent `received`.
fn headers(received: &[u8], protocol: u8, len: usize, mut put: impl FnMut(&[u8])) {
    let word = |value: usize| u16::try_from(value).unwrap_or(0).to_be_bytes();
    put(&received[6..12]);
    put(&received[..6]);
    put(&received[12..14]);
    if is_v4(received) {
        put(&[0x45, 0]);
        put(&word(20 + len));
        // No identification: it is never fragmented (RFC 6864 4.1).
        put(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        put(&received[30..34]);
        put(&received[26..30]);
    } else {
        put(&[0x60, 0, 0, 0]);
        put(&word(len));
        // Neighbour discovery believes nobody who is further away.
        put(&[protocol, if protocol == ICMPV6 { 255 } else { 64 }]);
        put(&received[38..54]);
        put(&received[22..38]);
    }
}

fn is_v4(frame: &[u8]) -> bool {
    be16(frame, 12) == Some(IPV4)
}

/// A segment without data for whoever sent `received`. `offer`: for the answer to a SYN, whether beside the largest segment it
/// offers a scale of the window (always 0) and selective acknowledgements.
pub(super) fn segment(received: &[u8], heard: &Segment, control: Control, offer: Option<(bool, bool)>) -> Short {
    let mut options = Short::new();
    if let Some((scale, sack)) = offer {
        let mss: u16 = if is_v4(received) { 1460 } else { 1440 };
        options.push(&[2, 4]);
        options.push(&mss.to_be_bytes());
        if scale {
            options.push(&[3, 3, 0, 1]);
        }
        if sack {
            options.push(&[4, 2, 1, 1]);
        }
    }
    let options = options.bytes();
    let mut frame = Short::new();
    headers(received, TCP, 20 + options.len(), |bytes| frame.push(bytes));
    let ports = heard.flow.ports.rotate_left(16);
    frame.push(&ports.to_be_bytes());
    frame.push(&control.seq.to_be_bytes());
    frame.push(&control.ack.to_be_bytes());
    frame.push(&[u8::try_from((20 + options.len()) / 4).unwrap_or(5) << 4, control.flags]);
    frame.push(&control.window.to_be_bytes());
    frame.push(&[0; 4]);
    frame.push(options);
    let len = frame.len;
    checksum::fill(&mut frame.bytes[..len]);
    frame
}

/// Bytes of IP's payload in a frame whose ICMP message starts at `start`.
fn message_len(received: &[u8], start: usize) -> Option<usize> {
    let end = if is_v4(received) { usize::from(be16(received, 16)?) } else { 40 + usize::from(be16(received, 18)?) };
    (ETHERNET_HEADER + end).checked_sub(start)
}

/// Bytes of the answer to an echo request.
pub(super) fn echo_len(received: &[u8], start: usize) -> Option<usize> {
    let header = if is_v4(received) { 20 } else { 40 };
    Some(ETHERNET_HEADER + header + message_len(received, start)?)
}

/// Writes the answer to an echo request.
pub(super) fn echo(received: &[u8], start: usize, frame: &mut [u8]) {
    let Some(len) = message_len(received, start) else { return };
    let (protocol, kind) = if is_v4(received) { (ICMP, 0) } else { (ICMPV6, 129) };
    let mut at = 0;
    headers(received, protocol, len, |bytes| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    });
    frame[at..at + len].copy_from_slice(&received[start..start + len]);
    frame[at..at + 2].copy_from_slice(&[kind, 0]);
    checksum::fill(frame);
}

/// Bytes that an error quotes of a packet.
fn quoted(received: &[u8]) -> Option<&[u8]> {
    let (len, most) = if is_v4(received) {
        (usize::from(be16(received, 16)?), ERROR_V4 - 20 - 8)
    } else {
        (40 + usize::from(be16(received, 18)?), ERROR_V6 - 40 - 8)
    };
    received.get(ETHERNET_HEADER..ETHERNET_HEADER + len.min(most))
}

/// Bytes of the message that nobody listens at a port.
pub(super) fn unreachable_len(received: &[u8]) -> Option<usize> {
    let header = if is_v4(received) { 20 } else { 40 };
    Some(ETHERNET_HEADER + header + 8 + quoted(received)?.len())
}

/// Writes the message that nobody listens at a port (RFC 792, RFC 4443 3.1).
pub(super) fn port_unreachable(received: &[u8], frame: &mut [u8]) {
    let Some(quoted) = quoted(received) else { return };
    let (protocol, kind, code) = if is_v4(received) { (ICMP, 3, 3) } else { (ICMPV6, 1, 4) };
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    headers(received, protocol, 8 + quoted.len(), &mut put);
    put(&[kind, code, 0, 0, 0, 0, 0, 0]);
    put(quoted);
    checksum::fill(frame);
}

/// The answer to a SYN, with a cookie in it.
pub(super) fn syn_ack(seq: u32, heard: &Segment, window: u16) -> Control {
    Control { seq, ack: heard.seq.wrapping_add(1), flags: SYN | ACK, window }
}

/// A SYN as the peer sent it, told to a socket once the peer has shown that it got the answer: an IP packet.
pub(super) struct Retold {
    bytes: [u8; 40 + 20 + 12],
    len: usize,
}

impl Retold {
    /// From the peer's first segment after the handshake, or a later one, and what the cookie holds. `mss`: the largest segment
    /// that can go to the peer.
    pub(super) fn new(heard: &Segment, own: &Own, offer: super::cookie::Offer, mss: u16) -> Retold {
        let mut retold = Retold { bytes: [0; 72], len: 0 };
        let mut put = |bytes: &[u8]| {
            retold.bytes[retold.len..retold.len + bytes.len()].copy_from_slice(bytes);
            retold.len += bytes.len();
        };
        match super::frame::unmapped(heard.flow.remote) {
            Some(remote) => {
                put(&[0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
                put(&remote.to_be_bytes());
                put(&own.v4.to_be_bytes());
            }
            None => {
                put(&[0x60, 0, 0, 0, 0, 32, TCP, 64]);
                put(&heard.flow.remote.to_be_bytes());
                put(&own.v6.to_be_bytes());
            }
        }
        put(&heard.flow.ports.to_be_bytes());
        put(&heard.seq.wrapping_sub(1).to_be_bytes());
        put(&[0, 0, 0, 0, 32 << 2, SYN, 0xff, 0xff, 0, 0, 0, 0, 2, 4]);
        put(&mss.to_be_bytes());
        match offer.scale {
            Some(scale) => put(&[3, 3, scale, 1]),
            None => put(&[1; 4]),
        }
        put(if offer.sack { &[4, 2, 1, 1] } else { &[1; 4] });
        retold
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

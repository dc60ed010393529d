//! Answers that need no socket: segments without a connection, echoes, errors. Every byte of them is written here; nothing is
//! left as the slot held it before, and what is quoted is quoted as it arrived.

use super::checksum;
use super::frame::{ACK, ETHERNET_HEADER, Flow, ICMP, ICMPV6, IPV4, Own, RST, SYN, Segment, TCP, be16};

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

    /// Pieces of a length that is known when this is compiled cost an instruction or two.
    #[inline]
    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        // Everything that is written here fits.
        if let Some(place) = self.bytes.get_mut(self.len..self.len + N) {
            place.copy_from_slice(&bytes);
            self.len += N;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The headers of Ethernet and IP of an answer with `len` bytes behind them, to whoever sent `received`.
fn headers(received: &[u8], protocol: u8, len: usize) -> Short {
    let mut frame = Short::new();
    let word = |value: usize| u16::try_from(value).unwrap_or(0).to_be_bytes();
    // Nothing comes here that is shorter than its headers.
    fn field<const N: usize>(received: &[u8], at: usize) -> [u8; N] {
        received.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
    frame.push::<6>(field(received, 6));
    frame.push::<6>(field(received, 0));
    frame.push::<2>(field(received, 12));
    if is_v4(received) {
        frame.push([0x45, 0]);
        frame.push(word(20 + len));
        // No identification: it is never fragmented (RFC 6864 4.1).
        frame.push([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.push::<4>(field(received, 30));
        frame.push::<4>(field(received, 26));
    } else {
        frame.push([0x60, 0, 0, 0]);
        frame.push(word(len));
        frame.push([protocol, 64]);
        frame.push::<16>(field(received, 38));
        frame.push::<16>(field(received, 22));
    }
    frame
}

fn is_v4(frame: &[u8]) -> bool {
    be16(frame, 12) == Some(IPV4)
}

/// A segment without data for whoever sent `heard`. `offer`: for the answer to a SYN, whether beside the largest segment it
/// offers a scale of the window (always 0) and selective acknowledgements.
#[inline]
pub(super) fn segment(heard: &Segment, own: &Own, control: Control, offer: Option<(bool, bool)>) -> Short {
    let words = offer.map_or(5, |(scale, sack)| 6 + u8::from(scale) + u8::from(sack));
    let mut frame = Short::new();
    frame.push(heard.hop);
    frame.push(own.mac);
    let largest: u16 = match super::frame::unmapped(heard.flow.remote) {
        Some(remote) => {
            // No identification: it is never fragmented (RFC 6864 4.1).
            frame.push([8, 0, 0x45, 0, 0, 20 + words * 4, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
            frame.push(own.v4.to_be_bytes());
            frame.push(remote.to_be_bytes());
            1460
        }
        None => {
            frame.push([0x86, 0xdd, 0x60, 0, 0, 0, 0, words * 4, TCP, 64]);
            frame.push(own.v6_for(heard.flow.remote).to_be_bytes());
            frame.push(heard.flow.remote.to_be_bytes());
            1440
        }
    };
    frame.push(heard.flow.ports.rotate_left(16).to_be_bytes());
    frame.push(control.seq.to_be_bytes());
    frame.push(control.ack.to_be_bytes());
    frame.push([words << 4, control.flags]);
    frame.push(control.window.to_be_bytes());
    frame.push([0; 4]);
    if let Some((scale, sack)) = offer {
        let [high, low] = largest.to_be_bytes();
        frame.push([2, 4, high, low]);
        if scale {
            frame.push([3, 3, 0, 1]);
        }
        if sack {
            frame.push([4, 2, 1, 1]);
        }
    }
    let len = frame.len;
    checksum::fill(&mut frame.bytes[..len]);
    frame
}

/// A segment without data that a peer might have sent, for a socket: a frame.
pub(super) fn tell(flow: Flow, own: &Own, control: Control) -> Short {
    let mut frame = Short::new();
    frame.push([0; 12]);
    match super::frame::unmapped(flow.remote) {
        Some(remote) => {
            frame.push([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
            frame.push(remote.to_be_bytes());
            frame.push(own.v4.to_be_bytes());
        }
        None => {
            frame.push([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, TCP, 64]);
            frame.push(flow.remote.to_be_bytes());
            frame.push(own.v6_for(flow.remote).to_be_bytes());
        }
    }
    frame.push(flow.ports.to_be_bytes());
    frame.push(control.seq.to_be_bytes());
    frame.push(control.ack.to_be_bytes());
    frame.push([5 << 4, control.flags]);
    frame.push(control.window.to_be_bytes());
    frame.push([0; 4]);
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
    let headers = headers(received, protocol, len);
    let at = headers.len;
    frame[..at].copy_from_slice(headers.bytes());
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
    let headers = headers(received, protocol, 8 + quoted.len());
    let at = headers.len;
    frame[..at].copy_from_slice(headers.bytes());
    frame[at..at + 8].copy_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
    frame[at + 8..].copy_from_slice(quoted);
    checksum::fill(frame);
}

/// Bytes of the message that a packet's headers cannot be understood.
pub(super) fn problem_len(received: &[u8]) -> Option<usize> {
    unreachable_len(received).filter(|_| !is_v4(received))
}

/// Writes the message that an IPv6 packet's headers cannot be understood (RFC 4443 3.4). `pointer`: where in the packet.
pub(super) fn problem(received: &[u8], frame: &mut [u8], code: u8, pointer: u32) {
    let Some(quoted) = quoted(received) else { return };
    let headers = headers(received, ICMPV6, 8 + quoted.len());
    let at = headers.len;
    frame[..at].copy_from_slice(headers.bytes());
    frame[at..at + 4].copy_from_slice(&[4, code, 0, 0]);
    frame[at + 4..at + 8].copy_from_slice(&pointer.to_be_bytes());
    frame[at + 8..].copy_from_slice(quoted);
    checksum::fill(frame);
}

/// The options of a segment in its frame.
pub(super) fn options<'a>(frame: &'a [u8], segment: &Segment) -> Option<&'a [u8]> {
    let header_len = usize::from(frame.get(segment.start + 12)? >> 4) * 4;
    frame.get(segment.start + 20..segment.start + header_len)
}

/// The answer to a SYN, with a cookie in it.
pub(super) fn syn_ack(seq: u32, heard: &Segment, window: u16) -> Control {
    Control { seq, ack: heard.seq.wrapping_add(1), flags: SYN | ACK, window }
}

/// A SYN as the peer sent it, told to a socket once the peer has shown that it got the answer: an IP packet. From the peer's
/// first segment after the handshake, and what the cookie holds. `mss`: the largest segment that can go to the peer.
pub(super) fn retell(heard: &Segment, own: &Own, offer: super::cookie::Offer, mss: u16) -> Short {
    let mut packet = Short::new();
    match super::frame::unmapped(heard.flow.remote) {
        Some(remote) => {
            packet.push([0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
            packet.push(remote.to_be_bytes());
            packet.push(own.v4.to_be_bytes());
        }
        None => {
            packet.push([0x60, 0, 0, 0, 0, 32, TCP, 64]);
            packet.push(heard.flow.remote.to_be_bytes());
            packet.push(own.v6_for(heard.flow.remote).to_be_bytes());
        }
    }
    packet.push(heard.flow.ports.to_be_bytes());
    packet.push(heard.seq.wrapping_sub(1).to_be_bytes());
    packet.push([0, 0, 0, 0, 32 << 2, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let [high, low] = mss.to_be_bytes();
    packet.push([2, 4, high, low]);
    packet.push(offer.scale.map_or([1; 4], |scale| [3, 3, scale, 1]));
    packet.push(if offer.sack { [4, 2, 1, 1] } else { [1; 4] });
    packet
}

//! The headers of content's segments, and what the peer's options say of it.

use super::frame::{ACK, ETHERNET_HEADER, Flow, IPV4, IPV6, Own, TCP, be32, unmapped};
use super::options::options;
use super::track::Track;
use abi::nic::MIN_SEGMENT;

/// Bytes of a TCP header without options.
pub(super) const TCP_HEADER: usize = 20;
/// Bytes of all headers of a segment, Ethernet's included, at most.
pub(super) const HEADERS_MOST: usize = ETHERNET_HEADER + 40 + 60;
/// Bytes of options that a socket's segments can have.
const OPTIONS_MOST: u16 = 40;
/// Ranges that fit into a segment's options.
pub(super) const MAX_RANGES: usize = 4;

/// Bytes of a full segment of a connection.
pub(super) fn segment_size(flow: Flow, track: &Track) -> u16 {
    let headers = if unmapped(flow.remote).is_some() { 40 } else { 60 };
    track.peer.segment.min(track.mtu.saturating_sub(headers)).max(1)
}

/// The same where several may leave in one piece, to be cut: over IPv4, and large enough whatever options a socket adds.
#[inline]
pub(super) fn cut_size(flow: Flow, track: &Track) -> Option<u16> {
    let size = track.peer.segment.min(track.mtu.saturating_sub(40));
    (unmapped(flow.remote).is_some() && usize::from(size) >= MIN_SEGMENT + usize::from(OPTIONS_MOST)).then_some(size)
}

/// The headers of frames of a connection's content; checksums, lengths and the sequence number are left to be filled in.
pub(super) struct Headers {
    bytes: [u8; ETHERNET_HEADER + 40 + TCP_HEADER],
    pub(super) len: usize,
}

impl Headers {
    pub(super) fn new(own: &Own, flow: Flow, track: &Track) -> Headers {
        let mut headers = Headers { bytes: [0; ETHERNET_HEADER + 40 + TCP_HEADER], len: 12 };
        let remote = flow.remote;
        match unmapped(remote) {
            Some(remote) => {
                headers.push(IPV4.to_be_bytes());
                // No identification: it is never fragmented (RFC 6864 4.1).
                headers.push([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
                headers.push(own.v4.to_be_bytes());
                headers.push(remote.to_be_bytes());
            }
            None => {
                headers.push(IPV6.to_be_bytes());
                headers.push([0x60, 0, 0, 0, 0, 0, TCP, 64]);
                headers.push(own.v6_for(remote).to_be_bytes());
                headers.push(remote.to_be_bytes());
            }
        }
        let Track { received, window, .. } = *track;
        headers.push(flow.ports.rotate_left(16).to_be_bytes());
        headers.push([0; 4]);
        // What the socket has said last, which is all that it will take.
        headers.push(received.map_or(0, |(acknowledged, _)| acknowledged).to_be_bytes());
        headers.push([5 << 4, ACK]);
        headers.push(window.to_be_bytes());
        headers.push([0; 4]);
        headers
    }

    fn push<const N: usize>(&mut self, bytes: [u8; N]) {
        // Everything that is written here fits.
        if let Some(place) = self.bytes.get_mut(self.len..self.len + N) {
            place.copy_from_slice(&bytes);
            self.len += N;
        }
    }

    /// The headers of a segment with `len` bytes behind them, which says `flags` beside that it acknowledges.
    #[inline]
    pub(super) fn of(&mut self, seq: u32, len: usize, flags: u8) -> &[u8] {
        let tcp = self.len - TCP_HEADER;
        let is_v4 = tcp == ETHERNET_HEADER + 20;
        let (at, total) = if is_v4 { (16, 20 + TCP_HEADER + len) } else { (18, TCP_HEADER + len) };
        self.bytes[at..at + 2].copy_from_slice(&u16::try_from(total).unwrap_or(u16::MAX).to_be_bytes());
        self.bytes[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
        self.bytes[tcp + 13] = ACK | flags;
        &self.bytes[..self.len]
    }
}

/// The ranges that a segment says have arrived behind gaps (RFC 2018), and how many.
pub(super) fn ranges(bytes: &[u8]) -> ([(u32, u32); MAX_RANGES], usize) {
    let mut ranges = [(0, 0); MAX_RANGES];
    let mut count = 0;
    let said = options(bytes).filter(|&(kind, _)| kind == 5).flat_map(|(_, value)| value.chunks_exact(8));
    for (place, range) in ranges.iter_mut().zip(said) {
        if let (Some(start), Some(end)) = (be32(range, 0), be32(range, 4)) {
            *place = (start, end);
            count += 1;
        }
    }
    (ranges, count)
}

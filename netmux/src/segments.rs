//! Several TCP segments in one record: a guest hands over one frame's headers and the data of many, and they are cut here, or by the NIC.
//!
//! What the guest wrote is looked at each time anew, in a copy of the headers. Each frame that is cut is then checked as any other is.

use crate::egress;
use crate::frame::{ETHERNET, IPV4, IPV4_END};
use crate::neighbours::TCP;
use abi::nic::{MAX_FRAME, MAX_SEGMENTS, MIN_SEGMENT};
use ring::SharedMemory;

/// Bytes of the longest headers: Ethernet, IPv4 without options, TCP with all.
pub const HEADERS_MOST: usize = IPV4_END + 60;
/// Bytes of the shortest.
const HEADERS_LEAST: usize = IPV4_END + 20;

/// TCP flags (RFC 9293 3.1, RFC 3168 6.1.2).
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Where fields lie in the headers.
mod at {
    use super::{ETHERNET, IPV4_END};

    pub const TOTAL: usize = ETHERNET + 2;
    pub const ID: usize = ETHERNET + 4;
    pub const FRAGMENT: usize = ETHERNET + 6;
    pub const PROTOCOL: usize = ETHERNET + 9;
    pub const IP_SUM: usize = ETHERNET + 10;
    pub const ADDRESSES: usize = ETHERNET + 12;
    pub const SEQUENCE: usize = IPV4_END + 4;
    pub const OFFSET: usize = IPV4_END + 12;
    pub const FLAGS: usize = IPV4_END + 13;
    pub const SUM: usize = IPV4_END + 16;
}

/// What is to be cut: headers that make sense, and how much there is behind them.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// A copy of the headers.
    bytes: [u8; HEADERS_MOST],
    /// Bytes of them.
    headers: usize,
    /// Bytes of data, at least one; and in each frame.
    data: usize,
    segment: usize,
}

impl Segments {
    /// Of a record of `len` bytes, `segment` of data in each frame, which begins with `bytes`; those beyond its end are anything.
    ///
    /// # Errors
    ///
    /// [`egress::Cause::Type`] for a frame of something else than IPv4, [`egress::Cause::Malformed`] for one that makes no sense, whose
    /// IPv4 has options or fragments, whose TCP is none or begins, breaks off or is urgent, or that would be cut too small or too large.
    #[inline]
    pub fn of(bytes: &[u8; HEADERS_MOST], len: usize, segment: u16) -> Result<Segments, egress::Cause> {
        if len <= HEADERS_LEAST || len > MAX_SEGMENTS {
            return Err(egress::Cause::Malformed);
        }
        let (segment, u16_at) = (usize::from(segment), |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        if u16_at(ETHERNET - 2) != IPV4 {
            return Err(egress::Cause::Type);
        }
        let headers = IPV4_END + usize::from(bytes[at::OFFSET] >> 4) * 4;
        let is_plain = bytes[ETHERNET] == 0x45 && bytes[at::PROTOCOL] == TCP && u16_at(at::FRAGMENT) & 0x3fff == 0;
        let is_data = bytes[at::FLAGS] & (SYN | RST | URG) == 0;
        let is_whole = usize::from(u16_at(at::TOTAL)) == len - ETHERNET && (HEADERS_LEAST..len).contains(&headers);
        let fits = segment >= MIN_SEGMENT && headers + segment <= MAX_FRAME;
        if !(is_plain && is_data && is_whole && fits) {
            return Err(egress::Cause::Malformed);
        }
        Ok(Segments { bytes: *bytes, headers, data: len - headers, segment })
    }

    /// Bytes of the headers.
    pub fn headers(&self) -> usize {
        self.headers
    }

    /// Bytes of data, at least one; and in each frame but the last, which may have fewer.
    pub fn data(&self) -> usize {
        self.data
    }

    /// See [`Segments::data`].
    pub fn segment(&self) -> usize {
        self.segment
    }

    /// Bytes of data in the frame whose data begin at `from`; 0 behind the end.
    pub fn data_at(&self, from: usize) -> usize {
        self.data.saturating_sub(from).min(self.segment)
    }

    /// Frames.
    pub fn count(&self) -> usize {
        self.data.div_ceil(self.segment)
    }

    /// The headers of the frame whose data begin at byte `from` of all data, have `len` bytes, and this sum ([`sum`]).
    pub fn frame(&self, from: usize, len: usize, sum: u16) -> ([u8; HEADERS_MOST], usize) {
        let mut bytes = self.bytes;
        let is_last = from + len >= self.data;
        if !is_last {
            bytes[at::FLAGS] &= !(FIN | PSH);
        }
        if from != 0 {
            bytes[at::FLAGS] &= !CWR;
        }
        let number = u16::try_from(from / self.segment).unwrap_or(0);
        let id = u16::from_be_bytes([bytes[at::ID], bytes[at::ID + 1]]).wrapping_add(number);
        put(&mut bytes, at::ID, id.to_be_bytes());
        put(&mut bytes, at::TOTAL, small(self.headers - ETHERNET + len).to_be_bytes());
        let [a, b, c, d] = [0, 1, 2, 3].map(|byte| bytes[at::SEQUENCE + byte]);
        let sequence = u32::from_be_bytes([a, b, c, d]).wrapping_add(u32::try_from(from).unwrap_or(0));
        put(&mut bytes, at::SEQUENCE, sequence.to_be_bytes());
        put(&mut bytes, at::IP_SUM, [0, 0]);
        let of_header = !folded(add(0, &bytes[ETHERNET..IPV4_END]));
        put(&mut bytes, at::IP_SUM, of_header.to_ne_bytes());
        put(&mut bytes, at::SUM, [0, 0]);
        let of_tcp = pseudo(&bytes, self.headers - IPV4_END + len) + u64::from(sum);
        let of_tcp = !folded(add(of_tcp, &bytes[IPV4_END..self.headers]));
        put(&mut bytes, at::SUM, of_tcp.to_ne_bytes());
        (bytes, self.headers)
    }

    /// The headers as a NIC wants them that cuts by itself: lengths and checksums empty, but for the sum of the pseudo-header without a
    /// length.
    pub fn for_nic(&self) -> ([u8; HEADERS_MOST], usize) {
        let mut bytes = self.bytes;
        put(&mut bytes, at::TOTAL, [0, 0]);
        put(&mut bytes, at::IP_SUM, [0, 0]);
        let start = folded(pseudo(&bytes, 0));
        put(&mut bytes, at::SUM, start.to_ne_bytes());
        (bytes, self.headers)
    }
}

fn put<const N: usize>(bytes: &mut [u8; HEADERS_MOST], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..at + N) {
        field.copy_from_slice(&value);
    }
}

/// A length below 65,536.
fn small(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// The sum of the pseudo-header of a segment of `len` bytes (RFC 9293 3.1).
fn pseudo(bytes: &[u8; HEADERS_MOST], len: usize) -> u64 {
    let number = u64::from(TCP) + u64::from(small(len));
    add(u64::from_ne_bytes(number.to_be_bytes()), &bytes[at::ADDRESSES..IPV4_END])
}

/// A sum of 32-bit words in the order of memory, with these bytes (RFC 1071, sections 2 B and 2 C), which are few.
fn add(mut sum: u64, bytes: &[u8]) -> u64 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

fn folded(sum: u64) -> u16 {
    let mut sum = (sum >> 32) + (sum & 0xffff_ffff);
    for _ in 0..4 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or(0)
}

/// The sum of bytes in memory that nobody else writes, in the byte order of memory.
pub fn sum(memory: &SharedMemory, offset: usize, len: usize) -> u16 {
    const PIECE: usize = 64;
    let mut total = 0;
    let mut done = 0;
    while done < len {
        let mut piece = [0; PIECE];
        let count = (len - done).min(PIECE);
        // What is not there counts as zeros.
        let _ = match count {
            PIECE => memory.read(offset + done, &mut piece),
            _ => memory.read(offset + done, &mut piece[..count]),
        };
        for word in piece.as_chunks::<4>().0 {
            total += u64::from(u32::from_ne_bytes(*word));
        }
        done += count;
    }
    folded(total)
}

#[cfg(test)]
#[path = "segments_tests.rs"]
pub(crate) mod tests;

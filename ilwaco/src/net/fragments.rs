//! Datagrams that arrive in pieces (RFC 791 3.2, RFC 1122 3.3.2; RFC 8200 4.5), put together within a bound, and answers that leave
//! in pieces.
//!
//! Whoever sends halves can take [`OPEN`] places and [`LARGEST`] bytes in each, for [`PATIENCE_US`], and no more. Pieces that overlap
//! are nobody's but an attacker's: the datagram is thrown away, with all pieces of it that follow (RFC 5722, here for IPv4, too).

use super::capacity::secures_bytes;
use super::checksum;
use super::frame::{ETHERNET_HEADER, IPV4, IPV6_HEADER, Own, be16, be32, mapped};
use alloc::vec::Vec;

/// Datagrams that wait for pieces at once; the oldest makes room for another one.
const OPEN: usize = 4;
/// Bytes of the largest datagram behind its IP header: what a socket holds.
const LARGEST: usize = 4096;
/// How long the pieces of a datagram are waited for: RFC 791 has 15 s. RFC 8200 has 60 s for IPv6, for which a VM shall not stay awake.
const PATIENCE_US: u64 = 15_000_000;
/// Pieces of one datagram; of the shortest packets that a link may have, there are no more.
const MOST_PIECES: usize = 16;
const MORE: u16 = 0x2000;
/// Bytes of the header of a piece of an IPv6 packet, and its type.
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT: u8 = 44;
/// Bytes of the headers of Ethernet and IP, without options.
const HEADERS_V4: usize = ETHERNET_HEADER + 20;
const HEADERS_V6: usize = ETHERNET_HEADER + IPV6_HEADER;
/// Bytes of the largest packet of the wire.
const WIDE: usize = super::paths::WIDE as usize;

/// Which datagram a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    /// That of IPv4 in its mapped form.
    source: u128,
    target: u128,
    id: u32,
    /// With IPv4 only.
    protocol: u8,
}

/// A piece of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    key: Key,
    /// The headers of the frame that it would be if it were whole.
    headers: &'a [u8],
    /// What the datagram carries, in the first piece.
    protocol: u8,
    /// Where it starts, in bytes, and whether others follow.
    start: usize,
    more: bool,
    payload: &'a [u8],
}

impl<'a> Part<'a> {
    /// A piece in an IPv4 frame whose header is right. `None` for one that is not for us, or that no datagram has.
    pub(super) fn v4(bytes: &'a [u8], own: &Own) -> Option<Part<'a>> {
        let packet = bytes.get(ETHERNET_HEADER..)?;
        let target = be32(packet, 16)?;
        if be16(bytes, 12)? != IPV4 || target != own.v4 || own.v4 == 0 || bytes[0] & 1 != 0 {
            return None;
        }
        let header_len = usize::from(packet.first()? & 0x0f) * 4;
        let field = be16(packet, 6)?;
        let protocol = *packet.get(9)?;
        let source = mapped(be32(packet, 12)?);
        let part = Part {
            key: Key { source, target: mapped(target), id: be16(packet, 4)?.into(), protocol },
            headers: bytes.get(..HEADERS_V4)?,
            protocol,
            start: usize::from(field & 0x1fff) * 8,
            more: field & MORE != 0,
            payload: packet.get(header_len..usize::from(be16(packet, 2)?))?,
        };
        part.makes_sense().then_some(part)
    }

    /// A piece in an IPv6 frame for us, whose fragment header is at `at` in the packet.
    pub(super) fn v6(bytes: &'a [u8], at: usize) -> Option<Part<'a>> {
        let packet = bytes.get(ETHERNET_HEADER..)?;
        let address = |at: usize| packet.get(at..)?.first_chunk().map(|bytes| u128::from_be_bytes(*bytes));
        let header = packet.get(at..at + FRAGMENT_HEADER)?;
        let field = be16(header, 2)?;
        let part = Part {
            key: Key { source: address(8)?, target: address(24)?, id: be32(header, 4)?, protocol: 0 },
            headers: bytes.get(..HEADERS_V6)?,
            protocol: header[0],
            start: usize::from(field & 0xfff8),
            more: field & 1 != 0,
            payload: packet.get(at + FRAGMENT_HEADER..IPV6_HEADER + usize::from(be16(packet, 4)?))?,
        };
        part.makes_sense().then_some(part)
    }

    fn makes_sense(&self) -> bool {
        // All but the last are of eights.
        let len = self.payload.len();
        len > 0 && (!self.more || len.is_multiple_of(8)) && self.start + len <= LARGEST
    }
}

/// A datagram of which pieces are missing.
#[derive(Debug)]
struct Open {
    key: Key,
    since: u64,
    /// The frame that it becomes; headers are those of whichever piece came first. Empty for one that nobody shall have.
    frame: Vec<u8>,
    /// Bytes of its headers.
    headers: usize,
    /// Where pieces start and end that have arrived, in bytes of the payload.
    pieces: Vec<(usize, usize)>,
    /// Bytes of the whole, once its last piece has arrived.
    len: Option<usize>,
}

impl Open {
    /// Takes a piece in. False when there can be no such datagram.
    fn take(&mut self, part: &Part<'_>) -> bool {
        let (start, end) = (part.start, part.start + part.payload.len());
        if self.frame.is_empty() {
            return false;
        }
        if self.pieces.contains(&(start, end)) && (part.more || self.len == Some(end)) {
            return true;
        }
        let overlaps = self.pieces.iter().any(|&(from, to)| start < to && from < end);
        let beyond = self.len.is_some_and(|len| end > len || !part.more);
        let short = !part.more && self.pieces.iter().any(|&(_, to)| to > end);
        if overlaps || beyond || short || self.pieces.len() >= MOST_PIECES {
            (self.frame, self.pieces) = (Vec::new(), Vec::new());
            return false;
        }
        if !part.more {
            self.len = Some(end);
        }
        if start == 0 && self.headers == HEADERS_V6 {
            self.frame[ETHERNET_HEADER + 6] = part.protocol;
        }
        self.pieces.push((start, end));
        let place = self.headers + start..self.headers + end;
        if self.frame.len() < place.end {
            self.frame.resize(place.end, 0);
        }
        self.frame[place].copy_from_slice(part.payload);
        true
    }

    /// They do not overlap, so the whole is there when their lengths add up to it.
    fn is_whole(&self) -> bool {
        self.len == Some(self.pieces.iter().map(|(from, to)| to - from).sum())
    }
}

/// What becomes of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// It waits for others.
    Kept,
    /// It is of no use.
    Refused,
    /// It was the last one: the frame, as if it had arrived whole.
    Whole(Vec<u8>),
}

/// All datagrams of which pieces are missing. Without any, there is no memory.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: Vec<Open>,
}

impl Fragments {
    /// Takes a piece.
    pub(super) fn take(&mut self, part: Option<Part<'_>>, now: u64) -> Piece {
        self.open.retain(|open| now < open.since + PATIENCE_US);
        let Some(part) = part else { return Piece::Refused };
        // As much as it may become, twice: it moves when it grows.
        if !secures_bytes(2 * (HEADERS_V6 + LARGEST)) {
            return Piece::Refused;
        }
        let key = part.key;
        let index = match self.open.iter().position(|open| open.key == key) {
            Some(index) => index,
            None => {
                if self.open.len() >= OPEN {
                    // In the order of their arrival.
                    self.open.remove(0);
                }
                let (frame, headers) = (part.headers.to_vec(), part.headers.len());
                self.open.push(Open { key, since: now, frame, headers, pieces: Vec::new(), len: None });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[index];
        if !open.take(&part) {
            return Piece::Refused;
        }
        if !open.is_whole() {
            return Piece::Kept;
        }
        let headers = open.headers;
        let mut whole = self.open.remove(index).frame;
        match headers {
            HEADERS_V4 => {
                whole[14] = 0x45;
                set_header(&mut whole[ETHERNET_HEADER..], 0, 0);
            }
            _ => {
                let len = u16::try_from(whole.len() - HEADERS_V6).unwrap_or(u16::MAX);
                whole[18..20].copy_from_slice(&len.to_be_bytes());
            }
        }
        Piece::Whole(whole)
    }

    /// Gives memory back to the heap. False while somebody's pieces are waited for.
    pub(super) fn shrink(&mut self, now: u64) -> bool {
        self.open.retain(|open| now < open.since + PATIENCE_US);
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        self.open.is_empty()
    }
}

/// Gives the header of an IPv4 packet its length, which piece it is, and the checksum of that.
fn set_header(packet: &mut [u8], id: u16, field: u16) {
    let total = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&field.to_be_bytes());
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum::header(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_ne_bytes());
}

/// Cuts a frame with plain headers into pieces that the wire carries, which `id` tells from those of others.
pub(super) fn split(frame: &[u8], id: u32, mut send: impl FnMut(&[u8])) {
    let is_v4 = be16(frame, 12) == Some(IPV4);
    let (headers, room) = match is_v4 {
        true => (HEADERS_V4, WIDE - 20),
        false => (HEADERS_V6, WIDE - IPV6_HEADER - FRAGMENT_HEADER),
    };
    let Some((head, payload)) = frame.split_at_checked(headers) else { return };
    if frame.len() <= ETHERNET_HEADER + WIDE {
        return send(frame);
    }
    let room = room / 8 * 8;
    for (number, piece) in payload.chunks(room).enumerate() {
        let start = number * room;
        let more = start + piece.len() < payload.len();
        let start = u16::try_from(start).unwrap_or(u16::MAX);
        let mut bytes = head.to_vec();
        if is_v4 {
            bytes.extend(piece);
            // Of the number, as much as IPv4 has room for.
            set_header(&mut bytes[ETHERNET_HEADER..], (id & 0xffff) as u16, (start / 8) | if more { MORE } else { 0 });
        } else {
            let protocol = core::mem::replace(&mut bytes[20], FRAGMENT);
            bytes.extend([protocol, 0]);
            bytes.extend((start | u16::from(more)).to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes.extend(piece);
            let len = u16::try_from(bytes.len() - HEADERS_V6).unwrap_or(u16::MAX);
            bytes[18..20].copy_from_slice(&len.to_be_bytes());
        }
        send(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Own = Own { mac: [2; 6], v4: 0x0a00_0210, mask: 0xffff_ff00, id: 2, net: 0 };

    fn piece(id: u16, start: usize, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [2; 12].into();
        bytes.extend(IPV4.to_be_bytes());
        let total = u16::try_from(20 + payload.len()).expect("short");
        let field = u16::try_from(start / 8).expect("near") | if more { MORE } else { 0 };
        bytes.extend([&[0x45, 0], &total.to_be_bytes()[..], &id.to_be_bytes(), &field.to_be_bytes()].concat());
        bytes.extend([64, 17, 0, 0, 10, 0, 2, 2, 10, 0, 2, 16]);
        bytes.extend(payload);
        bytes
    }

    fn take(fragments: &mut Fragments, frame: &[u8], now: u64) -> Piece {
        fragments.take(Part::v4(frame, &OWN), now)
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at * at % 251).expect("a byte")).collect()
    }

    #[test]
    fn pieces_in_any_order_are_a_whole() {
        let whole = bytes(3000);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 0, 1]] {
            let mut fragments = Fragments::default();
            let mut result = Piece::Kept;
            for number in order.into_iter().chain([2]) {
                if let Piece::Whole(_) = result {
                    break;
                }
                let (start, end) = (number * 1480, ((number + 1) * 1480).min(3000));
                result = take(&mut fragments, &piece(7, start, number < 2, &whole[start..end]), 0);
            }
            let Piece::Whole(frame) = result else { panic!("{order:?}: {result:?}") };
            assert!(checksum::header_valid(&frame[14..34]) && frame[34..] == whole);
            assert_eq!((be16(&frame, 16), be16(&frame, 20), frame[23]), (Some(3020), Some(0), 17));
            assert!(fragments.shrink(0) && fragments.open.capacity() == 0);
        }
    }

    #[test]
    fn what_overlaps_or_makes_no_sense_is_refused() {
        let data = bytes(4096);
        let mut fragments = Fragments::default();
        assert_eq!(take(&mut fragments, &piece(1, 0, true, &data[..64]), 0), Piece::Kept);
        assert_eq!(take(&mut fragments, &piece(1, 56, true, &data[..64]), 0), Piece::Refused, "overlaps");
        assert_eq!(take(&mut fragments, &piece(1, 64, false, &data[..8]), 0), Piece::Refused, "with all that follow");
        assert_eq!(take(&mut fragments, &piece(1, 0, true, &data[..64]), 0), Piece::Refused);
        assert_eq!(take(&mut fragments, &piece(3, 64, false, &data[..8]), 0), Piece::Kept);
        assert_eq!(take(&mut fragments, &piece(3, 128, true, &data[..8]), 0), Piece::Refused, "behind the end");
        for frame in [piece(2, 0, true, &data[..60]), piece(2, 0, true, &[]), piece(2, 4088, false, &data[..9])] {
            assert_eq!(take(&mut fragments, &frame, 0), Piece::Refused);
        }
        assert!(fragments.open.iter().all(|open| open.frame.capacity() == 0), "only that they are refused is kept");
        let other = Own { v4: 1, ..OWN };
        assert_eq!(
            fragments.take(Part::v4(&piece(2, 0, true, &data[..64]), &other), 0),
            Piece::Refused,
            "for somebody else"
        );
    }

    #[test]
    fn halves_take_little_and_not_for_long() {
        let data = bytes(1480);
        let mut fragments = Fragments::default();
        for id in 0..10_000 {
            take(&mut fragments, &piece(id, 2616, true, &data), u64::from(id));
            assert!(fragments.open.len() <= OPEN);
            assert!(fragments.open.iter().all(|open| open.frame.len() <= HEADERS_V4 + LARGEST));
        }
        assert!(!fragments.shrink(20_000));
        assert_eq!(take(&mut fragments, &piece(9_999, 0, true, &data), 20_000), Piece::Kept);
        assert!(fragments.shrink(20_000 + PATIENCE_US));
        assert!(fragments.open.is_empty());
    }

    /// A frame of this length, whole.
    fn whole(v6: bool, len: usize) -> Vec<u8> {
        let data = bytes(len);
        if v6 {
            let total = u16::try_from(len).expect("short");
            let mut frame: Vec<u8> = [2; 12].into();
            frame.extend([&[0x86, 0xdd, 0x60, 0, 0, 0][..], &total.to_be_bytes(), &[58, 64], &[7; 32], &data].concat());
            frame
        } else {
            let mut frame = piece(0, 0, false, &data);
            set_header(&mut frame[14..], 0, 0);
            frame
        }
    }

    fn part(frame: &[u8], v6: bool) -> Option<Part<'_>> {
        if v6 { Part::v6(frame, IPV6_HEADER) } else { Part::v4(frame, &OWN) }
    }

    #[test]
    fn what_is_cut_is_put_together_again() {
        for v6 in [false, true] {
            for len in [8, 1452, 1460, 1480, 1481, 2904, 4096] {
                let frame = whole(v6, len);
                let mut fragments = Fragments::default();
                let mut pieces = Vec::new();
                split(&frame, 0x1234_5678, |piece| pieces.push(piece.to_vec()));
                assert!(pieces.iter().all(|piece| piece.len() <= 1514));
                if pieces.len() == 1 {
                    assert_eq!(pieces[0], frame);
                    continue;
                }
                let mut result = Piece::Kept;
                for piece in pieces.iter().rev() {
                    assert_eq!(result, Piece::Kept);
                    assert!(v6 || checksum::header_valid(&piece[14..34]));
                    result = fragments.take(part(piece, v6), 0);
                }
                assert_eq!(result, Piece::Whole(frame), "{v6} {len}");
            }
        }
    }

    #[test]
    fn the_same_for_ipv6() {
        let mut pieces = Vec::new();
        split(&whole(true, 4096), 7, |piece| pieces.push(piece.to_vec()));
        let mut fragments = Fragments::default();
        assert_eq!(fragments.take(part(&pieces[0], true), 0), Piece::Kept);
        assert_eq!(fragments.take(part(&pieces[0], true), 0), Piece::Kept, "the very same again");
        // Another one of the same datagram, which overlaps (RFC 5722): all are thrown away.
        let mut overlaps = pieces[1].clone();
        overlaps[57] -= 8;
        assert_eq!(fragments.take(part(&overlaps, true), 0), Piece::Refused);
        for piece in &pieces {
            assert_eq!(fragments.take(part(piece, true), 0), Piece::Refused);
        }
        // Of another host, or with another number, it is another datagram.
        for at in [22, 38, 61] {
            let mut other = pieces[0].clone();
            other[at] ^= 1;
            assert_eq!(fragments.take(part(&other, true), 0), Piece::Kept);
        }
        for len in 0..70 {
            assert!(Part::v6(&pieces[0][..len], IPV6_HEADER).is_none());
        }
    }

    proptest! {
        /// Whatever comes, a whole is made of bytes that came, each from where it was sent to.
        #[test]
        fn any_pieces(said in prop::collection::vec((0u16..3, 0usize..40, 0usize..200, any::<bool>()), 0..60)) {
            let data = bytes(4096);
            let mut fragments = Fragments::default();
            for (now, (id, start, len, more)) in (0u64..).zip(said) {
                let start = start * 8;
                let result = take(&mut fragments, &piece(id, start, more, &data[start..start + len]), now * 1_000_000);
                if let Piece::Whole(frame) = result {
                    prop_assert!(frame[34..] == data[..frame.len() - 34]);
                }
                prop_assert!(fragments.open.len() <= OPEN);
            }
        }

        #[test]
        fn any_bytes(mut frame in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(field) = frame.get_mut(12..14) {
                field.copy_from_slice(&IPV4.to_be_bytes());
            }
            if let Some(field) = frame.get_mut(30..34) {
                field.copy_from_slice(&OWN.v4.to_be_bytes());
            }
            let _ = take(&mut Fragments::default(), &frame, 0);
            let _ = Fragments::default().take(Part::v6(&frame, IPV6_HEADER), 0);
        }
    }
}

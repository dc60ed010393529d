//! IPv4 datagrams that arrive in pieces (RFC 791 3.2, RFC 1122 3.3.2), put together within a bound.
//!
//! Whoever sends halves can take [`OPEN`] places and [`LARGEST`] bytes in each, for [`PATIENCE_US`], and no more. Pieces that overlap
//! are nobody's but an attacker's: the datagram is thrown away (as RFC 5722 asks for IPv6).

use super::frame::{ETHERNET_HEADER, IPV4, Own, be16, be32};
use super::{checksum, frame};
use alloc::vec::Vec;

/// Datagrams that wait for pieces at once; the oldest makes room for another one.
const OPEN: usize = 4;
/// Bytes of the largest datagram behind its IP header: what a socket holds.
const LARGEST: usize = 4096;
/// How long the pieces of a datagram are waited for (RFC 791 has 15 s).
const PATIENCE_US: u64 = 15_000_000;
/// Pieces of one datagram; of the shortest packets that a link may have, there are no more.
const MOST_PIECES: usize = 16;
const MORE: u16 = 0x2000;
/// Bytes of the frame in front of the payload: headers of Ethernet and IP, without options.
const HEADERS: usize = ETHERNET_HEADER + 20;

/// Which datagram a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: u32,
    id: u16,
    protocol: u8,
}

/// A datagram of which pieces are missing.
#[derive(Debug)]
struct Open {
    key: Key,
    since: u64,
    /// The frame that it becomes; headers are those of whichever piece came first.
    frame: Vec<u8>,
    /// Where pieces start and end that have arrived, in bytes of the payload.
    pieces: Vec<(usize, usize)>,
    /// Bytes of the whole, once its last piece has arrived.
    len: Option<usize>,
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
    /// Takes a piece for `own`, in a frame whose IP header is right.
    pub(super) fn take(&mut self, frame: &[u8], own: &Own, now: u64) -> Piece {
        self.open.retain(|open| now < open.since + PATIENCE_US);
        let Some((key, start, more, payload)) = read(frame, own) else { return Piece::Refused };
        let end = start + payload.len();
        let index = match self.open.iter().position(|open| open.key == key) {
            Some(index) => index,
            None => {
                if self.open.len() >= OPEN {
                    // In the order of their arrival.
                    self.open.remove(0);
                }
                let bytes = frame.get(..HEADERS).unwrap_or(&[]).to_vec();
                self.open.push(Open { key, since: now, frame: bytes, pieces: Vec::new(), len: None });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[index];
        if open.pieces.contains(&(start, end)) && (more || open.len == Some(end)) {
            return Piece::Kept;
        }
        let overlaps = open.pieces.iter().any(|&(from, to)| start < to && from < end);
        let beyond = open.len.is_some_and(|len| end > len || !more);
        let short = !more && open.pieces.iter().any(|&(_, to)| to > end);
        if overlaps || beyond || short || open.pieces.len() >= MOST_PIECES {
            self.open.remove(index);
            return Piece::Refused;
        }
        if !more {
            open.len = Some(end);
        }
        open.pieces.push((start, end));
        if open.frame.len() < HEADERS + end {
            open.frame.resize(HEADERS + end, 0);
        }
        open.frame[HEADERS + start..HEADERS + end].copy_from_slice(payload);
        // They do not overlap, so the whole is there when their lengths add up to it.
        let there: usize = open.pieces.iter().map(|(from, to)| to - from).sum();
        if open.len != Some(there) {
            return Piece::Kept;
        }
        let mut whole = self.open.remove(index).frame;
        let total = u16::try_from(whole.len() - ETHERNET_HEADER).unwrap_or(u16::MAX);
        whole[14] = 0x45;
        whole[16..18].copy_from_slice(&total.to_be_bytes());
        whole[20..22].copy_from_slice(&[0, 0]);
        whole[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum::header(&whole[ETHERNET_HEADER..HEADERS]);
        whole[24..26].copy_from_slice(&sum.to_ne_bytes());
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

/// A piece: whose it is, where it starts, whether others follow it, and its bytes. `None` where no datagram has such a piece.
fn read<'a>(bytes: &'a [u8], own: &Own) -> Option<(Key, usize, bool, &'a [u8])> {
    let packet = bytes.get(ETHERNET_HEADER..)?;
    if frame::be16(bytes, 12)? != IPV4 || be32(packet, 16)? != own.v4 || own.v4 == 0 || bytes[0] & 1 != 0 {
        return None;
    }
    let header_len = usize::from(packet.first()? & 0x0f) * 4;
    let payload = packet.get(header_len..usize::from(be16(packet, 2)?))?;
    let field = be16(packet, 6)?;
    let (more, start) = (field & MORE != 0, usize::from(field & 0x1fff) * 8);
    // All but the last are of eights.
    let makes_sense = !payload.is_empty() && (!more || payload.len() % 8 == 0) && start + payload.len() <= LARGEST;
    let key = Key { source: be32(packet, 12)?, id: be16(packet, 4)?, protocol: *packet.get(9)? };
    makes_sense.then_some((key, start, more, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Own = Own { mac: [2; 6], v4: 0x0a00_0210, mask: 0xffff_ff00, v6: 0xfe80 << 112 | 2, global: 0 };

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
        fragments.take(frame, &OWN, now)
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
        assert_eq!(take(&mut fragments, &piece(1, 64, false, &data[..8]), 0), Piece::Kept, "the first one is gone");
        assert_eq!(take(&mut fragments, &piece(1, 128, true, &data[..8]), 0), Piece::Refused, "behind the end");
        for frame in [piece(2, 0, true, &data[..60]), piece(2, 0, true, &[]), piece(2, 4088, false, &data[..9])] {
            assert_eq!(take(&mut fragments, &frame, 0), Piece::Refused);
        }
        assert!(fragments.open.is_empty());
        let other = Own { v4: 1, ..OWN };
        assert_eq!(fragments.take(&piece(2, 0, true, &data[..64]), &other, 0), Piece::Refused, "for somebody else");
    }

    #[test]
    fn halves_take_little_and_not_for_long() {
        let data = bytes(1480);
        let mut fragments = Fragments::default();
        for id in 0..10_000 {
            take(&mut fragments, &piece(id, 2616, true, &data), u64::from(id));
            assert!(fragments.open.len() <= OPEN);
            assert!(fragments.open.iter().all(|open| open.frame.len() <= HEADERS + LARGEST));
        }
        assert!(!fragments.shrink(20_000));
        assert_eq!(take(&mut fragments, &piece(9_999, 0, true, &data), 20_000), Piece::Kept);
        assert!(fragments.shrink(20_000 + PATIENCE_US));
        assert!(fragments.open.is_empty());
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
        }
    }
}

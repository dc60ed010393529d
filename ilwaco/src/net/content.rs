//! What a program has given to a connection to be sent: constant bytes where they lie, and bytes that were copied for it.

use super::checksum::{self, Sum};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes of a constant after each of which it is known what those before add up to.
const BLOCK: usize = 16;

/// The sums that checksums are made of, of all that lies before each 16 bytes of a constant: `N` is its length in bytes divided by
/// 16, rounded down, and one. Made when the program is built.
pub const fn block_sums<const N: usize>(bytes: &[u8]) -> [u16; N] {
    let mut sums = [0; N];
    let mut sum: u32 = 0;
    let mut block = 0;
    while block + 1 < N {
        let mut at = block * BLOCK;
        block += 1;
        while at < block * BLOCK {
            sum += u16::from_ne_bytes([bytes[at], bytes[at + 1]]) as u32;
            at += 2;
        }
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sums[block] = (sum & 0xffff) as u16;
    }
    sums
}

/// A constant, with sums of its beginnings, so that they need not be added up for each segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summed {
    bytes: &'static [u8],
    sums: &'static [u16],
}

impl Summed {
    /// These bytes, of whose sums nothing is known.
    pub const fn none(bytes: &'static [u8]) -> Summed {
        Summed { bytes, sums: &[] }
    }

    /// These bytes, which `sums` begins with the [`block_sums`] of: else, when the program is built, that is an error.
    pub const fn new<const N: usize>(bytes: &'static [u8], sums: &'static [u16; N]) -> Summed {
        let right: [u16; N] = block_sums(bytes);
        let mut block = 0;
        while block < N {
            assert!(right[block] == sums[block], "these are the sums of other bytes");
            block += 1;
        }
        Summed { bytes, sums }
    }

    /// The sum of the bytes from `start` up to `end`.
    #[inline]
    fn sum(&self, start: usize, end: usize) -> u16 {
        match (self.before(start), self.before(end)) {
            // The difference, as ones' complement has it. What begins at an odd place has its bytes the other way round.
            (Some(first), Some(last)) => {
                let sum = checksum::folded(u64::from(last) + u64::from(!first));
                if start % 2 == 1 { sum.swap_bytes() } else { sum }
            }
            _ => checksum::sum(self.bytes.get(start..end).unwrap_or(&[])),
        }
    }

    /// The sum of the bytes before `end`, if it is known.
    #[inline]
    fn before(&self, end: usize) -> Option<u16> {
        let (block, rest) = (end / BLOCK, end % BLOCK);
        let blocks = *self.sums.get(block)?;
        if rest == 0 {
            return Some(blocks);
        }
        let behind = self.bytes.get(block * BLOCK..)?;
        let Some(block) = behind.first_chunk::<BLOCK>() else {
            return Some(checksum::sum_behind(blocks, behind.get(..rest)?));
        };
        // Of the block, as memory has it, the first bytes.
        let kept = u128::from_le_bytes(*block) & ((1 << (8 * rest)) - 1);
        Some(checksum::sum_behind(blocks, &kept.to_le_bytes()))
    }
}

/// Bytes of a constant that are sent from where they lie: those from `start` up to, but without, `end` of `piece` repeated without
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    piece: Summed,
    start: usize,
    end: usize,
}

impl Repeated {
    /// These bytes; none where `piece` is empty or `end` is not behind `start`.
    pub fn new(piece: Summed, start: usize, end: usize) -> Repeated {
        Repeated { piece, start, end: if piece.bytes.is_empty() { start } else { end.max(start) } }
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    /// Copies the bytes from `at` on, as many as fit into `to`. Their sum, behind `sum`; nothing is added up if `sum` is none.
    #[inline]
    fn copy(&self, at: usize, to: &mut [u8], sum: Option<Sum>) -> Option<Sum> {
        let mut from = (self.start + at) % self.piece.bytes.len().max(1);
        let (mut to, mut sum) = (to, sum);
        while !to.is_empty() {
            let Some(bytes) = self.piece.bytes.get(from..).filter(|bytes| !bytes.is_empty()) else { return sum };
            let len = bytes.len().min(to.len());
            let (part, rest) = to.split_at_mut(len);
            part.copy_from_slice(&bytes[..len]);
            sum = sum.map(|sum| sum.and(self.piece.sum(from, from + len), len));
            to = rest;
            from = 0;
        }
        sum
    }
}

#[derive(Debug)]
enum Piece {
    Constant(Repeated),
    /// `start`: how many of the bytes are gone.
    Own {
        bytes: Vec<u8>,
        start: usize,
    },
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Constant(constant) => constant.len(),
            Piece::Own { bytes, start } => bytes.len() - start,
        }
    }

    #[inline]
    fn copy(&self, at: usize, to: &mut [u8], sum: Option<Sum>) -> Option<Sum> {
        match self {
            Piece::Constant(constant) => constant.copy(at, to, sum),
            Piece::Own { bytes, start } => {
                if let Some(bytes) = bytes.get(start + at..start + at + to.len()) {
                    to.copy_from_slice(bytes);
                }
                sum.map(|sum| sum.and(checksum::sum(to), to.len()))
            }
        }
    }

    fn skip(&mut self, len: usize) {
        match self {
            Piece::Constant(constant) => constant.start += len,
            Piece::Own { start, .. } => *start += len,
        }
    }
}

/// Bytes that wait to be acknowledged, in their order.
#[derive(Debug, Default)]
pub(super) struct Content {
    pieces: VecDeque<Piece>,
    len: usize,
    own: usize,
}

impl Content {
    /// What a few pieces take: as many as a queue takes memory for at first.
    pub(super) const FEW_BYTES: usize = 4 * size_of::<Piece>();

    /// Bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Those of them that take memory of their own.
    pub(super) fn own(&self) -> usize {
        self.own
    }

    pub(super) fn push_constant(&mut self, constant: Repeated) {
        self.push(Piece::Constant(constant));
    }

    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        self.own += bytes.len();
        self.push(Piece::Own { bytes: bytes.to_vec(), start: 0 });
    }

    fn push(&mut self, piece: Piece) {
        if piece.len() > 0 {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The first `len` bytes have arrived.
    pub(super) fn skip(&mut self, len: usize) {
        let mut left = len.min(self.len);
        self.len -= left;
        while let Some(first) = self.pieces.front_mut()
            && left > 0
        {
            let len = first.len();
            if left < len {
                first.skip(left);
                return;
            }
            left -= len;
            if let Some(Piece::Own { bytes, .. }) = self.pieces.pop_front() {
                self.own -= bytes.len();
            }
        }
    }

    /// Fills `to` with the bytes from `at` on, of which there must be as many. Their sum.
    #[inline]
    pub(super) fn copy(&self, at: usize, to: &mut [u8]) -> u16 {
        self.fill(at, to, Some(Sum::default())).unwrap_or_default().get()
    }

    /// The same without a sum.
    #[inline]
    pub(super) fn place(&self, at: usize, to: &mut [u8]) {
        self.fill(at, to, None);
    }

    #[inline]
    fn fill(&self, at: usize, to: &mut [u8], sum: Option<Sum>) -> Option<Sum> {
        let (mut at, mut to, mut sum) = (at, to, sum);
        for piece in &self.pieces {
            let len = piece.len();
            if at >= len {
                at -= len;
                continue;
            }
            let (part, rest) = to.split_at_mut(to.len().min(len - at));
            sum = piece.copy(at, part, sum);
            if rest.is_empty() {
                break;
            }
            (at, to) = (0, rest);
        }
        sum
    }

    /// Forgets everything, and gives its memory back.
    pub(super) fn clear(&mut self) {
        *self = Content::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    static BYTES: [u8; 300] = {
        let mut bytes = [0; 300];
        let mut i = 0;
        while i < 300 {
            bytes[i] = (i * i % 251).to_le_bytes()[0];
            i += 1;
        }
        bytes
    };
    static SUMS: [u16; 19] = block_sums(&BYTES);

    proptest! {
        /// Whatever is pushed and skipped, what is copied is what a plain queue would hold.
        #[test]
        fn as_a_plain_queue(steps in prop::collection::vec((0u8..4, 0usize..400, 0usize..400), 1..40)) {
            let mut content = Content::default();
            let mut plain: Vec<u8> = Vec::new();
            for (number, (kind, a, b)) in steps.into_iter().enumerate() {
                match kind {
                    0 => {
                        content.push_constant(Repeated::new(Summed::new(&BYTES, &SUMS), a, a + b));
                        plain.extend((a..a + b).map(|at| BYTES[at % 300]));
                    }
                    1 => {
                        content.push_constant(Repeated::new(Summed::none(BYTES.split_at(7).0), a, a + b));
                        plain.extend((a..a + b).map(|at| BYTES[at % 7]));
                    }
                    2 => {
                        let bytes = vec![u8::try_from(number).expect("few"); a];
                        content.push_copy(&bytes);
                        plain.extend(bytes);
                    }
                    _ => {
                        content.skip(a);
                        plain.drain(..a.min(plain.len()));
                    }
                }
                prop_assert_eq!(content.len(), plain.len());
                let start = b.min(plain.len());
                let mut copied = vec![0; (plain.len() - start).min(a)];
                let sum = content.copy(start, &mut copied);
                prop_assert_eq!(&copied[..], &plain[start..start + copied.len()]);
                prop_assert_eq!(sum % 0xffff, checksum::sum(&copied) % 0xffff);
            }
            content.skip(usize::MAX);
            prop_assert_eq!((content.len(), content.own(), content.pieces.len()), (0, 0, 0));
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let mut content = Content::default();
        content.push_constant(Repeated::new(Summed::none(&[]), 3, 9));
        content.push_constant(Repeated::new(Summed::none(&BYTES), 9, 3));
        content.push_copy(&[]);
        assert_eq!((content.len(), content.pieces.len()), (0, 0));
    }
}

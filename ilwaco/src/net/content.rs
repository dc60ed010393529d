//! What a program has given to a connection to be sent: constant bytes where they lie, and bytes that were copied for it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes of a constant that are sent from where they lie: those from `start` up to, but without, `end` of `piece` repeated without
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    piece: &'static [u8],
    start: usize,
    end: usize,
}

impl Repeated {
    /// These bytes; none where `piece` is empty or `end` is not behind `start`.
    pub fn new(piece: &'static [u8], start: usize, end: usize) -> Repeated {
        Repeated { piece, start, end: if piece.is_empty() { start } else { end.max(start) } }
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    /// Copies the bytes from `at` on, as many as fit into `to`.
    fn copy(&self, at: usize, to: &mut [u8]) {
        let mut from = (self.start + at) % self.piece.len().max(1);
        let mut to = to;
        while !to.is_empty() {
            let Some(bytes) = self.piece.get(from..).filter(|bytes| !bytes.is_empty()) else { return };
            let len = bytes.len().min(to.len());
            let (part, rest) = to.split_at_mut(len);
            part.copy_from_slice(&bytes[..len]);
            to = rest;
            from = 0;
        }
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

    fn copy(&self, at: usize, to: &mut [u8]) {
        match self {
            Piece::Constant(constant) => constant.copy(at, to),
            Piece::Own { bytes, start } => {
                if let Some(bytes) = bytes.get(start + at..start + at + to.len()) {
                    to.copy_from_slice(bytes);
                }
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

    /// Fills `to` with the bytes from `at` on. There must be as many.
    #[inline]
    pub(super) fn copy(&self, at: usize, to: &mut [u8]) {
        let (mut at, mut to) = (at, to);
        for piece in &self.pieces {
            let len = piece.len();
            if at >= len {
                at -= len;
                continue;
            }
            let (part, rest) = to.split_at_mut(to.len().min(len - at));
            piece.copy(at, part);
            if rest.is_empty() {
                return;
            }
            (at, to) = (0, rest);
        }
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

    static PIECE: [u8; 7] = *b"abcdefg";

    proptest! {
        /// Whatever is pushed and skipped, what is copied is what a plain queue would hold.
        #[test]
        fn as_a_plain_queue(steps in prop::collection::vec((0u8..3, 0usize..40, 0usize..40), 1..40)) {
            let mut content = Content::default();
            let mut plain: Vec<u8> = Vec::new();
            for (number, (kind, a, b)) in steps.into_iter().enumerate() {
                match kind {
                    0 => {
                        content.push_constant(Repeated::new(&PIECE, a, a + b));
                        plain.extend((a..a + b).map(|at| PIECE[at % 7]));
                    }
                    1 => {
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
                content.copy(start, &mut copied);
                prop_assert_eq!(&copied[..], &plain[start..start + copied.len()]);
            }
            content.skip(usize::MAX);
            prop_assert_eq!((content.len(), content.own(), content.pieces.len()), (0, 0, 0));
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let mut content = Content::default();
        content.push_constant(Repeated::new(&[], 3, 9));
        content.push_constant(Repeated::new(&PIECE, 9, 3));
        content.push_copy(&[]);
        assert_eq!((content.len(), content.pieces.len()), (0, 0));
    }
}

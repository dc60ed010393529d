//! The request page: where lies what does not fit into a message of the control ring, on its way to the core and back.
//!
//! A party to [`crate::service::Service::Control`] has one page behind the slots of its ring to the core. It writes there what a
//! request names by a [`Piece`], and the core copies it once, when it takes the request, and judges the copy: so what is
//! written there later changes nothing. What the core is asked to write it writes where the request says, before it answers.

use crate::limits::PAGE_SIZE;
use crate::ring::ring_bytes;

/// Bytes of a request page.
// A page.
#[allow(clippy::cast_possible_truncation)]
pub const BYTES: usize = PAGE_SIZE as usize;

/// Where the request page is, from the beginning of a ring to the core of so many slots on.
#[must_use]
pub const fn offset_behind(slots: u32) -> u64 {
    ring_bytes(slots)
}

/// A piece of a request page. Whoever takes one from a message checks that it lies in the page ([`Piece::range`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub offset: u16,
    /// Bytes.
    pub len: u16,
}

impl Piece {
    /// Nothing.
    pub const EMPTY: Piece = Piece { offset: 0, len: 0 };

    /// The bytes of the page that it takes; `None` for one that does not lie in it.
    #[must_use]
    pub fn range(self) -> Option<core::ops::Range<usize>> {
        let (start, len) = (usize::from(self.offset), usize::from(self.len));
        (start + len <= BYTES).then_some(start..start + len)
    }

    /// As half a word of a message.
    pub(crate) const fn raw(self) -> u32 {
        (self.len as u32) << 16 | self.offset as u32
    }

    /// From half a word of a message.
    pub(crate) const fn from_raw(raw: u32) -> Piece {
        // Both halves are meant to be cut out.
        #[allow(clippy::cast_possible_truncation)]
        Piece { offset: raw as u16, len: (raw >> 16) as u16 }
    }
}

const _: () = assert!(BYTES <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_lies_in_the_page_or_is_none() {
        assert_eq!(Piece { offset: 4000, len: 96 }.range(), Some(4000..4096));
        assert_eq!(Piece { offset: 4096, len: 0 }.range(), Some(4096..4096));
        for (offset, len) in [(4000, 97), (4097, 0), (0, 4097), (u16::MAX, u16::MAX)] {
            assert_eq!(Piece { offset, len }.range(), None, "{offset} {len}");
        }
        let piece = Piece { offset: 0x1234, len: 0x5678 };
        assert_eq!((piece.raw(), Piece::from_raw(0x5678_1234)), (0x5678_1234, piece));
    }
}

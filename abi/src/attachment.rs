//! The virtual disk that a VM is to have, as its image or its creator says it: an allegation to whoever serves disks, which finds the disk or refuses.

use crate::limits::{NAME_BYTES, Name};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of one.
pub const BYTES: usize = NAME_BYTES + 4;
/// [`Attachment::rate`] of a VM that has no limit.
pub const UNLIMITED: u16 = u16::MAX;

/// Which disk, and how.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Attachment {
    /// Name of the virtual disk; empty for none.
    pub disk: Name,
    /// [`mode`].
    pub mode: u16,
    /// Requests in a second that the VM may have carried out, or [`UNLIMITED`]; 0 when it was not said.
    pub rate: u16,
}

/// Values of [`Attachment::mode`].
pub mod mode {
    /// The VM reads and writes, and no other one has the disk.
    pub const READ_WRITE: u16 = 0;
    /// The VM reads, as many may.
    pub const READ_ONLY: u16 = 1;
}

impl Attachment {
    /// No disk.
    pub const NONE: Attachment = Attachment { disk: Name::EMPTY, mode: mode::READ_WRITE, rate: 0 };

    /// As it lies in a request page.
    #[must_use]
    pub fn to_bytes(self) -> [u8; BYTES] {
        zerocopy::transmute!(self)
    }

    /// Whether it is no disk.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.disk.is_empty()
    }

    /// Whether it is for reading only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.mode == mode::READ_ONLY
    }

    /// This one, or `other` where it is none; and the rate of `other` where none was said.
    #[must_use]
    pub fn or(self, other: Attachment) -> Attachment {
        let rate = if self.rate == 0 { other.rate } else { self.rate };
        Attachment { rate, ..if self.is_none() { other } else { self } }
    }

    /// Whether its fields are within their limits.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.mode <= mode::READ_ONLY && (!self.is_none() || self.mode == mode::READ_WRITE)
    }
}

impl core::fmt::Display for Attachment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}", self.disk, if self.is_read_only() { ":ro" } else { "" })
    }
}

const _: () = {
    assert!(core::mem::size_of::<Attachment>() == BYTES && core::mem::offset_of!(Attachment, mode) == NAME_BYTES);
    assert!(core::mem::offset_of!(Attachment, rate) == NAME_BYTES + 2);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_how() {
        for text in ["web", "web:ro", "a-b_c.9", "sixteen-letters0:ro"] {
            let found = Attachment::parse(text).expect(text);
            assert_eq!(
                (found.disk.as_str(), found.is_read_only()),
                (text.trim_end_matches(":ro"), text.ends_with(":ro"))
            );
            assert!(found.is_valid() && !found.is_none());
            assert_eq!(Attachment::read_from_bytes(&found.to_bytes()), Ok(found));
        }
        for text in ["", ":ro", "web:rw", "web:", "web:ro:ro", "we b", "seventeen-letters", "wéb"] {
            assert_eq!(Attachment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_not_said_comes_from_the_other() {
        let (web, log) = (Attachment::parse("web:ro").expect("one"), Attachment::parse("log").expect("one"));
        assert_eq!((Attachment::NONE.or(web), log.or(web)), (web, log));
        let limited = |rate, of: Attachment| Attachment { rate, ..of };
        assert_eq!(log.or(limited(9, web)), limited(9, log));
        assert_eq!(limited(UNLIMITED, Attachment::NONE).or(limited(9, web)), limited(UNLIMITED, web));
        assert!(limited(9, Attachment::NONE).is_valid());
        assert!(Attachment::NONE.is_valid() && Attachment::NONE.is_none());
        assert!(!Attachment { mode: mode::READ_ONLY, ..Attachment::NONE }.is_valid());
        assert!(!Attachment { mode: 2, ..web }.is_valid());
    }
}

//! Names on disks.

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The name of an entry or of a set: as many characters as a name has everywhere.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct EntryName(pub [u8; 16]);

impl EntryName {
    /// `text` as a name: 1 to 16 characters out of `a-z A-Z 0-9 - _ .`. Else `None`.
    #[must_use]
    pub fn new(text: &str) -> Option<EntryName> {
        let mut name = EntryName([0; 16]);
        name.0.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        name.is_good().then_some(name)
    }

    /// Whether it is one that [`EntryName::new`] makes.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        let (text, padding) = self.0.split_at(length);
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        length > 0 && text.iter().all(allowed) && padding.iter().all(|&byte| byte == 0)
    }

    /// It as text; `?` when it is no good name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        core::str::from_utf8(&self.0[..length]).ok().filter(|_| self.is_good()).unwrap_or("?")
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

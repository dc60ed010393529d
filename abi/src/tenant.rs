//! Whose a VM is. Between VMs of one tenant there are no barriers ([`crate::barriers`]); a VM of which nobody says whose it is, is its
//! own tenant.

use core::fmt;

/// Characters of a name at most.
pub const NAME_MAX: usize = 6;
/// What a name can hold. A digit of [`Tenant::raw`] is 1 for the first.
const CHARACTERS: &[u8; 37] = b"abcdefghijklmnopqrstuvwxyz0123456789-";
/// The digits, and that for none.
const BASE: u32 = 38;

/// The name of a tenant: one to [`NAME_MAX`] small letters, digits and dashes. It is small enough to be passed on whole, so nobody needs
/// a table of tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant(u32);

impl Tenant {
    /// Nobody says whose.
    pub const UNSAID: Tenant = Tenant(0);

    /// The tenant of this name; `None` for what is no name.
    #[must_use]
    pub fn new(name: &str) -> Option<Tenant> {
        if name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let mut raw = 0;
        for byte in name.bytes() {
            let digit = (1..).zip(CHARACTERS).find(|&(_, &character)| character == byte)?.0;
            raw = raw * BASE + digit;
        }
        Some(Tenant(raw))
    }

    /// For messages and the manifest; 0 for [`Tenant::UNSAID`].
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// What [`Tenant::raw`] gave; `None` for a number that is no name's.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Tenant> {
        let mut rest = raw;
        let mut digits = 0;
        while rest != 0 {
            digits += 1;
            if rest.is_multiple_of(BASE) || digits > NAME_MAX {
                return None;
            }
            rest /= BASE;
        }
        Some(Tenant(raw))
    }

    /// Whether nobody says whose.
    #[must_use]
    pub const fn is_unsaid(self) -> bool {
        self.0 == 0
    }

    /// This tenant, or `other` when it was not said.
    #[must_use]
    pub const fn or(self, other: Tenant) -> Tenant {
        if self.is_unsaid() { other } else { self }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = [0; NAME_MAX];
        let (mut rest, mut first) = (self.0, NAME_MAX);
        while rest != 0 && first > 0 {
            first -= 1;
            let digit = (rest % BASE) as usize;
            name[first] = digit.checked_sub(1).map_or(b'?', |at| CHARACTERS[at]);
            rest /= BASE;
        }
        f.pad(core::str::from_utf8(&name[first..]).unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[test]
    fn a_name_is_its_number() {
        for name in ["a", "z", "-", "0", "blue", "zzzzzz", "------", "a-9"] {
            let tenant = Tenant::new(name).expect("a name");
            assert_eq!(tenant.to_string(), name);
            assert_eq!(Tenant::from_raw(tenant.raw()), Some(tenant));
            assert!(!tenant.is_unsaid());
        }
        assert_eq!(Tenant::new("a").map(Tenant::raw), Some(1));
        assert_eq!(Tenant::new("ba").map(Tenant::raw), Some(2 * 38 + 1));
        assert_eq!(Tenant::new("------").map(Tenant::raw), Some(3_010_936_383), "the largest");
        assert_ne!(Tenant::new("a"), Tenant::new("aa"));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for name in ["", "sevenxx", "Blue", "a b", "a_b", "\u{e9}"] {
            assert_eq!(Tenant::new(name), None, "{name}");
        }
        assert_eq!(Tenant::from_raw(0), Some(Tenant::UNSAID));
        for raw in [38, 38 * 38, 3_010_936_384, u32::MAX] {
            assert_eq!(Tenant::from_raw(raw), None, "{raw}");
        }
    }

    #[test]
    fn what_is_said_counts() {
        let [a, b] = ["a", "b"].map(|name| Tenant::new(name).expect("a name"));
        assert_eq!((a.or(b), Tenant::UNSAID.or(b), Tenant::UNSAID.or(Tenant::UNSAID)), (a, b, Tenant::UNSAID));
    }
}

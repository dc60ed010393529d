//! What a VM may claim of the machine's memory, as its image or its creator says it. Unlike a [`crate::share::Share`] it is no word to
//! policies: the core keeps it.

use crate::attachment::Attachment;
use crate::guest_disk;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Frames without which no VM starts: two of metadata, four nested page tables, its register page, two page tables of its own,
/// and three of its NIC, which are its page and one of each ring.
pub const RESERVE_LEAST: u32 = 12;

/// The claim of one VM, in frames of its memory, its nested page tables and its metadata. 0 in a field means that it was not said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Claim {
    /// Frames that are kept for it whatever others do.
    pub reserve: u32,
    /// Frames that it may hold.
    pub limit: u32,
}

impl Claim {
    /// Nothing was said.
    pub const UNSAID: Claim = Claim { reserve: 0, limit: 0 };

    /// This claim, with what was not said taken from `other`.
    #[must_use]
    pub const fn or(self, other: Claim) -> Claim {
        Claim {
            reserve: if self.reserve == 0 { other.reserve } else { self.reserve },
            limit: if self.limit == 0 { other.limit } else { self.limit },
        }
    }

    /// This claim, and what a virtual disk takes beside it, if there is one: its pages exist from the VM's start on.
    #[must_use]
    pub fn with_disk(self, disk: Attachment) -> Claim {
        // A handful.
        let pages = if disk.is_none() { 0 } else { u32::try_from(guest_disk::PAGES).unwrap_or(0) };
        Claim { reserve: self.reserve.saturating_add(pages), limit: self.limit.saturating_add(pages) }
    }

    /// Whether a VM can start with it, and its reserve is within its limit.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        RESERVE_LEAST <= self.reserve && self.reserve <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_comes_from_the_other() {
        let image = Claim { reserve: 14, limit: 300 };
        assert_eq!(Claim::UNSAID.or(image), image);
        assert_eq!(Claim { reserve: 20, limit: 0 }.or(image), Claim { reserve: 20, limit: 300 });
        assert_eq!(Claim { reserve: 0, limit: 20 }.or(image), Claim { reserve: 14, limit: 20 });
        assert_eq!(image.or(Claim { reserve: 99, limit: 99 }), image);
    }

    #[test]
    fn a_disk_comes_on_top() {
        let (claim, web) = (Claim { reserve: 14, limit: u32::MAX - 2 }, Attachment::parse("web").expect("a name"));
        assert_eq!(claim.with_disk(Attachment::NONE), claim);
        assert_eq!(claim.with_disk(web), Claim { reserve: 23, limit: u32::MAX });
    }

    #[test]
    fn a_reserve_is_enough_for_a_start_and_within_the_limit() {
        for (reserve, limit, valid) in [
            (RESERVE_LEAST, RESERVE_LEAST, true),
            (RESERVE_LEAST, u32::MAX, true),
            (u32::MAX, u32::MAX, true),
            (RESERVE_LEAST - 1, 300, false),
            (301, 300, false),
            (0, 0, false),
            (0, 300, false),
            (RESERVE_LEAST, 0, false),
        ] {
            assert_eq!(Claim { reserve, limit }.is_valid(), valid, "{reserve} {limit}");
        }
    }
}

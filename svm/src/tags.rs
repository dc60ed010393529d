//! Address space tags (ASIDs): which VM's translations carry which.
//!
//! To flush a VM's translations is to take its tag away: it gets another, and nothing finds the old ones. When all tags
//! have been given out, they are all taken back, and the next entry flushes everything. So no CPU needs to be able to
//! flush one tag, and flushes are as rare as there are tags many.

/// Tags that are given out at most. CPUs have up to 2^15; a TLB that remembers what more VMs than this left behind is none.
const TAGS: usize = 64;

/// Who has which tag. Tag 0 is the host's.
#[derive(Debug)]
pub(crate) struct Tags {
    /// Physical address of the top page table of the VM that has the tag; 0 for none.
    owners: [u64; TAGS],
    /// The first tag that nobody has had since everything was flushed.
    next: usize,
    last: usize,
    /// Everything has to be flushed at the next entry.
    flush: bool,
}

impl Tags {
    /// Tags 1 to `last`. Nothing is known of what the CPU remembers.
    pub(crate) fn new(last: u32) -> Tags {
        let last = usize::try_from(last).map_or(TAGS - 1, |last| last.min(TAGS - 1));
        Tags { owners: [0; TAGS], next: 1, last, flush: true }
    }

    /// Whether `tag` is that of the tables at `root`.
    #[inline]
    pub(crate) fn holds(&self, tag: u32, root: u64) -> bool {
        root != 0 && usize::try_from(tag).ok().and_then(|tag| self.owners.get(tag)) == Some(&root)
    }

    /// A tag for the tables at `root`.
    pub(crate) fn assign(&mut self, root: u64) -> u32 {
        if self.next > self.last {
            self.owners = [0; TAGS];
            self.next = 1;
            self.flush = true;
        }
        let tag = self.next;
        self.owners[tag] = root;
        self.next += 1;
        u32::try_from(tag).unwrap_or(0)
    }

    /// Take the tag away from the tables at `root`, if they have one.
    pub(crate) fn retire(&mut self, root: u64) {
        for owner in self.owners.iter_mut().filter(|owner| **owner == root) {
            *owner = 0;
        }
    }

    /// Whether the entry that comes now has to flush everything. It counts as done; see [`Tags::flush_failed`].
    pub(crate) fn take_flush(&mut self) -> bool {
        core::mem::take(&mut self.flush)
    }

    /// The entry that should have flushed did not succeed.
    pub(crate) fn flush_failed(&mut self) {
        self.flush = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::collections::BTreeSet;

    #[test]
    fn no_tag_serves_two_owners_without_a_flush_between() {
        let mut tags = Tags::new(15);
        assert!(tags.take_flush(), "who knows what was there before");
        let mut used = BTreeSet::new();
        for step in 0..1000_u64 {
            // Seven VMs, each of which is flushed now and then.
            let root = 0x1000 * (1 + step * 7 % 13 % 7);
            if step % 3 == 0 {
                tags.retire(root);
            }
            let tag = tags.assign(root);
            assert!((1..=15).contains(&tag));
            assert!(tags.holds(tag, root));
            if tags.take_flush() {
                used.clear();
            }
            assert!(used.insert(tag), "tag {tag} was used since the last flush");
        }
    }

    #[test]
    fn a_retired_tag_is_nobodys() {
        let mut tags = Tags::new(0x7fff);
        let (a, b) = (tags.assign(0x1000), tags.assign(0x2000));
        tags.retire(0x1000);
        assert!(!tags.holds(a, 0x1000) && tags.holds(b, 0x2000) && !tags.holds(b, 0x1000));
        assert!(!tags.holds(0, 0), "no tables, no tag");
        assert!(!tags.holds(u32::MAX, 0x2000));
        for root in 0..200_u64 {
            assert!(tags.assign((root + 1) << 12) <= 63);
        }
    }

    #[test]
    fn a_failed_flush_is_tried_again() {
        let mut tags = Tags::new(15);
        assert!(tags.take_flush() && !tags.take_flush());
        tags.flush_failed();
        assert!(tags.take_flush());
    }
}

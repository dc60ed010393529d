//! Address space tags (ASIDs): which guest's translations carry which.
//!
//! To flush a guest's translations is to take its tag away: it gets another, and nothing finds the old ones. When all tags that
//! the CPU has were given out, a new generation begins: nobody has a tag any more, and the next entry flushes everything. So no
//! CPU needs to be able to flush one tag, and flushes are as rare as there are tags many.

/// A guest's tag, as long as its generation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    generation: u64,
    number: u32,
}

impl Tag {
    /// None. All zeros, as a guest's processor is before its start.
    pub(crate) const NONE: Tag = Tag { generation: 0, number: 0 };

    /// What the CPU calls it.
    pub(crate) fn number(self) -> u32 {
        self.number
    }
}

/// The tags of one CPU. Number 0 is the host's.
#[derive(Debug)]
pub(crate) struct Tags {
    /// Counts the times that everything was flushed, from 1.
    generation: u64,
    /// The first number that nobody has had in this generation.
    next: u32,
    last: u32,
    /// Everything has to be flushed at the next entry.
    flush: bool,
}

impl Tags {
    /// Tags 1 to `last`. Nothing is known of what the CPU remembers.
    pub(crate) fn new(last: u32) -> Tags {
        Tags { generation: 1, next: 1, last, flush: true }
    }

    /// Whether `tag` is one of this generation.
    #[inline]
    pub(crate) fn holds(&self, tag: Tag) -> bool {
        tag.generation == self.generation
    }

    /// A tag that nobody has.
    pub(crate) fn assign(&mut self) -> Tag {
        if self.next > self.last {
            self.generation += 1;
            self.next = 1;
            self.flush = true;
        }
        let number = self.next;
        self.next += 1;
        Tag { generation: self.generation, number }
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
    fn no_number_serves_twice_without_a_flush_between() {
        let mut tags = Tags::new(15);
        assert!(tags.take_flush(), "who knows what was there before");
        let mut guests = [Tag::NONE; 20];
        let mut used = BTreeSet::new();
        for step in 0..1000 {
            let guest = &mut guests[step * 7 % 20];
            if step % 3 == 0 {
                *guest = Tag::NONE;
            }
            if tags.holds(*guest) {
                assert!(used.contains(&guest.number()));
                continue;
            }
            *guest = tags.assign();
            assert!((1..=15).contains(&guest.number()) && tags.holds(*guest));
            if tags.take_flush() {
                used.clear();
            }
            assert!(used.insert(guest.number()), "{guest:?} was used since the last flush");
        }
    }

    #[test]
    fn all_that_the_cpu_has_are_given_out_before_a_flush() {
        let mut tags = Tags::new(0x7fff);
        assert!(tags.take_flush());
        let first = tags.assign();
        assert_eq!(first.number(), 1);
        for number in 2..=0x7fff {
            assert_eq!(tags.assign().number(), number);
        }
        assert!(tags.holds(first) && !tags.take_flush());
        let next = tags.assign();
        assert_eq!(next.number(), 1);
        assert!(tags.holds(next) && !tags.holds(first) && tags.take_flush());
    }

    #[test]
    fn no_tag_is_never_held() {
        let mut tags = Tags::new(1);
        assert!(!tags.holds(Tag::NONE));
        for _ in 0..5 {
            assert_ne!(tags.assign(), Tag::NONE);
        }
        assert!(!tags.holds(Tag::NONE));
    }

    #[test]
    fn a_failed_flush_is_tried_again() {
        let mut tags = Tags::new(15);
        assert!(tags.take_flush() && !tags.take_flush());
        tags.flush_failed();
        assert!(tags.take_flush());
    }
}

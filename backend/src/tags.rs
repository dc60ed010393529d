//! Tags of translations (Intel's VPIDs, AMD's ASIDs): which guest's carry which, on one CPU.
//!
//! To flush a guest's translations is to take its tag away: it gets another, and nothing finds the old ones. When all tags that
//! the CPU has were given out, a new generation begins: nobody has a tag any more, and the next entry flushes everything. So no
//! CPU needs to be able to flush one tag, and flushes are as rare as there are tags many. A guest takes a tag when it is entered without one, so
//! there may be more guests than tags.

/// A guest's tag, as long as its generation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    generation: u64,
    number: u32,
}

impl Tag {
    /// None. It is all zeros, as a guest's processor is before its start.
    pub const NONE: Tag = Tag { generation: 0, number: 0 };

    /// What the CPU calls it.
    #[inline]
    pub fn number(self) -> u32 {
        self.number
    }
}

/// The tags of one CPU. Number 0 is the host's.
#[derive(Debug)]
pub struct Tags {
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
    pub fn new(last: u32) -> Tags {
        Tags { generation: 1, next: 1, last, flush: true }
    }

    /// Whether `tag` is one of this generation.
    #[inline]
    pub fn holds(&self, tag: Tag) -> bool {
        tag.generation == self.generation
    }

    /// A tag that nobody has.
    pub fn assign(&mut self) -> Tag {
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
    pub fn take_flush(&mut self) -> bool {
        core::mem::take(&mut self.flush)
    }

    /// The entry that should have flushed did not succeed.
    pub fn flush_failed(&mut self) {
        self.flush = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::vec;

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

    proptest! {
        /// Whatever is entered and forgotten when: what the CPU remembers under a number is of the guest that has it now, or of nobody.
        #[test]
        fn nobody_finds_anothers_translations(
            last in 1..6_u32,
            steps in proptest::collection::vec((0..8_usize, 0..4_u8), 0..300),
        ) {
            let mut tags = Tags::new(last);
            let mut guests = [Tag::NONE; 8];
            // Each guest's memory as the CPU should see it, and what it remembers of whose by number.
            let mut current = [0_u32; 8];
            let mut remembered = BTreeMap::new();
            // Before the first flush, anything.
            (1..=last).for_each(|number| _ = remembered.insert(number, vec![(99, 99)]));
            for (guest, what) in steps {
                if what == 0 {
                    // Its tables change, or another VM takes its place.
                    guests[guest] = Tag::NONE;
                    current[guest] += 1;
                    continue;
                }
                if !tags.holds(guests[guest]) {
                    guests[guest] = tags.assign();
                }
                if tags.take_flush() {
                    if what == 1 {
                        tags.flush_failed();
                        continue;
                    }
                    remembered.clear();
                }
                let number = guests[guest].number();
                prop_assert!((1..=last).contains(&number));
                let mine = (guest, current[guest]);
                let found = remembered.entry(number).or_default();
                prop_assert!(found.iter().all(|&other| other == mine), "{mine:?} found {found:?}");
                found.push(mine);
            }
        }
    }
}

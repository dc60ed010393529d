//! Which pages of a ring's slots an end has been given.

use abi::ring::PAGE_SLOTS;

/// Pages that a ring may have whose pages come one by one.
const PAGES_MAX: u32 = 16;

/// The pages of a ring's slots that its end may touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    /// Pages of the ring; 0 where all of them are there at any time.
    count: u32,
    /// Bit `i` for page `i`.
    given: u32,
}

impl Pages {
    /// All of them, at any time.
    pub(crate) const ALL: Pages = Pages { count: 0, given: 0 };

    /// None yet of a ring of `capacity` slots, a power of two; `None` for a ring that is too large.
    pub(crate) fn none(capacity: u32) -> Option<Pages> {
        let count = capacity.div_ceil(PAGE_SLOTS);
        (count <= PAGES_MAX).then_some(Pages { count, given: 0 })
    }

    /// The first page that was not given, of those of `slots` slots from slot `position` on, which may go on at slot 0.
    #[inline]
    pub(crate) fn missing(self, position: u32, slots: u32) -> Option<u32> {
        if self.count == 0 || slots == 0 {
            return None;
        }
        let (first, last) = (position / PAGE_SLOTS, (position + slots - 1) / PAGE_SLOTS);
        // The ring has at most 16 pages, and the slots go round at most once: bits 0 to 31, of which the upper ones mean the
        // first pages again.
        let wanted = (2_u64 << last.min(2 * PAGES_MAX - 1)) - (1 << first);
        let given = u64::from(self.given);
        let missing = wanted & !(given | given << self.count);
        (missing != 0).then(|| missing.trailing_zeros() % self.count)
    }

    /// That page is there from now on.
    pub(crate) fn give(&mut self, page: u32) {
        if page < self.count {
            self.given |= 1 << page;
        }
    }

    /// The pages of these bits are there no longer.
    pub(crate) fn take(&mut self, pages: u32) {
        self.given &= !pages;
    }

    /// Bit `i` for each page `i` that is there because it was given.
    pub(crate) fn given(self) -> u32 {
        self.given
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGES_MAX, Pages};

    #[test]
    fn all_pages_are_there_where_they_do_not_come_one_by_one() {
        let mut pages = Pages::ALL;
        assert_eq!(pages.missing(4095, 4096), None);
        pages.give(0);
        assert_eq!(pages.given(), 0);
    }

    #[test]
    fn a_ring_beyond_the_limit_is_refused() {
        assert!(Pages::none(1024).is_some());
        assert!(Pages::none(2048).is_none());
    }

    /// Against a look at each slot.
    #[test]
    fn the_first_missing_page_is_found() {
        for capacity in [2, 32, 64, 128, 256, 1024] {
            let count = Pages::none(capacity).expect("small").count;
            for given in [0, 1, 2, 0b101, 0b1101, 0x7fff, 0xffff_u32] {
                let mut pages = Pages::none(capacity).expect("small");
                (0..PAGES_MAX).filter(|page| given >> page & 1 != 0).for_each(|page| pages.give(page));
                assert_eq!(pages.given(), given & ((1 << count) - 1));
                for position in [0, 1, 31, 63, 64, 65, 127, 128, 200, 255, 256, 1000, 1023] {
                    for slots in [0, 1, 2, 24, 63, 64, 65, 128, 256, 1024] {
                        if position >= capacity || slots > capacity {
                            continue;
                        }
                        let page_of = |slot: u32| slot % capacity / 64;
                        let slow = (position..position + slots).map(page_of).find(|page| given >> page & 1 == 0);
                        assert_eq!(pages.missing(position, slots), slow, "{capacity} {given:#b} {position} {slots}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_taken_is_missing_again() {
        let mut pages = Pages::none(256).expect("small");
        (0..4).for_each(|page| pages.give(page));
        assert_eq!(pages.missing(0, 256), None);
        pages.take(0b0110);
        assert_eq!((pages.given(), pages.missing(0, 256), pages.missing(0, 64)), (0b1001, Some(1), None));
    }
}

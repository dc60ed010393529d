//! Up to 64 pages of a VM that lie side by side.

/// Pages from this one on, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pub first: u32,
    pub bits: u64,
}

impl Pages {
    /// Whether a page is one of them.
    pub fn has(&self, page: u32) -> bool {
        page.checked_sub(self.first).is_some_and(|at| at < u64::BITS && self.bits >> at & 1 != 0)
    }

    /// It is none of them any more.
    pub fn remove(&mut self, page: u32) {
        if self.has(page) {
            self.bits &= !(1 << (page - self.first));
        }
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |at| self.bits >> at & 1 != 0).filter_map(move |at| self.first.checked_add(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_of_them_by_its_bit_and_none_that_lies_elsewhere_is() {
        let pages = Pages { first: 192, bits: 1 | 1 << 5 | 1 << 63 };
        assert_eq!(pages.iter().collect::<Vec<_>>(), [192, 197, 255]);
        let around: Vec<u32> = (0..400).filter(|&page| pages.has(page)).collect();
        assert_eq!(around, [192, 197, 255]);
    }

    #[test]
    fn what_is_removed_is_none_of_them_any_more_and_the_others_stay() {
        let mut pages = Pages { first: 192, bits: !0 };
        for page in [197, 255, 191, 256, 5, 63] {
            pages.remove(page);
        }
        assert_eq!(pages, Pages { first: 192, bits: !(1 << 5 | 1 << 63) });
        pages.remove(197);
        assert_eq!(pages.bits.count_ones(), 62, "it was none of them");
    }

    #[test]
    fn no_page_has_a_number_that_there_is_not() {
        let pages = Pages { first: u32::MAX - 1, bits: !0 };
        assert_eq!(pages.iter().collect::<Vec<_>>(), [u32::MAX - 1, u32::MAX]);
        assert!(pages.has(u32::MAX) && !pages.has(0));
    }
}

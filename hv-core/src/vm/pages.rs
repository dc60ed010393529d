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

//! What the loader does with the table of frames before it leaves it to the core.

use super::{Frames, Owner};
use crate::memory::phys::{PhysAddr, index};

impl Frames {
    /// Where the table lies, in the direct map.
    #[must_use]
    pub fn place(&self) -> PhysAddr {
        PhysAddr::of(self.table.as_ptr())
    }

    /// Frames that lie one behind the other and have the same owner, from the frame `first` on: the owner, and the first frame behind
    /// them. `None` beyond the table.
    pub fn run(&self, first: u64) -> Option<(Owner, u64)> {
        let rest = self.table.get(index(first)..)?;
        let tag = rest.first()?.tag;
        let frames = rest.iter().position(|entry| entry.tag != tag).unwrap_or(rest.len());
        Some((Owner::from_tag(tag), first + frames as u64))
    }

    /// Changes the owner of the frames `first..end`, as far as they are `from`'s. At boot only; neither is [`Owner::Free`].
    pub fn hand_over(&mut self, first: u64, end: u64, from: Owner, to: Owner) {
        let end = end.min(self.table.len() as u64);
        for number in first..end {
            let entry = &mut self.table[index(number)];
            if entry.tag == from.tag() && from != Owner::Free && to != Owner::Free {
                entry.tag = to.tag();
                self.count(from.class(), to.class(), 1);
            }
        }
    }
}

//! The VMs that can run, in the order in which the core's fallback takes them, and those that wait for admission, in the order
//! of their arrival: lists threaded through one array each.

/// "No slot".
const NONE: u16 = u16::MAX;

/// Links of one slot.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    next: u16,
    previous: u16,
    /// True while the slot is in the list.
    listed: bool,
}

/// What unused memory holds.
pub const EMPTY_LINK: Link = Link { next: NONE, previous: NONE, listed: false };

/// First in, first out, with removal from anywhere in constant time.
#[derive(Debug)]
pub struct ReadyList<'m> {
    links: &'m mut [Link],
    first: u16,
    last: u16,
}

impl<'m> ReadyList<'m> {
    /// An empty list for the slots `0..links.len()`.
    pub fn new(links: &'m mut [Link]) -> Self {
        links.fill(EMPTY_LINK);
        ReadyList { links, first: NONE, last: NONE }
    }

    /// True when `slot` is in the list.
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.links.get(usize::from(slot)).is_some_and(|link| link.listed)
    }

    /// True when nothing can run.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// The slot that waits longest.
    #[inline]
    pub fn first(&self) -> Option<u16> {
        (self.first != NONE).then_some(self.first)
    }

    /// Append `slot`, unless it is listed already or beyond the table.
    #[inline]
    pub fn push(&mut self, slot: u16) {
        let last = self.last;
        let Some(link) = self.links.get_mut(usize::from(slot)) else { return };
        if link.listed {
            return;
        }
        *link = Link { next: NONE, previous: last, listed: true };
        match self.links.get_mut(usize::from(last)) {
            Some(before) => before.next = slot,
            None => self.first = slot,
        }
        self.last = slot;
    }

    /// Take `slot` out, if it is there.
    #[inline]
    pub fn remove(&mut self, slot: u16) {
        let Some(link) = self.links.get_mut(usize::from(slot)) else { return };
        if !link.listed {
            return;
        }
        let Link { next, previous, .. } = *link;
        *link = EMPTY_LINK;
        match self.links.get_mut(usize::from(previous)) {
            Some(before) => before.next = next,
            None => self.first = next,
        }
        match self.links.get_mut(usize::from(next)) {
            Some(after) => after.previous = previous,
            None => self.last = previous,
        }
    }

    /// Move `slot` behind all others.
    #[inline]
    pub fn rotate(&mut self, slot: u16) {
        if self.last != slot && self.contains(slot) {
            self.remove(slot);
            self.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::{collections::VecDeque, vec};

    proptest! {
        #[test]
        fn behaves_like_a_deque(steps in prop::collection::vec((0_u16..10, 0_u8..4), 0..200)) {
            let mut links = vec![EMPTY_LINK; 8];
            let mut list = ReadyList::new(&mut links);
            let mut model = VecDeque::new();
            for (slot, what) in steps {
                let known = model.contains(&slot);
                match what {
                    0 | 1 => {
                        list.push(slot);
                        if !known && slot < 8 { model.push_back(slot); }
                    }
                    2 => {
                        list.remove(slot);
                        model.retain(|&other| other != slot);
                    }
                    _ => {
                        list.rotate(slot);
                        if known {
                            model.retain(|&other| other != slot);
                            model.push_back(slot);
                        }
                    }
                }
                prop_assert_eq!(list.first(), model.front().copied());
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(list.contains(slot), model.contains(&slot));
            }
        }
    }
}

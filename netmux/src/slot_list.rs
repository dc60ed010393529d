//! A list of slots, first in, first out, in which each is once at most. All of it is zero when it is new, so that it lies in
//! `.bss`.

/// The last one's link.
const LAST: u16 = u16::MAX;

/// A list of slots below `N`, which is below 65,535.
pub struct SlotList<const N: usize> {
    /// Of each slot: 0 when it is not in the list, [`LAST`], or one more than the slot behind it.
    links: [u16; N],
    first: u16,
    last: u16,
    len: u16,
}

impl<const N: usize> SlotList<N> {
    /// An empty list.
    pub const fn new() -> Self {
        assert!(N < LAST as usize);
        SlotList { links: [0; N], first: 0, last: 0, len: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> u16 {
        self.len
    }

    /// Puts a slot behind the others, unless it is among them.
    pub fn push(&mut self, slot: u16) {
        match self.links.get_mut(usize::from(slot)) {
            Some(link) if *link == 0 => *link = LAST,
            _ => return,
        }
        match self.links.get_mut(usize::from(self.last)) {
            Some(last) if self.len != 0 => *last = slot + 1,
            _ => self.first = slot,
        }
        self.last = slot;
        self.len += 1;
    }

    /// Takes the first slot out.
    pub fn pop(&mut self) -> Option<u16> {
        self.len = self.len.checked_sub(1)?;
        let slot = self.first;
        let link = self.links.get_mut(usize::from(slot))?;
        self.first = core::mem::take(link).wrapping_sub(1);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::SlotList;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn it_is_a_queue_without_repetitions(steps in prop::collection::vec(prop::option::of(0_u16..10), 0..200)) {
            let mut list = SlotList::<8>::new();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Some(slot) => {
                        list.push(slot);
                        if slot < 8 && !model.contains(&slot) {
                            model.push_back(slot);
                        }
                    }
                    None => prop_assert_eq!(list.pop(), model.pop_front()),
                }
                prop_assert_eq!(usize::from(list.len()), model.len());
            }
            let rest: Vec<u16> = core::iter::from_fn(|| list.pop()).collect();
            prop_assert_eq!(rest, Vec::from(model));
        }
    }
}

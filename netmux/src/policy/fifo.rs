//! A queue of VM slots within a table: every operation takes the same short time, also to take a slot out of the middle.

/// A slot's neighbours, plus 1; 0 for none. All zero when it is not queued.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u16,
    previous: u16,
    queued: bool,
}

/// The queue over `N` slots, in which each is once at most. All zeros when it is empty.
#[derive(Debug)]
pub struct Fifo<const N: usize> {
    links: [Link; N],
    first: u16,
    last: u16,
}

impl<const N: usize> Fifo<N> {
    /// The empty queue.
    pub const fn new() -> Self {
        const { assert!(N < 0xffff, "slots have 16 bits") };
        Fifo { links: [Link { next: 0, previous: 0, queued: false }; N], first: 0, last: 0 }
    }

    /// True when no slot is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Puts `slot` at the end, unless it is in or does not exist.
    #[inline]
    pub fn push(&mut self, slot: u16) {
        let previous = self.last;
        let Some(link) = self.links.get_mut(usize::from(slot)).filter(|link| !link.queued) else { return };
        *link = Link { next: 0, previous, queued: true };
        match previous {
            0 => self.first = slot + 1,
            previous => self.links[usize::from(previous - 1)].next = slot + 1,
        }
        self.last = slot + 1;
    }

    /// Takes the first slot out.
    #[inline]
    pub fn pop(&mut self) -> Option<u16> {
        let slot = self.first.checked_sub(1)?;
        self.remove(slot);
        Some(slot)
    }

    /// Takes `slot` out, if it is in.
    #[inline]
    pub fn remove(&mut self, slot: u16) {
        let Some(link) = self.links.get_mut(usize::from(slot)).filter(|link| link.queued) else { return };
        let Link { next, previous, .. } = core::mem::replace(link, Link { next: 0, previous: 0, queued: false });
        match previous {
            0 => self.first = next,
            previous => self.links[usize::from(previous - 1)].next = next,
        }
        match next {
            0 => self.last = previous,
            next => self.links[usize::from(next - 1)].previous = previous,
        }
    }
}

impl<const N: usize> Default for Fifo<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn like_a_deque_without_duplicates(steps in proptest::collection::vec((0..4_u8, 0..7_u16), 0..200)) {
            let mut queue = Fifo::<6>::new();
            let mut model = VecDeque::new();
            for (step, slot) in steps {
                match step {
                    0 | 1 => {
                        queue.push(slot);
                        if slot < 6 && !model.contains(&slot) {
                            model.push_back(slot);
                        }
                    }
                    2 => {
                        queue.remove(slot);
                        model.retain(|&other| other != slot);
                    }
                    _ => prop_assert_eq!(queue.pop(), model.pop_front()),
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            let left: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(left, Vec::from(model));
        }
    }
}

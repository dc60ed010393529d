//! A binary heap of VM slots, the least key first. A slot can be taken out or given another key wherever it is: every operation
//! takes at most one step for each level of the heap, 14 with all slots in it.

use abi::limits::MAX_VMS;

/// The heap. Slots are below [`MAX_VMS`]. 0 in `places` means that a slot is not in it, so that an empty heap is all zeros.
#[derive(Debug)]
pub struct Heap {
    keys: [u128; MAX_VMS],
    /// Slots, each behind its parent.
    order: [u16; MAX_VMS],
    /// Where in `order` each slot is, plus 1.
    places: [u16; MAX_VMS],
    len: usize,
}

const _: () = assert!(MAX_VMS < 0xffff);

impl Heap {
    /// The empty heap.
    pub const fn new() -> Self {
        Heap { keys: [0; MAX_VMS], order: [0; MAX_VMS], places: [0; MAX_VMS], len: 0 }
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Takes all slots out.
    pub fn clear(&mut self) {
        for &slot in &self.order[..self.len] {
            self.places[usize::from(slot)] = 0;
        }
        self.len = 0;
    }

    /// The slot with the least key, and that key.
    #[inline]
    pub fn first(&self) -> Option<(u16, u128)> {
        let slot = *self.order[..self.len].first()?;
        Some((slot, self.keys[usize::from(slot)]))
    }

    /// Puts `slot` in, or gives it another key.
    #[inline]
    pub fn set(&mut self, slot: u16, key: u128) {
        let at = match self.places[usize::from(slot)] {
            0 => {
                self.len += 1;
                self.put(self.len - 1, slot);
                self.len - 1
            }
            place => usize::from(place - 1),
        };
        self.keys[usize::from(slot)] = key;
        self.settle(at);
    }

    /// Takes `slot` out and returns its key; `None` when it is not in.
    #[inline]
    pub fn remove(&mut self, slot: u16) -> Option<u128> {
        let at = usize::from(self.places[usize::from(slot)].checked_sub(1)?);
        self.places[usize::from(slot)] = 0;
        self.len -= 1;
        if at < self.len {
            let last = self.order[self.len];
            self.put(at, last);
            self.settle(at);
        }
        Some(self.keys[usize::from(slot)])
    }

    fn put(&mut self, at: usize, slot: u16) {
        self.order[at] = slot;
        // Below MAX_VMS, and so below 2^16.
        self.places[usize::from(slot)] = u16::try_from(at + 1).unwrap_or(0);
    }

    fn key(&self, at: usize) -> u128 {
        self.keys[usize::from(self.order[at])]
    }

    /// Moves the slot at `at` up or down to where its key belongs.
    fn settle(&mut self, mut at: usize) {
        let slot = self.order[at];
        let key = self.keys[usize::from(slot)];
        while at > 0 && key < self.key((at - 1) / 2) {
            self.put(at, self.order[(at - 1) / 2]);
            at = (at - 1) / 2;
        }
        loop {
            let mut child = 2 * at + 1;
            if child >= self.len {
                break;
            }
            if child + 1 < self.len && self.key(child + 1) < self.key(child) {
                child += 1;
            }
            if key <= self.key(child) {
                break;
            }
            self.put(at, self.order[child]);
            at = child;
        }
        self.put(at, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn like_an_ordered_map(steps in prop::collection::vec((0_u8..5, 0_u16..20, any::<u8>()), 0..300)) {
            let mut heap = Box::new(Heap::new());
            let mut model = BTreeMap::new();
            for (step, slot, key) in steps {
                match step {
                    0..=2 => {
                        heap.set(slot, key.into());
                        model.insert(slot, u128::from(key));
                    }
                    3 => prop_assert_eq!(heap.remove(slot), model.remove(&slot)),
                    _ if key == 0 => {
                        heap.clear();
                        model.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!(heap.len(), model.len());
                let least = model.values().min().copied();
                prop_assert_eq!(heap.first().map(|(_, key)| key), least);
                if let Some((slot, key)) = heap.first() {
                    prop_assert_eq!(model.get(&slot), Some(&key));
                }
            }
            let mut keys: Vec<_> = model.values().copied().collect();
            keys.sort_unstable();
            for key in keys {
                let (slot, first) = heap.first().expect("not empty yet");
                prop_assert_eq!((first, heap.remove(slot)), (key, Some(key)));
            }
            prop_assert_eq!(heap.first(), None);
        }
    }

    #[test]
    fn all_slots_at_once() {
        let mut heap = Box::new(Heap::new());
        let count = u16::try_from(MAX_VMS).expect("16 bits");
        for slot in 0..count {
            heap.set(slot, u128::from(count - slot));
        }
        for slot in (0..count).rev() {
            assert_eq!(heap.first(), Some((slot, u128::from(count - slot))));
            heap.remove(slot);
        }
    }
}

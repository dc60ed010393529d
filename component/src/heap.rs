//! A binary heap of slots, the least key first, for policies. A slot can be taken out or given another key wherever it is: every
//! operation takes at most one step for each level of the heap, 14 with 16,384 slots in it.

/// The heap of slots below `N`. 0 in `places` means that a slot is not in it, so that an empty heap of numbers is all zeros.
///
/// ```
/// let mut heap = component::Heap::<u64, 8>::new(0);
/// heap.set(3, 70);
/// heap.set(5, 60);
/// heap.set(3, 50);
/// assert_eq!((heap.len(), heap.first()), (2, Some((3, 50))));
/// ```
#[derive(Debug)]
pub struct Heap<K, const N: usize> {
    keys: [K; N],
    /// Slots, each behind its parent.
    order: [u32; N],
    /// Where in `order` each slot is, plus 1.
    places: [u32; N],
    len: usize,
}

impl<K: Copy + Ord, const N: usize> Heap<K, N> {
    /// The empty heap; `zero` fills the places of keys.
    pub const fn new(zero: K) -> Self {
        const { assert!(N < 0xffff_ffff, "slots have 32 bits") };
        Heap { keys: [zero; N], order: [0; N], places: [0; N], len: 0 }
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `slot` is in it.
    #[inline]
    pub fn contains(&self, slot: u32) -> bool {
        self.places.get(index(slot)).is_some_and(|&place| place != 0)
    }

    /// Takes all slots out.
    pub fn clear(&mut self) {
        for &slot in &self.order[..self.len] {
            self.places[index(slot)] = 0;
        }
        self.len = 0;
    }

    /// The slot with the least key, and that key.
    #[inline]
    pub fn first(&self) -> Option<(u32, K)> {
        let slot = *self.order[..self.len].first()?;
        Some((slot, self.keys[index(slot)]))
    }

    /// Puts `slot` in, or gives it another key.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    #[inline]
    pub fn set(&mut self, slot: u32, key: K) {
        let at = match self.places[index(slot)] {
            0 => {
                self.len += 1;
                self.put(self.len - 1, slot);
                self.len - 1
            }
            place => index(place - 1),
        };
        self.keys[index(slot)] = key;
        self.settle(at);
    }

    /// Takes `slot` out and returns its key; `None` when it is not in.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    #[inline]
    pub fn remove(&mut self, slot: u32) -> Option<K> {
        let at = index(self.places[index(slot)].checked_sub(1)?);
        self.places[index(slot)] = 0;
        self.len -= 1;
        if at < self.len {
            let last = self.order[self.len];
            self.put(at, last);
            self.settle(at);
        }
        Some(self.keys[index(slot)])
    }

    fn put(&mut self, at: usize, slot: u32) {
        self.order[at] = slot;
        // At most `N`, and so below 2^32.
        self.places[index(slot)] = u32::try_from(at + 1).unwrap_or(0);
    }

    fn key(&self, at: usize) -> K {
        self.keys[index(self.order[at])]
    }

    /// Moves the slot at `at` up or down to where its key belongs.
    fn settle(&mut self, mut at: usize) {
        let slot = self.order[at];
        let key = self.keys[index(slot)];
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

/// A slot as an index.
#[inline]
const fn index(slot: u32) -> usize {
    slot as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SLOTS: usize = 16_384;

    proptest! {
        #[test]
        fn like_an_ordered_map(steps in prop::collection::vec((0_u8..5, 0_u32..20, any::<u8>()), 0..300)) {
            let mut heap = Box::new(Heap::<u128, SLOTS>::new(0));
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
                prop_assert_eq!((heap.len(), heap.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(heap.contains(slot), model.contains_key(&slot));
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
        let mut heap = Box::new(Heap::<u128, SLOTS>::new(0));
        let count = u32::try_from(SLOTS).expect("16 bits");
        for slot in 0..count {
            heap.set(slot, u128::from(count - slot));
        }
        for slot in (0..count).rev() {
            assert_eq!(heap.first(), Some((slot, u128::from(count - slot))));
            heap.remove(slot);
        }
    }
}

//! A binary heap of seats, the least key first, for policies. A seat can be taken out or given another key wherever it is: every
//! operation takes at most one step for each level of the heap, 16 with 65,535 seats in it.

use crate::tables::{Table, Tables};
use abi::vm::Seat;

/// The heap of the machine's seats.
///
/// ```
/// use abi::note::TableBytes;
/// use abi::vm::Seat;
/// let bytes = TableBytes { per_seat: component::Heap::<u64>::SEAT_BYTES, per_slot: 0, ..TableBytes::NONE };
/// let mut heap = component::Heap::<u64>::new(&mut component::Tables::on_heap(bytes, 0, 8));
/// heap.set(Seat::new(3), 70);
/// heap.set(Seat::new(5), 60);
/// heap.set(Seat::new(3), 50);
/// assert_eq!((heap.len(), heap.first()), (2, Some((Seat::new(3), 50))));
/// ```
#[derive(Debug)]
pub struct Heap<K: 'static> {
    // Two tables, since a large key would leave a hole beside each place.
    keys: Table<K>,
    /// Of each seat: where in `order` it is, plus 1, as there are at most 65,535; 0 when it is not in.
    places: Table<u16>,
    /// Seats, each behind its parent.
    order: Table<Seat>,
    len: usize,
}

const _: () = assert!(abi::limits::MAX_SEATS <= u16::MAX as usize);

impl<K: Copy + Ord + Default> Heap<K> {
    /// What a heap takes of [`abi::note::TableBytes::per_seat`].
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = (size_of::<K>() + size_of::<u16>() + size_of::<Seat>()) as u32;

    /// The empty heap.
    pub fn new(tables: &mut Tables) -> Self {
        Heap { keys: tables.per_seat(), places: tables.per_seat(), order: tables.per_seat(), len: 0 }
    }

    /// How many seats are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `seat` is in it.
    #[inline]
    pub fn contains(&self, seat: Seat) -> bool {
        self.places.get(seat.index()).is_some_and(|&place| place != 0)
    }

    /// The key of `seat`; `None` when it is not in.
    #[inline]
    pub fn get(&self, seat: Seat) -> Option<K> {
        self.contains(seat).then(|| self.keys[seat.index()])
    }

    /// Takes all seats out.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.places.clear();
        self.len = 0;
    }

    /// The seat with the least key, and that key.
    #[inline]
    pub fn first(&self) -> Option<(Seat, K)> {
        let seat = *self.order.get(..self.len)?.first()?;
        Some((seat, self.keys[seat.index()]))
    }

    /// Puts `seat` in, or gives it another key. Nothing happens when there is no such seat.
    #[inline]
    pub fn set(&mut self, seat: Seat, key: K) {
        let len = self.len;
        let (Some(old), Some(&mut place)) = (self.keys.reach(seat.index()), self.places.reach(seat.index())) else {
            return;
        };
        *old = key;
        let at = match place {
            0 => {
                self.order.reach(len);
                self.len += 1;
                self.put(len, seat);
                len
            }
            place => usize::from(place) - 1,
        };
        self.settle(at);
    }

    /// Takes `seat` out and returns its key; `None` when it is not in.
    #[inline]
    pub fn remove(&mut self, seat: Seat) -> Option<K> {
        let place = self.places.get_mut(seat.index())?;
        let at = usize::from(core::mem::take(place).checked_sub(1)?);
        let key = self.keys[seat.index()];
        self.len -= 1;
        if at < self.len {
            let last = self.order[self.len];
            self.put(at, last);
            self.settle(at);
        }
        Some(key)
    }

    fn put(&mut self, at: usize, seat: Seat) {
        self.order[at] = seat;
        // At most as many as there are seats.
        self.places[seat.index()] = u16::try_from(at + 1).unwrap_or(0);
    }

    fn key(&self, at: usize) -> K {
        self.keys[self.order[at].index()]
    }

    /// Moves the seat at `at` up or down to where its key belongs.
    fn settle(&mut self, mut at: usize) {
        let seat = self.order[at];
        let key = self.keys[seat.index()];
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
        self.put(at, seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::limits::MAX_SEATS;
    use abi::note::TableBytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn heap(seats: usize) -> Heap<u128> {
        let bytes = TableBytes { per_slot: 0, per_seat: Heap::<u128>::SEAT_BYTES, ..TableBytes::NONE };
        Heap::new(&mut Tables::on_heap(bytes, 0, seats))
    }

    proptest! {
        #[test]
        fn like_an_ordered_map(steps in prop::collection::vec((0_u8..5, 0_u16..20, any::<u8>()), 0..300)) {
            let mut heap = heap(18);
            let mut model = BTreeMap::new();
            for (step, seat, key) in steps {
                let seat = Seat::new(seat);
                match step {
                    0..=2 => {
                        heap.set(seat, key.into());
                        if seat.index() < 18 {
                            model.insert(seat, u128::from(key));
                        }
                    }
                    3 => prop_assert_eq!(heap.remove(seat), model.remove(&seat)),
                    _ if key == 0 => {
                        heap.clear();
                        model.clear();
                    }
                    _ => {}
                }
                prop_assert_eq!((heap.len(), heap.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(heap.contains(seat), model.contains_key(&seat));
                prop_assert_eq!(heap.get(seat), model.get(&seat).copied());
                let least = model.values().min().copied();
                prop_assert_eq!(heap.first().map(|(_, key)| key), least);
                if let Some((seat, key)) = heap.first() {
                    prop_assert_eq!(model.get(&seat), Some(&key));
                }
            }
            let mut keys: Vec<_> = model.values().copied().collect();
            keys.sort_unstable();
            for key in keys {
                let (seat, first) = heap.first().expect("not empty yet");
                prop_assert_eq!((first, heap.remove(seat)), (key, Some(key)));
            }
            prop_assert_eq!(heap.first(), None);
        }
    }

    #[test]
    fn all_seats_at_once() {
        let mut heap = heap(MAX_SEATS);
        let all = || (0_u16..65_535).map(Seat::new);
        for seat in all() {
            heap.set(seat, u128::from(65_535 - seat.number()));
        }
        for seat in all().rev() {
            assert_eq!(heap.first(), Some((seat, u128::from(65_535 - seat.number()))));
            heap.remove(seat);
        }
    }
}

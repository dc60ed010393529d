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
    // Two tables, since a large key would leave a hole beside each seat. Both in the order of the heap, so that who is compared lies side by side.
    keys: Table<K>,
    seats: Table<Seat>,
    /// Of each seat: where it is, plus 1, as there are at most 65,535; 0 when it is not in.
    places: Table<u16>,
    len: usize,
}

const _: () = assert!(abi::limits::MAX_SEATS <= u16::MAX as usize);

/// What stands for a place in the heap.
// There are at most as many places as seats.
#[allow(clippy::cast_possible_truncation)]
#[inline]
fn number(at: usize) -> u16 {
    (at + 1) as u16
}

impl<K: Copy + Ord + Default> Heap<K> {
    /// What a heap takes of [`abi::note::TableBytes::per_seat`].
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = (size_of::<K>() + size_of::<u16>() + size_of::<Seat>()) as u32;

    /// The empty heap.
    pub fn new(tables: &mut Tables) -> Self {
        Heap { keys: tables.per_seat(), seats: tables.per_seat(), places: tables.per_seat(), len: 0 }
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
        self.place(seat).is_some()
    }

    /// The key of `seat`; `None` when it is not in.
    #[inline]
    pub fn get(&self, seat: Seat) -> Option<K> {
        self.place(seat).map(|at| self.keys[at])
    }

    /// Takes all seats out.
    pub fn clear(&mut self) {
        self.places.clear();
        self.len = 0;
    }

    /// The seat with the least key, and that key.
    #[inline]
    pub fn first(&self) -> Option<(Seat, K)> {
        let seat = *self.seats.get(..self.len)?.first()?;
        Some((seat, self.keys[0]))
    }

    /// Puts `seat` in, or gives it another key. Nothing happens when there is no such seat.
    #[inline]
    pub fn set(&mut self, seat: Seat, key: K) {
        let Some(&mut place) = self.places.reach(seat.index()) else { return };
        let at = match place {
            0 => {
                let len = self.len;
                self.keys.reach(len);
                self.seats.reach(len);
                self.len += 1;
                len
            }
            place => usize::from(place) - 1,
        };
        self.settle(at, seat, key);
    }

    /// Gives the seat that is first a key that is no less: it comes behind all to which it is compared and that have the same. Nothing happens
    /// when none is in.
    #[inline]
    pub fn put_back(&mut self, key: K) {
        if let Some(&seat) = self.seats.get(..self.len).and_then(<[Seat]>::first) {
            self.sink(0, seat, key);
        }
    }

    /// Takes `seat` out and returns its key; `None` when it is not in.
    #[inline]
    pub fn remove(&mut self, seat: Seat) -> Option<K> {
        let at = self.place(seat)?;
        self.places[seat.index()] = 0;
        let key = self.keys[at];
        self.len -= 1;
        if at < self.len {
            let last = self.len;
            self.settle(at, self.seats[last], self.keys[last]);
        }
        Some(key)
    }

    /// Where `seat` is.
    #[inline]
    fn place(&self, seat: Seat) -> Option<usize> {
        usize::from(*self.places.get(seat.index())?).checked_sub(1)
    }

    #[inline]
    fn put(&mut self, at: usize, seat: Seat, key: K) {
        self.keys[at] = key;
        self.seats[at] = seat;
        self.places[seat.index()] = number(at);
    }

    /// Puts a seat to where its key belongs, above or below `at`, where nobody is.
    fn settle(&mut self, mut at: usize, seat: Seat, key: K) {
        while let Some(above) = at.checked_sub(1) {
            let parent = above / 2;
            if self.keys[parent] <= key {
                break;
            }
            self.put(at, self.seats[parent], self.keys[parent]);
            at = parent;
        }
        self.sink(at, seat, key);
    }

    /// Puts a seat to where its key belongs, at or below `at`, where nobody is.
    #[inline]
    fn sink(&mut self, mut at: usize, seat: Seat, key: K) {
        // As many of each as are in the heap: each place is compared with their number once.
        let (Some(keys), Some(seats)) = (self.keys.get_mut(..self.len), self.seats.get_mut(..self.len)) else { return };
        let places = &mut self.places;
        let mut put = |at: usize, seat: Seat| {
            if let Some(place) = places.get_mut(seat.index()) {
                *place = number(at);
            }
        };
        loop {
            let mut child = 2 * at + 1;
            let Some(&(mut least)) = keys.get(child) else { break };
            if let Some(&other) = keys.get(child + 1)
                && other < least
            {
                (child, least) = (child + 1, other);
            }
            if key < least {
                break;
            }
            let below = seats[child];
            (keys[at], seats[at]) = (least, below);
            put(at, below);
            at = child;
        }
        (keys[at], seats[at]) = (key, seat);
        put(at, seat);
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

//! The seats of admitted VMs: a free list threaded through an array that, for a seat that is taken, names the slot of its VM.

use abi::vm::{Seat, Slot};

/// Marks the cell of a seat that is free. Slots have fewer bits.
const FREE: u32 = 1 << 31;
/// "No seat".
const NONE: u32 = FREE | 0xffff;

const _: () = assert!(abi::limits::MAX_SLOTS < FREE as usize && abi::limits::MAX_SEATS <= 0xffff);

/// What unused memory holds.
pub const EMPTY_SEAT: u32 = NONE;

/// All seats.
#[derive(Debug)]
pub struct Seats {
    /// The slot of the VM in a seat; of a free one, [`FREE`] and the next free one.
    cells: &'static mut [u32],
    /// The seat that was given back last; it is the next to be taken, so that the seats in use stay few and low.
    free: u32,
    /// No seat from here on was ever taken.
    fresh: usize,
    taken: usize,
}

impl Seats {
    /// All are free.
    ///
    /// # Panics
    /// There are more than a seat's name has room for.
    pub fn new(cells: &'static mut [u32]) -> Self {
        assert!(cells.len() <= abi::limits::MAX_SEATS, "seats have 16 bits");
        Seats { cells, free: NONE, fresh: 0, taken: 0 }
    }

    /// How many are free.
    #[inline]
    pub fn free(&self) -> u32 {
        // At most MAX_SEATS.
        u32::try_from(self.cells.len() - self.taken).unwrap_or(0)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// How many there are from the first to the last that was ever taken.
    #[inline]
    pub fn used(&self) -> usize {
        self.fresh
    }

    /// Give the VM in a slot a seat. `None` when all are taken.
    pub fn take(&mut self, slot: Slot) -> Option<Seat> {
        let index = if self.free == NONE { self.fresh } else { (self.free & !FREE) as usize };
        let seat = Seat::new(u16::try_from(index).ok()?);
        let cell = self.cells.get_mut(index)?;
        match self.free {
            NONE => self.fresh += 1,
            _ => self.free = *cell,
        }
        *cell = slot.number();
        self.taken += 1;
        Some(seat)
    }

    /// A seat is free again; one that is free stays so.
    pub fn give_back(&mut self, seat: Seat) {
        let Some(cell) = self.cells.get_mut(seat.index()).filter(|cell| **cell & FREE == 0) else { return };
        *cell = self.free;
        self.free = FREE | u32::from(seat.number());
        self.taken -= 1;
    }

    /// The slot of the VM in a seat; `None` when it is free.
    #[inline]
    pub fn slot(&self, seat: Seat) -> Option<Slot> {
        self.cells.get(seat.index()).filter(|&&cell| cell & FREE == 0).map(|&cell| Slot::new(cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn seats(count: usize) -> Seats {
        Seats::new(vec![EMPTY_SEAT; count].leak())
    }

    #[test]
    fn all_can_be_taken_and_no_more() {
        let mut seats = seats(abi::limits::MAX_SEATS);
        for number in 0..=65_534 {
            assert_eq!(seats.take(Slot::new(number)), Some(Seat::new(u16::try_from(number).expect("small"))));
        }
        assert_eq!((seats.free(), seats.take(Slot::new(7))), (0, None));
        seats.give_back(Seat::new(65_534));
        assert_eq!((seats.free(), seats.take(Slot::new(7)).map(Seat::number)), (1, Some(65_534)));
    }

    #[test]
    fn the_one_that_was_given_back_last_is_next() {
        let mut seats = seats(4);
        let taken = [10, 11, 12].map(|slot| seats.take(Slot::new(slot)).expect("free"));
        seats.give_back(taken[0]);
        seats.give_back(taken[2]);
        assert_eq!(seats.used(), 3);
        assert_eq!([13, 14, 15].map(|slot| seats.take(Slot::new(slot)).map(Seat::number)), [Some(2), Some(0), Some(3)]);
    }

    proptest! {
        #[test]
        fn like_a_map(steps in prop::collection::vec((any::<bool>(), 0_u16..9), 0..200)) {
            let mut seats = seats(8);
            let mut model = BTreeMap::new();
            for (number, (take, which)) in (0..).zip(steps) {
                if take {
                    match seats.take(Slot::new(number)) {
                        Some(seat) => prop_assert_eq!(model.insert(seat, number), None),
                        None => prop_assert_eq!(model.len(), 8),
                    }
                } else {
                    seats.give_back(Seat::new(which));
                    model.remove(&Seat::new(which));
                }
                prop_assert_eq!(seats.free() as usize, 8 - model.len());
                for seat in (0..9).map(Seat::new) {
                    prop_assert_eq!(seats.slot(seat), model.get(&seat).map(|&number| Slot::new(number)));
                    prop_assert!(seats.slot(seat).is_none() || seat.index() < seats.used());
                }
            }
        }
    }
}

//! A queue of VMs, by seat, within a table: every operation takes the same short time, also to take one out of the middle.

use abi::vm::Seat;
use component::{Table, Tables};

/// A seat's neighbours, plus 1; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    next: u16,
    previous: u16,
    queued: bool,
}

/// The queue of seats, in which each is once at most.
#[derive(Debug)]
pub struct Fifo {
    links: Table<Link>,
    first: u16,
    last: u16,
}

impl Fifo {
    /// What it takes of [`abi::note::TableBytes::per_seat`].
    // Six.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<Link>() as u32;

    /// The empty queue.
    pub fn new(tables: &mut Tables) -> Self {
        Fifo { links: tables.per_seat(), first: 0, last: 0 }
    }

    /// True when no seat is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Puts `seat` at the end, unless it is in or does not exist.
    #[inline]
    pub fn push(&mut self, seat: Seat) {
        let (previous, me) = (self.last, seat.number() + 1);
        let Some(link) = self.links.reach(seat.index()).filter(|link| !link.queued) else { return };
        *link = Link { next: 0, previous, queued: true };
        match previous {
            0 => self.first = me,
            previous => self.links[usize::from(previous - 1)].next = me,
        }
        self.last = me;
    }

    /// Takes the first seat out.
    #[inline]
    pub fn pop(&mut self) -> Option<Seat> {
        let seat = Seat::new(self.first.checked_sub(1)?);
        self.remove(seat);
        Some(seat)
    }

    /// Takes `seat` out, if it is in.
    #[inline]
    pub fn remove(&mut self, seat: Seat) {
        let Some(link) = self.links.get_mut(seat.index()).filter(|link| link.queued) else { return };
        let Link { next, previous, .. } = core::mem::take(link);
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

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn like_a_deque_without_duplicates(steps in proptest::collection::vec((0..4_u8, 0..7_u16), 0..200)) {
            let bytes = TableBytes { per_slot: 0, per_seat: Fifo::SEAT_BYTES, ..TableBytes::NONE };
            let mut queue = Fifo::new(&mut Tables::on_heap(bytes, 0, 6));
            let mut model = VecDeque::new();
            for (step, seat) in steps {
                let seat = Seat::new(seat);
                match step {
                    0 | 1 => {
                        queue.push(seat);
                        if seat.index() < 6 && !model.contains(&seat) {
                            model.push_back(seat);
                        }
                    }
                    2 => {
                        queue.remove(seat);
                        model.retain(|&other| other != seat);
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

//! How many lottery tickets each seat holds, as a tree of partial sums (Fenwick: "A new data structure for cumulative frequency
//! tables", 1994): giving tickets and finding the holder of one take a step for each bit of the number of seats, 16 at most.

use abi::vm::Seat;
use component::{Table, Tables};

/// The tickets of all seats.
#[derive(Debug)]
pub struct Tickets {
    /// Element `i` is the sum over the seats from `i + 1 - 2^k` to `i`, where `k` is the number of zero bits at the end of `i + 1`; and what
    /// the seat itself holds. All that the machine has are there from the start, as each change reaches to the end.
    nodes: Table<Node>,
    total: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    sum: u64,
    held: u64,
}

impl Tickets {
    /// What they take of [`abi::note::TableBytes::per_seat`].
    // Sixteen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<Node>() as u32;

    /// Nobody holds any.
    pub fn new(tables: &mut Tables) -> Self {
        let mut nodes = tables.per_seat();
        nodes.reach_all();
        Tickets { nodes, total: 0 }
    }

    /// Takes all tickets away.
    pub fn clear(&mut self) {
        if self.total != 0 {
            self.nodes.fill(Node::default());
            self.total = 0;
        }
    }

    /// How many tickets there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many `seat` holds.
    #[inline]
    pub fn of(&self, seat: Seat) -> u64 {
        self.nodes.get(seat.index()).map_or(0, |node| node.held)
    }

    /// From now on `seat` holds `tickets`. All seats together hold less than 2^64. Nothing happens when the machine has no such seat.
    #[inline]
    pub fn set(&mut self, seat: Seat, tickets: u64) {
        let Some(node) = self.nodes.get_mut(seat.index()) else { return };
        let more = tickets.wrapping_sub(core::mem::replace(&mut node.held, tickets));
        self.total = self.total.wrapping_add(more);
        let mut end = seat.index() + 1;
        while let Some(node) = self.nodes.get_mut(end - 1) {
            node.sum = node.sum.wrapping_add(more);
            end += end & end.wrapping_neg();
        }
    }

    /// Who holds ticket `number`, counted from 0 in the order of seats; `None` when there is no such ticket.
    #[inline]
    pub fn holder(&self, number: u64) -> Option<Seat> {
        if number >= self.total {
            return None;
        }
        let mut step = 1 << self.nodes.len().checked_ilog2()?;
        let (mut seat, mut left) = (0, number);
        while step > 0 {
            if let Some(node) = self.nodes.get(seat + step - 1)
                && node.sum <= left
            {
                seat += step;
                left -= node.sum;
            }
            step /= 2;
        }
        u16::try_from(seat).ok().map(Seat::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;
    use proptest::prelude::*;

    fn tickets(seats: usize) -> Tickets {
        let bytes = TableBytes { per_slot: 0, per_seat: Tickets::SEAT_BYTES, ..TableBytes::NONE };
        Tickets::new(&mut Tables::on_heap(bytes, 0, seats))
    }

    proptest! {
        #[test]
        fn every_ticket_has_the_holder_that_counting_finds(
            seats in prop_oneof![1_usize..40, Just(65_535)],
            gifts in prop::collection::vec((prop_oneof![0_u16..50, 65_530_u16..=65_535], 0_u64..6), 0..60)
        ) {
            let mut tickets = tickets(seats);
            let mut model = std::collections::BTreeMap::new();
            for (seat, count) in gifts {
                let seat = Seat::new(seat);
                tickets.set(seat, count);
                if seat.index() < seats {
                    model.insert(seat, count);
                } else {
                    prop_assert_eq!(tickets.of(seat), 0);
                }
            }
            let holders = model.iter().flat_map(|(&seat, &count)| (0..count).map(move |_| seat));
            let holders: Vec<_> = holders.collect();
            prop_assert_eq!(tickets.total(), u64::try_from(holders.len()).expect("few"));
            for (number, holder) in (0..).zip(&holders) {
                prop_assert_eq!(tickets.holder(number), Some(*holder));
            }
            prop_assert_eq!(tickets.holder(tickets.total()), None);
            tickets.clear();
            prop_assert!(tickets.total() == 0 && tickets.nodes.iter().all(|node| node.sum == 0 && node.held == 0));
        }
    }

    #[test]
    fn nobody_holds_a_ticket_at_first() {
        let mut tickets = tickets(16_384);
        assert_eq!((tickets.total(), tickets.holder(0)), (0, None));
        let (first, last) = (Seat::new(0), Seat::new(16_383));
        tickets.set(last, u64::MAX - 1);
        tickets.set(first, 1);
        assert_eq!(
            (tickets.holder(0), tickets.holder(1), tickets.holder(u64::MAX - 1)),
            (Some(first), Some(last), Some(last))
        );
        tickets.set(last, 0);
        assert_eq!((tickets.total(), tickets.of(first), tickets.of(last)), (1, 1, 0));
    }
}

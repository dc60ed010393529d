//! How many lottery tickets each VM slot holds, as a tree of partial sums (Fenwick: "A new data structure for cumulative frequency
//! tables", 1994): giving tickets and finding the holder of one take a step for each bit of the slot's number, 14 or 15.

use abi::limits::MAX_VMS;
use abi::vm::Slot;

/// The tickets of all slots.
#[derive(Debug)]
pub struct Tickets {
    held: [u64; MAX_VMS],
    /// Element `i` is the sum over the slots from `i + 1 - 2^k` to `i`, where `k` is the number of zero bits at the end of `i + 1`.
    sums: [u64; MAX_VMS],
    total: u64,
}

/// The largest step of a search.
const TOP: usize = 1 << MAX_VMS.ilog2();

impl Tickets {
    /// Nobody holds any.
    pub const fn new() -> Self {
        Tickets { held: [0; MAX_VMS], sums: [0; MAX_VMS], total: 0 }
    }

    /// Takes all tickets away, where no slot from `end` on holds any.
    pub fn clear(&mut self, end: usize) {
        self.held[..end].fill(0);
        self.sums[..end].fill(0);
        // Of the sums behind `end` only these contain slots in front of it.
        let mut end = end.max(1);
        while let Some(sum) = self.sums.get_mut(end - 1) {
            *sum = 0;
            end += end & end.wrapping_neg();
        }
        self.total = 0;
    }

    /// How many tickets there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many `slot` holds, which is below [`MAX_VMS`].
    #[inline]
    pub fn of(&self, slot: Slot) -> u64 {
        self.held[slot.index()]
    }

    /// From now on `slot` holds `tickets`. All slots together hold less than 2^64.
    #[inline]
    pub fn set(&mut self, slot: Slot, tickets: u64) {
        let more = tickets.wrapping_sub(core::mem::replace(&mut self.held[slot.index()], tickets));
        self.total = self.total.wrapping_add(more);
        let mut end = slot.index() + 1;
        while let Some(sum) = self.sums.get_mut(end - 1) {
            *sum = sum.wrapping_add(more);
            end += end & end.wrapping_neg();
        }
    }

    /// Who holds ticket `number`, counted from 0 in the order of slots; `None` when there is no such ticket.
    #[inline]
    pub fn holder(&self, number: u64) -> Option<Slot> {
        if number >= self.total {
            return None;
        }
        let (mut slot, mut left, mut step) = (0, number, TOP);
        while step > 0 {
            if let Some(&sum) = self.sums.get(slot + step - 1)
                && sum <= left
            {
                slot += step;
                left -= sum;
            }
            step /= 2;
        }
        u32::try_from(slot).ok().map(Slot::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_ticket_has_the_holder_that_counting_finds(
            gifts in prop::collection::vec((prop_oneof![0_u32..12, 16_380_u32..16_384], 0_u64..6), 0..60)
        ) {
            let mut tickets = Box::new(Tickets::new());
            let mut model = std::collections::BTreeMap::new();
            for (slot, count) in gifts {
                tickets.set(Slot::new(slot), count);
                model.insert(slot, count);
            }
            let holders = model.iter().flat_map(|(&slot, &count)| (0..count).map(move |_| slot));
            let holders: Vec<_> = holders.collect();
            prop_assert_eq!(tickets.total(), u64::try_from(holders.len()).expect("few"));
            for (number, holder) in (0..).zip(&holders) {
                prop_assert_eq!(tickets.holder(number), Some(Slot::new(*holder)));
            }
            prop_assert_eq!(tickets.holder(tickets.total()), None);
            tickets.clear(model.keys().next_back().map_or(0, |&slot| Slot::new(slot).index() + 1));
            prop_assert!(tickets.total() == 0 && tickets.sums.iter().chain(&tickets.held).all(|&sum| sum == 0));
        }
    }

    #[test]
    fn nobody_holds_a_ticket_at_first() {
        let mut tickets = Box::new(Tickets::new());
        assert_eq!((tickets.total(), tickets.holder(0)), (0, None));
        tickets.set(Slot::new(16_383), u64::MAX - 1);
        tickets.set(Slot::new(0), 1);
        assert_eq!(
            (tickets.holder(0), tickets.holder(1), tickets.holder(u64::MAX - 1)),
            (Some(Slot::new(0)), Some(Slot::new(16_383)), Some(Slot::new(16_383)))
        );
        tickets.set(Slot::new(16_383), 0);
        assert_eq!((tickets.total(), tickets.of(Slot::new(0)), tickets.of(Slot::new(16_383))), (1, 1, 0));
    }
}

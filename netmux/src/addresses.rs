//! Which VM has which IPv4 address: a chained hash table.

use abi::vm::Seat;
use component::{Table, Tables};

/// IPv4 addresses by seat.
pub struct Addresses {
    /// First seat of each chain, plus 1; 0 for none. A power of two of them, and all are there from the start.
    heads: Table<u16>,
    /// The number of chains, less 1.
    mask: usize,
    seats: Table<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// 0 for none.
    ipv4: u32,
    /// The seat after this one in its chain, plus 1; 0 for none.
    next: u16,
}

impl Addresses {
    /// What they take of [`abi::note::TableBytes::per_seat`].
    // A dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = (size_of::<u16>() + size_of::<Entry>()) as u32;

    /// Nobody has an address.
    pub fn new(tables: &mut Tables) -> Self {
        let mut heads = tables.per_seat();
        let chains: usize = heads.capacity().checked_ilog2().map_or(0, |log2| 1 << log2);
        heads.reach(chains.saturating_sub(1));
        Addresses { heads, mask: chains.saturating_sub(1), seats: tables.per_seat() }
    }

    /// VMs get consecutive addresses, so the low bits spread them perfectly.
    fn chain(&self, ipv4: u32) -> usize {
        usize::try_from(ipv4).unwrap_or(0) & self.mask
    }

    /// The seat whose VM has the address.
    pub fn owner(&self, ipv4: u32) -> Option<Seat> {
        if ipv4 == 0 {
            return None;
        }
        let mut at = *self.heads.get(self.chain(ipv4))?;
        // Bounded: no seat is in a chain twice.
        while let Some(seat) = at.checked_sub(1) {
            let entry = self.seats.get(usize::from(seat))?;
            if entry.ipv4 == ipv4 {
                return Some(Seat::new(seat));
            }
            at = entry.next;
        }
        None
    }

    /// The address of a seat; 0 for none.
    #[inline]
    pub fn of(&self, seat: Seat) -> u32 {
        self.seats.get(seat.index()).map_or(0, |entry| entry.ipv4)
    }

    /// The VM in `seat` has this address from now on, and only this one; 0 for none. False, and nothing is changed, when
    /// another seat has it.
    pub fn set(&mut self, seat: Seat, ipv4: u32) -> bool {
        if self.owner(ipv4).is_some_and(|owner| owner != seat) || self.seats.reach(seat.index()).is_none() {
            return false;
        }
        self.unlink(seat);
        let chain = self.chain(ipv4);
        let entry = &mut self.seats[seat.index()];
        entry.ipv4 = ipv4;
        if ipv4 != 0 {
            entry.next = self.heads[chain];
            self.heads[chain] = seat.number() + 1;
        }
        true
    }

    fn unlink(&mut self, seat: Seat) {
        let me = seat.number() + 1;
        let Entry { ipv4, next } = self.seats[seat.index()];
        if ipv4 == 0 {
            return;
        }
        let chain = self.chain(ipv4);
        let mut at = self.heads[chain];
        if at == me {
            self.heads[chain] = next;
            return;
        }
        while let Some(before) = at.checked_sub(1) {
            let before = &mut self.seats[usize::from(before)];
            at = before.next;
            if at == me {
                before.next = next;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;
    use proptest::prelude::*;

    fn table(seats: usize) -> Addresses {
        let bytes = TableBytes { per_slot: 0, per_seat: Addresses::SEAT_BYTES, ..TableBytes::NONE };
        Addresses::new(&mut Tables::on_heap(bytes, 0, seats))
    }

    #[test]
    fn an_address_has_one_owner() {
        let mut table = table(4);
        let [one, two, four] = [1, 2, 4].map(Seat::new);
        assert!(table.set(one, 0x0a00_0210));
        assert!(!table.set(two, 0x0a00_0210));
        assert_eq!(table.owner(0x0a00_0210), Some(one));
        assert!(table.set(one, 0));
        assert!(table.set(two, 0x0a00_0210));
        assert_eq!(table.owner(0x0a00_0210), Some(two));
        assert_eq!(table.owner(0), None);
        assert!(!table.set(four, 7));
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_list(
            seats in 8_usize..20,
            steps in proptest::collection::vec((0..8_u16, 0..20_u32), 0..200)
        ) {
            let mut table = table(seats);
            let mut model = [0_u32; 8];
            for (seat, ipv4) in steps {
                let taken = ipv4 != 0 && model.iter().enumerate().any(|(i, &a)| a == ipv4 && i != usize::from(seat));
                prop_assert_eq!(table.set(Seat::new(seat), ipv4), !taken);
                if !taken {
                    model[usize::from(seat)] = ipv4;
                }
                for ipv4 in 1..20 {
                    let owner = model.iter().position(|&a| a == ipv4);
                    prop_assert_eq!(table.owner(ipv4).map(Seat::index), owner);
                }
            }
        }
    }
}

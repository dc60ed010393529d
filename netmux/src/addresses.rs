//! Which VM has which IPv4 address: a chained hash table.

use abi::vm::Seat;
use component::{Chains, Table, Tables};

/// IPv4 addresses by seat.
pub struct Addresses {
    /// By address.
    chains: Chains,
    /// By seat; 0 for none.
    seats: Table<u32>,
}

impl Addresses {
    /// What they take of [`abi::note::TableBytes::per_seat`].
    // A dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = Chains::BYTES + size_of::<u32>() as u32;

    /// Nobody has an address.
    pub fn new(tables: &mut Tables) -> Self {
        Addresses { chains: Chains::new(tables.per_seat(), tables.per_seat()), seats: tables.per_seat() }
    }

    /// The seat whose VM has the address.
    pub fn owner(&self, ipv4: u32) -> Option<Seat> {
        if ipv4 == 0 {
            return None;
        }
        let number = self.chains.find(self.chains.of_run(ipv4), |number| self.seats[number as usize] == ipv4)?;
        Some(Seat::new(u16::try_from(number).ok()?))
    }

    /// The address of a seat; 0 for none.
    #[inline]
    pub fn of(&self, seat: Seat) -> u32 {
        self.seats.get(seat.index()).copied().unwrap_or(0)
    }

    /// The VM in `seat` has this address from now on, and only this one; 0 for none. False, and nothing is changed, when
    /// another seat has it.
    pub fn set(&mut self, seat: Seat, ipv4: u32) -> bool {
        if self.owner(ipv4).is_some_and(|owner| owner != seat) {
            return false;
        }
        let Some(entry) = self.seats.reach(seat.index()) else { return false };
        let before = core::mem::replace(entry, ipv4);
        if before != 0 {
            self.chains.unlink(self.chains.of_run(before), seat.number().into());
        }
        ipv4 == 0 || self.chains.link(self.chains.of_run(ipv4), seat.number().into())
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

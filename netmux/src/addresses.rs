//! Which VM has which IPv4 address: a chained hash table of fixed size.

/// No slot.
const NONE: u16 = 0;

/// IPv4 addresses of up to `N` slots, `N` a power of two below 65,536.
pub struct Addresses<const N: usize> {
    /// First slot of each chain, plus 1.
    heads: [u16; N],
    /// The slot after this one in its chain, plus 1.
    next: [u16; N],
    /// The address of each slot; 0 for none.
    ipv4: [u32; N],
}

impl<const N: usize> Addresses<N> {
    /// Nobody has an address.
    pub const fn new() -> Self {
        assert!(N.is_power_of_two() && N < 65_536);
        Addresses { heads: [NONE; N], next: [NONE; N], ipv4: [0; N] }
    }

    /// VMs get consecutive addresses, so the low bits spread them perfectly.
    fn chain(ipv4: u32) -> usize {
        usize::try_from(ipv4).unwrap_or(0) & (N - 1)
    }

    /// The slot whose VM has the address.
    pub fn owner(&self, ipv4: u32) -> Option<u16> {
        if ipv4 == 0 {
            return None;
        }
        let mut at = self.heads[Self::chain(ipv4)];
        // Bounded: no slot is in a chain twice.
        while let Some(slot) = at.checked_sub(1) {
            if self.ipv4[usize::from(slot)] == ipv4 {
                return Some(slot);
            }
            at = self.next[usize::from(slot)];
        }
        None
    }

    /// The address of a slot; 0 for none.
    pub fn of(&self, slot: u16) -> u32 {
        self.ipv4.get(usize::from(slot)).copied().unwrap_or(0)
    }

    /// The VM in `slot` has this address from now on, and only this one; 0 for none. False, and nothing is changed, when
    /// another slot has it.
    pub fn set(&mut self, slot: u16, ipv4: u32) -> bool {
        let index = usize::from(slot);
        if index >= N || self.owner(ipv4).is_some_and(|owner| owner != slot) {
            return false;
        }
        self.unlink(slot);
        self.ipv4[index] = ipv4;
        if ipv4 != 0 {
            let chain = Self::chain(ipv4);
            self.next[index] = self.heads[chain];
            self.heads[chain] = slot + 1;
        }
        true
    }

    fn unlink(&mut self, slot: u16) {
        let index = usize::from(slot);
        let ipv4 = self.ipv4[index];
        if ipv4 == 0 {
            return;
        }
        let chain = Self::chain(ipv4);
        let mut at = self.heads[chain];
        if at == slot + 1 {
            self.heads[chain] = self.next[index];
            return;
        }
        while let Some(before) = at.checked_sub(1) {
            let before = usize::from(before);
            at = self.next[before];
            if at == slot + 1 {
                self.next[before] = self.next[index];
                return;
            }
        }
    }
}

impl<const N: usize> Default for Addresses<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_has_one_owner() {
        let mut table = Addresses::<4>::new();
        assert!(table.set(1, 0x0a00_0210));
        assert!(!table.set(2, 0x0a00_0210));
        assert_eq!(table.owner(0x0a00_0210), Some(1));
        assert!(table.set(1, 0));
        assert!(table.set(2, 0x0a00_0210));
        assert_eq!(table.owner(0x0a00_0210), Some(2));
        assert_eq!(table.owner(0), None);
        assert!(!table.set(4, 7));
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_list(steps in proptest::collection::vec((0..8_u16, 0..20_u32), 0..200)) {
            let mut table = Addresses::<8>::new();
            let mut model = [0_u32; 8];
            for (slot, ipv4) in steps {
                let taken = ipv4 != 0 && model.iter().enumerate().any(|(i, &a)| a == ipv4 && i != usize::from(slot));
                prop_assert_eq!(table.set(slot, ipv4), !taken);
                if !taken {
                    model[usize::from(slot)] = ipv4;
                }
                for ipv4 in 1..20 {
                    let owner = model.iter().position(|&a| a == ipv4);
                    prop_assert_eq!(table.owner(ipv4).map(usize::from), owner);
                }
            }
        }
    }
}

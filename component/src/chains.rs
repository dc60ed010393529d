//! Chains of a hash over the entries of a table, which are known by their numbers: what an entry is found by stays where it is.

use crate::tables::Table;

/// The first entry of each chain, and the one behind each entry. An entry is in one chain at most.
///
/// ```
/// use component::{Chains, Tables};
/// let bytes = abi::note::TableBytes { per_seat: Chains::BYTES, ..abi::note::TableBytes::NONE };
/// let mut tables = Tables::on_heap(bytes, 0, 4);
/// let mut chains = Chains::new(tables.per_seat(), tables.per_seat());
/// let names = [7, 8, 9];
/// for (number, name) in (0..).zip(names) {
///     chains.link(chains.of_run(name), number);
/// }
/// let found = chains.find(chains.of_run(8), |number| names[number as usize] == 8);
/// assert_eq!(found, Some(1));
/// ```
#[derive(Debug)]
pub struct Chains {
    /// The number of the first entry of a chain, plus 1; 0 for none.
    heads: Table<u32>,
    /// The number of the entry behind this one in its chain, plus 1; 0 for none.
    behind: Table<u32>,
    /// There are two to this many chains.
    log2: u32,
}

impl Chains {
    /// What they take for each entry that there can be.
    // Eight.
    #[allow(clippy::cast_possible_truncation)]
    pub const BYTES: u32 = 2 * size_of::<u32>() as u32;

    /// No entry is in a chain. There are at most as many chains as each of the tables has room for, a power of two.
    pub fn new(heads: Table<u32>, behind: Table<u32>) -> Self {
        let log2 = heads.capacity().checked_ilog2().unwrap_or(0).min(u32::BITS);
        Chains { heads, behind, log2 }
    }

    /// No entry is in a chain any more.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.behind.clear();
    }

    /// The chain of a key of which there are runs, as of addresses: by its lower bits, which spread a run perfectly.
    #[inline]
    pub fn of_run(&self, key: u32) -> usize {
        usize::try_from(key).unwrap_or(0) & ((1 << self.log2) - 1)
    }

    /// The chain of any other key: by the upper bits of a product (Knuth, volume 3, 6.4).
    #[inline]
    pub fn of_product(&self, key: u32) -> usize {
        let mixed = key.wrapping_mul(0x9e37_79b1);
        mixed.checked_shr(u32::BITS - self.log2).unwrap_or(0) as usize
    }

    /// The entry of a chain that `is` the one, the one that was linked last before others.
    #[inline]
    pub fn find(&self, chain: usize, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = *self.heads.get(chain)?;
        // Bounded: no entry is in a chain twice.
        while let Some(number) = at.checked_sub(1) {
            if is(number) {
                return Some(number);
            }
            at = *self.behind.get(number as usize)?;
        }
        None
    }

    /// An entry that is in no chain is in this one from now on. False, and nothing has changed, where there is no room for such an entry or chain.
    pub fn link(&mut self, chain: usize, number: u32) -> bool {
        let (Some(head), Some(behind)) = (self.heads.reach(chain), self.behind.reach(number as usize)) else {
            return false;
        };
        *behind = core::mem::replace(head, number + 1);
        true
    }

    /// An entry is in this chain no more. Nothing happens where it was not.
    pub fn unlink(&mut self, chain: usize, number: u32) {
        let Some(&next) = self.behind.get(number as usize) else { return };
        let Some(mut at) = self.heads.get_mut(chain) else { return };
        while *at != number + 1 {
            let Some(before) = at.checked_sub(1) else { return };
            let Some(behind) = self.behind.get_mut(before as usize) else { return };
            at = behind;
        }
        *at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tables;
    use abi::note::TableBytes;
    use proptest::prelude::*;

    fn chains(entries: usize) -> Chains {
        let bytes = TableBytes { per_seat: Chains::BYTES, ..TableBytes::NONE };
        let mut tables = Tables::on_heap(bytes, 0, entries);
        Chains::new(tables.per_seat(), tables.per_seat())
    }

    #[test]
    fn keys_fall_on_all_chains_there_are_and_no_others() {
        for (entries, count) in [(1, 1), (2, 2), (7, 4), (64, 64)] {
            let chains = chains(entries);
            let runs: Vec<_> = (0xffff_fff0..=u32::MAX).chain(0..48).map(|key| chains.of_run(key)).collect();
            assert!((0..count).all(|chain| runs.contains(&chain)) && runs.iter().all(|&chain| chain < count));
            let products: Vec<_> = (0..1000).map(|key| chains.of_product(key)).collect();
            assert!((0..count).all(|chain| products.contains(&chain)) && products.iter().all(|&chain| chain < count));
        }
    }

    #[test]
    fn what_has_no_room_is_in_no_chain() {
        let mut chains = chains(4);
        assert!(!chains.link(0, 4) && !chains.link(4, 0));
        assert!(!self::chains(0).link(0, 0));
        chains.unlink(0, 9);
        assert_eq!(chains.find(0, |_| true), None);
    }

    proptest! {
        #[test]
        fn agree_with_a_plain_list(steps in proptest::collection::vec((0..8_u32, 0..3_usize), 0..100)) {
            let mut chains = chains(8);
            let mut model = [None; 8];
            for (number, chain) in steps {
                match model[number as usize].take() {
                    Some(old) => chains.unlink(old, number),
                    None => {
                        prop_assert!(chains.link(chain, number));
                        model[number as usize] = Some(chain);
                    }
                }
                for number in 0..8 {
                    for chain in 0..8 {
                        let is_there = chains.find(chain, |other| other == number).is_some();
                        prop_assert_eq!(is_there, model[number as usize] == Some(chain));
                    }
                }
            }
            chains.clear();
            prop_assert!((0..8).all(|chain| chains.find(chain, |_| true).is_none()));
        }
    }
}

//! A map that cannot grow beyond a bound: who inserts without end makes it forget what was not used for longest.

use super::capacity::secures_bytes;
use alloc::boxed::Box;
use core::hash::Hash;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Two generations of entries. New ones, and those that are used, are in the first; when that is full, the second is
/// forgotten and the first takes its place. Every operation takes constant time, the exchange shared out over the
/// insertions. An empty map has no memory on the heap, and an idle VM's is little more than a pointer.
pub(super) struct Bounded<K, V, const LIMIT: usize> {
    generations: Option<Box<Generations<K, V>>>,
    seed: u64,
}

struct Generations<K, V> {
    young: HashMap<K, V, FixedState>,
    old: HashMap<K, V, FixedState>,
}

impl<K: Eq + Hash + Copy, V, const LIMIT: usize> Bounded<K, V, LIMIT> {
    /// A map of at most twice `LIMIT` entries. `seed` keeps others from choosing keys that collide.
    pub(super) fn new(seed: u64) -> Self {
        Bounded { generations: None, seed }
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.generations.as_ref().map_or(0, |maps| maps.young.len() + maps.old.len())
    }

    /// Puts an entry in the place of what was there. Where there is no memory, others are forgotten for it, or it is itself.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let seed = self.seed;
        let map = || HashMap::with_hasher(FixedState::with_seed(seed));
        let maps = self.generations.get_or_insert_with(|| Box::new(Generations { young: map(), old: map() }));
        maps.old.remove(&key);
        if maps.young.len() >= LIMIT || !has_room(&mut maps.young) {
            core::mem::swap(&mut maps.young, &mut maps.old);
            maps.young.clear();
        }
        if has_room(&mut maps.young) {
            maps.young.insert(key, value);
        }
    }

    /// The entry of a key.
    #[inline]
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if let Some(value) = self.generations.as_mut()?.old.remove(key) {
            self.insert(*key, value);
        }
        self.generations.as_mut()?.young.get_mut(key)
    }

    /// Takes the entry of a key out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let maps = self.generations.as_mut()?;
        maps.young.remove(key).or_else(|| maps.old.remove(key))
    }

    /// Forgets entries that are not worth keeping, and gives memory that is not in use back to the heap.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        if let Some(maps) = &mut self.generations {
            for map in [&mut maps.young, &mut maps.old] {
                map.retain(|key, value| keep(key, value));
                map.shrink_to_fit();
            }
        }
        if self.len() == 0 {
            self.generations = None;
        }
    }
}

/// True when a map has room for another entry, or gets it from the memory that there is.
fn has_room<K: Eq + Hash, V>(map: &mut HashMap<K, V, FixedState>) -> bool {
    if map.len() < map.capacity() {
        return true;
    }
    let secured = secures_bytes(map_bytes::<(K, V)>(2 * map.len()));
    if secured {
        map.reserve(1);
    }
    secured
}

/// Bytes that a map takes which has grown for so many entries, and one more.
pub(super) fn map_bytes<Entry>(entries: usize) -> usize {
    // What it keeps empty, and a byte for each place.
    ((entries + 4) * 8 / 7).next_power_of_two() * (size_of::<Entry>() + 1) + 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_twice_the_limit_and_the_used_ones_stay() {
        let mut map = Bounded::<_, _, 8>::new(1);
        map.insert(0, "kept");
        for key in 1..1000 {
            map.insert(key, "new");
            assert!(map.len() <= 16);
            assert_eq!(map.get_mut(&0), Some(&mut "kept"));
            assert_eq!(map.get_mut(&key), Some(&mut "new"));
        }
        assert_eq!(map.get_mut(&500), None);
        assert_eq!((map.remove(&999), map.remove(&999)), (Some("new"), None));
        map.retain(|_, _| false);
        assert!(map.len() == 0 && map.generations.is_none());
    }

    #[test]
    fn a_key_has_one_entry() {
        let mut map = Bounded::<_, _, 2>::new(1);
        for value in 0..100 {
            map.insert(value % 3, value);
            assert_eq!(map.get_mut(&(value % 3)), Some(&mut { value }));
        }
        assert!(map.len() <= 3);
    }
}

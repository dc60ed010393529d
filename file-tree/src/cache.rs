//! Blocks that were read a short while ago: so many at most, and whichever was not used for longest makes room.

use crate::blocks::BLOCK;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

struct Entry {
    block: u64,
    used: u64,
    bytes: Rc<[u8; BLOCK]>,
}

/// The cache. It holds nothing before something is put into it.
pub(crate) struct Cache {
    entries: RefCell<Vec<Entry>>,
    most: usize,
    /// Counts uses.
    uses: Cell<u64>,
}

impl Cache {
    /// One for so many blocks, at least one.
    pub(crate) fn new(most: usize) -> Cache {
        Cache { entries: RefCell::new(Vec::new()), most: most.max(1), uses: Cell::new(0) }
    }

    /// A block, if it is there.
    pub(crate) fn get(&self, block: u64) -> Option<Rc<[u8; BLOCK]>> {
        let now = self.tick();
        let mut entries = self.entries.borrow_mut();
        let entry = entries.iter_mut().find(|entry| entry.block == block)?;
        entry.used = now;
        Some(entry.bytes.clone())
    }

    /// Keeps a block that was read, in the place of another one unless `may_grow`.
    pub(crate) fn put(&self, block: u64, bytes: Rc<[u8; BLOCK]>, may_grow: bool) {
        let entry = Entry { block, used: self.tick(), bytes };
        let mut entries = self.entries.borrow_mut();
        // Somebody else may have waited for the same block.
        let place = match entries.iter().position(|entry| entry.block == block) {
            None if entries.len() < self.most && may_grow => return entries.push(entry),
            None => (0..entries.len()).min_by_key(|&index| entries[index].used),
            found => found,
        };
        if let Some(place) = place {
            entries[place] = entry;
        }
    }

    /// Gives all memory back.
    pub(crate) fn clear(&self) {
        self.entries.replace(Vec::new());
    }

    /// Blocks that it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    fn tick(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_used_for_longest_makes_room() {
        let cache = Cache::new(2);
        let bytes = |byte| Rc::new([byte; BLOCK]);
        cache.put(1, bytes(1), true);
        cache.put(2, bytes(2), true);
        cache.put(1, bytes(3), true);
        assert_eq!((cache.len(), cache.get(1).map(|bytes| bytes[9])), (2, Some(3)), "once");
        cache.put(7, bytes(7), true);
        assert!(cache.get(2).is_none() && cache.get(1).is_some() && cache.get(7).is_some());
        cache.put(8, bytes(8), false);
        assert!(cache.get(1).is_none() && cache.get(8).is_some() && cache.len() == 2);
        cache.clear();
        assert!(cache.len() == 0 && cache.get(7).is_none());
        cache.put(8, bytes(8), false);
        assert_eq!(cache.len(), 0, "there is nothing that it could take the place of");
    }
}

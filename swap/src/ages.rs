//! What lies in the pool, by how long it has lain there: what is moved to the disks next.

use abi::note::TableBytes;
use abi::swap::Bundle;
use abi::vm::Slot;
use component::queue::{Links, List};
use component::{Table, Tables};

/// Where a slot's bundle is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// [`Bundle::place`].
    pub place: u32,
    /// [`Bundle::bytes`]; 0 for none.
    pub bytes: u32,
}

/// What the tables take.
#[allow(clippy::cast_possible_truncation)] // Sixteen bytes.
pub const TABLES: TableBytes = TableBytes { per_slot: Links::BYTES + size_of::<Held>() as u32, ..TableBytes::NONE };

/// The bundles in the pool that may be moved, the one that was stored first in front.
#[derive(Debug)]
pub struct Ages {
    links: Links,
    list: List<Slot>,
    held: Table<Held>,
}

impl Ages {
    /// There are none.
    pub fn new(tables: &mut Tables) -> Self {
        Ages { links: Links::new(tables.per_slot()), list: List::new(), held: tables.per_slot() }
    }

    /// There are none any more.
    pub fn clear(&mut self) {
        self.list = List::new();
        self.held.clear();
    }

    /// This bundle lies in the pool. Nothing happens for one on the disks.
    pub fn insert(&mut self, slot: Slot, bundle: &Bundle) {
        if bundle.is_on_disk() || bundle.bytes == 0 {
            return;
        }
        self.remove(slot);
        if let Some(held) = self.held.reach(slot.index()) {
            *held = Held { place: bundle.place, bytes: bundle.bytes };
            self.list.push_back(&mut self.links, slot);
        }
    }

    /// The slot's bundle is not to be moved any more.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(held) = self.held.get_mut(slot.index())
            && core::mem::take(held) != Held::default()
        {
            self.list.remove(&mut self.links, slot);
        }
    }

    /// Takes the bundle that was stored first.
    pub fn pop(&mut self) -> Option<(Slot, Held)> {
        let slot = self.list.pop_front(&mut self.links)?;
        Some((slot, core::mem::take(self.held.get_mut(slot.index())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(place: u32) -> Bundle {
        Bundle { counter: 1, place, bytes: 256, ..Bundle::NONE }
    }

    #[test]
    fn who_came_first_goes_first_unless_it_comes_in() {
        let mut ages = Ages::new(&mut Tables::on_heap(TABLES, 8, 0));
        for number in [3, 1, 7, 1] {
            ages.insert(Slot::new(number), &bundle(10 * number));
        }
        ages.insert(Slot::new(2), &Bundle { tier: abi::swap::tier::DISK, ..bundle(2) });
        ages.insert(Slot::new(8), &bundle(2));
        ages.remove(Slot::new(7));
        ages.remove(Slot::new(7));
        ages.remove(Slot::new(100));
        let held = |place| Held { place, bytes: 256 };
        let slot = Slot::new;
        assert_eq!([ages.pop(), ages.pop(), ages.pop()], [Some((slot(3), held(30))), Some((slot(1), held(10))), None]);
        ages.insert(slot(3), &bundle(5));
        ages.clear();
        assert_eq!(ages.pop(), None);
    }
}

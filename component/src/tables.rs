//! Tables with an entry for each of the machine's seats or slots, in memory that the core has given for them.

use abi::note::TABLE_ALIGN;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// What the memory is cut in: as much as tables are aligned to.
type Unit = u128;

const _: () = assert!(align_of::<Unit>() == TABLE_ALIGN && size_of::<Unit>() == TABLE_ALIGN);

/// The memory for a program's tables, of which it makes one after the other: what it says in its note
/// ([`abi::note::TableBytes`]), on a machine of this size.
#[derive(Debug)]
pub struct Tables {
    free: &'static mut [MaybeUninit<Unit>],
    slots: usize,
    seats: usize,
    pooled: bool,
}

impl Tables {
    /// Tables in `memory`, whatever it holds, for a machine with so many slots and seats, where VMs can go out or not (`pooled`).
    pub fn new(memory: &'static mut [MaybeUninit<Unit>], slots: usize, seats: usize, pooled: bool) -> Self {
        Tables { free: memory, slots, seats, pooled }
    }

    /// For tests on the host: as the core would give them to a program that asks for these `bytes`, where VMs can go out.
    #[cfg(not(target_os = "none"))]
    pub fn on_heap(bytes: abi::note::TableBytes, slots: usize, seats: usize) -> Self {
        let units = usize::try_from(bytes.total(slots, seats, true)).unwrap_or(0) / size_of::<Unit>();
        let memory = alloc::boxed::Box::leak(alloc::boxed::Box::new_uninit_slice(units));
        Tables::new(memory, slots, seats, true)
    }

    /// How many seats the machine has.
    pub fn seats(&self) -> usize {
        self.seats
    }

    /// How many slots the machine has.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// An empty table with room for an entry for each seat.
    ///
    /// # Panics
    ///
    /// When the memory is used up: the program's note asks for less than it takes.
    pub fn per_seat<T>(&mut self) -> Table<T> {
        self.table(self.seats)
    }

    /// An empty table with room for an entry for each seat where VMs can go out ([`abi::note::TableBytes::pooled_per_seat`]); for none where they cannot.
    ///
    /// # Panics
    ///
    /// As [`Tables::per_seat`].
    pub fn pooled_per_seat<T>(&mut self) -> Table<T> {
        self.table(if self.pooled { self.seats } else { 0 })
    }

    /// An empty table with room for an entry for each slot.
    ///
    /// # Panics
    ///
    /// As [`Tables::per_seat`].
    pub fn per_slot<T>(&mut self) -> Table<T> {
        self.table(self.slots)
    }

    fn table<T>(&mut self, entries: usize) -> Table<T> {
        const { assert!(align_of::<T>() <= TABLE_ALIGN, "tables are aligned to 16 bytes") };
        let units = (entries * size_of::<T>()).div_ceil(size_of::<Unit>());
        let free = core::mem::take(&mut self.free);
        assert!(units <= free.len(), "the tables of this program take more than its note asks for");
        let (mine, rest) = free.split_at_mut(units);
        self.free = rest;
        // SAFETY: these units, which nobody else has a reference to, are at least as many bytes as the entries take, and aligned
        // for them; uninitialised entries may hold anything.
        let entries = unsafe { core::slice::from_raw_parts_mut(mine.as_mut_ptr().cast(), entries) };
        Table { entries, used: 0 }
    }
}

/// A table whose entries come into being when they are first reached, so that neither a start nor a restart takes longer on a machine with
/// many seats. It is a slice of the entries that there are.
///
/// ```
/// use abi::note::TableBytes;
/// let bytes = TableBytes { per_seat: 8, per_slot: 0, ..TableBytes::NONE };
/// let mut table = component::Tables::on_heap(bytes, 0, 4).per_seat::<u64>();
/// assert_eq!((table.len(), table.capacity()), (0, 4));
/// *table.reach(1).expect("below 4") = 7;
/// assert!(table.reach(4).is_none());
/// assert_eq!(&table[..], [0, 7]);
/// ```
#[derive(Debug)]
pub struct Table<T: 'static> {
    entries: &'static mut [MaybeUninit<T>],
    /// So many entries, from the first on, are initialised.
    used: usize,
}

impl<T> Table<T> {
    /// How many entries there can be.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// No entry is there any more.
    pub fn clear(&mut self) {
        let entries: *mut [T] = &raw mut **self;
        self.used = 0;
        // SAFETY: they were initialised, and nobody finds them again, as none counts as initialised now.
        unsafe { entries.drop_in_place() };
    }
}

impl<T: Default> Table<T> {
    /// The entry of this index. It and those in front of it come into being, as their type's default, if they are not there yet. `None`
    /// beyond the capacity.
    #[inline]
    pub fn reach(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.used {
            self.extend(index)?;
        }
        self.get_mut(index)
    }

    /// All entries that there can be come into being.
    pub fn reach_all(&mut self) {
        if let Some(last) = self.capacity().checked_sub(1) {
            self.reach(last);
        }
    }

    #[cold]
    fn extend(&mut self, index: usize) -> Option<()> {
        let used = self.used;
        for entry in self.entries.get_mut(used..=index)? {
            entry.write(T::default());
            // One by one: should a default panic, what counts as initialised is.
            self.used += 1;
        }
        Some(())
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `used` entries exist and are initialised.
        unsafe { core::slice::from_raw_parts(self.entries.as_ptr().cast(), self.used) }
    }
}

impl<T> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.entries.as_mut_ptr().cast(), self.used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::note::TableBytes;
    use std::rc::Rc;

    fn tables(per_slot: u32, per_seat: u32) -> Tables {
        Tables::on_heap(TableBytes { per_slot, per_seat, ..TableBytes::NONE }, 8, 4)
    }

    #[test]
    fn entries_come_into_being_when_they_are_reached() {
        let mut table = tables(0, 4).per_seat::<u32>();
        assert!(table.is_empty());
        *table.reach(2).expect("there is room") = 5;
        assert_eq!(&table[..], [0, 0, 5]);
        *table.reach(0).expect("it is there") = 9;
        assert!(table.reach(4).is_none());
        assert_eq!(&table[..], [9, 0, 5]);
        table.clear();
        assert_eq!((table.len(), table.capacity()), (0, 4));
        table.reach_all();
        assert_eq!(&table[..], [0; 4]);
    }

    #[test]
    fn tables_lie_apart_and_aligned() {
        let mut tables = tables(1, 1 + 16);
        let mut bytes = tables.per_seat::<u8>();
        let mut wide = tables.per_seat::<u128>();
        let mut slots = tables.per_slot::<u8>();
        bytes.reach_all();
        wide.reach_all();
        slots.reach_all();
        bytes.fill(1);
        wide.fill(u128::MAX);
        slots.fill(2);
        assert_eq!((&bytes[..], &wide[..], &slots[..]), (&[1; 4][..], &[u128::MAX; 4][..], &[2; 8][..]));
    }

    #[test]
    #[should_panic(expected = "more than its note asks for")]
    fn more_than_was_asked_for() {
        let mut tables = tables(0, 8);
        // Aligning takes some, so that a little more would be found.
        let _ = tables.per_seat::<[u8; 8]>();
        let _ = tables.per_seat::<[u8; 256]>();
    }

    #[test]
    fn what_is_cleared_is_dropped_once() {
        #[derive(Default)]
        struct Holds(Option<Rc<()>>);
        let held = Rc::new(());
        let mut table = tables(0, 8).per_seat::<Holds>();
        for index in 0..3 {
            table.reach(index).expect("there is room").0 = Some(held.clone());
        }
        assert_eq!(Rc::strong_count(&held), 4);
        table.clear();
        table.clear();
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

//! Pages in a row: seat, number, and what is kept of each, eight bytes a page. Where there are more than it has room for, the first are forgotten.

use abi::vm::Seat;
use component::{Table, Tables};

/// Entries for each seat of the machine: by default a seat is for sixteen frames or fewer.
const EACH: usize = 16;
/// Bits of a page's number.
const PAGE: u32 = 18;
/// Bits of what is kept.
const MARK: u32 = 30;
/// What is kept is this at most.
pub const MOST_MARK: u32 = (1 << MARK) - 1;

const _: () = assert!(1_u64 << PAGE == abi::limits::VM_MEMORY_MAX / abi::limits::PAGE_SIZE && 16 + PAGE + MARK == 64);

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seat: Seat,
    pub page: u32,
    pub mark: u32,
}

impl Entry {
    fn pack(self) -> u64 {
        u64::from(self.seat.number()) << (PAGE + MARK)
            | u64::from(self.page & ((1 << PAGE) - 1)) << MARK
            | u64::from(self.mark & MOST_MARK)
    }

    fn unpack(word: u64) -> Entry {
        // The fields are cut out.
        #[allow(clippy::cast_possible_truncation)]
        Entry {
            seat: Seat::new((word >> (PAGE + MARK)) as u16),
            page: (word >> MARK) as u32 & ((1 << PAGE) - 1),
            mark: word as u32 & MOST_MARK,
        }
    }
}

/// The row.
#[derive(Debug)]
pub struct Queue {
    words: Table<[u64; EACH]>,
    first: usize,
    len: usize,
}

impl Queue {
    /// What it takes of [`abi::note::TableBytes::pooled_per_seat`].
    // A hundred and more.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<[u64; EACH]>() as u32;

    /// An empty one.
    pub fn new(tables: &mut Tables) -> Self {
        Queue { words: tables.pooled_per_seat(), first: 0, len: 0 }
    }

    pub fn clear(&mut self) {
        (self.first, self.len) = (0, 0);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.words.capacity() * EACH
    }

    /// The page behind all others. Whether the first one had to be forgotten for it.
    pub fn push(&mut self, entry: Entry) -> bool {
        let capacity = self.capacity();
        if capacity == 0 {
            return true;
        }
        let is_full = self.len == capacity;
        if is_full {
            self.pop();
        }
        let at = (self.first + self.len) % capacity;
        if let Some(words) = self.words.reach(at / EACH) {
            words[at % EACH] = entry.pack();
            self.len += 1;
        }
        is_full
    }

    pub fn front(&self) -> Option<Entry> {
        let word = self.words.get(self.first / EACH)?.get(self.first % EACH)?;
        (self.len > 0).then(|| Entry::unpack(*word))
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.front()?;
        (self.first, self.len) = ((self.first + 1) % self.capacity(), self.len - 1);
        Some(entry)
    }
}

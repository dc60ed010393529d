//! SIEVE (Zhang and others, NSDI 2024), by whole VMs.

use super::{Look, Order, STEPS, Search};
use abi::vm::Seat;
use component::queue::{Links, List};
use component::{Table, Tables};

/// A hand goes from those that came in first to those that came in last, and round again. Whoever was used since it passed for the last time stays where it is, and
/// counts as unused from then on; who was not goes out. So the popular ones stay, and who was woken once is gone before them.
///
/// A VM was used if it has begun to idle since: nobody has to say so. What it came in for is no use: that ends within a moment.
#[derive(Debug)]
pub struct Sieve {
    links: Links,
    /// Whom the hand has passed, and who lies before it, the next one first. In this order, the one behind the other, they came in.
    lists: [List<Seat>; 2],
    /// Which of the lists lies before the hand.
    ahead: usize,
    seats: Table<Entry>,
    misses: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// It was used if it has begun to idle later than this.
    seen: u64,
    /// The list that it is in.
    list: Option<bool>,
}

impl Order for Sieve {
    const NAME: &'static str = "vm-sieve";
    // Two dozen.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = Links::BYTES + size_of::<Entry>() as u32;

    fn new(tables: &mut Tables) -> Self {
        let links = Links::new(tables.per_seat());
        Sieve { links, lists: [List::new(); 2], ahead: 0, seats: tables.per_seat(), misses: 0 }
    }

    fn clear(&mut self) {
        self.lists = [List::new(); 2];
        self.seats.clear();
        self.misses = 0;
    }

    fn insert(&mut self, seat: Seat, look: &impl Look) {
        self.remove(seat);
        if let Some(entry) = self.seats.reach(seat.index()) {
            *entry = Entry { seen: look.now().saturating_add(look.grace()), list: Some(self.ahead != 0) };
            self.lists[self.ahead].push_back(&mut self.links, seat);
        }
    }

    fn remove(&mut self, seat: Seat) {
        let list = self.seats.get_mut(seat.index()).and_then(|entry| entry.list.take());
        if let Some(list) = list {
            self.lists[usize::from(list)].remove(&mut self.links, seat);
        }
    }

    fn next(&mut self, look: &impl Look) -> Search {
        for _ in 0..STEPS {
            if self.lists[self.ahead].is_empty() {
                self.ahead = 1 - self.ahead;
            }
            // Once round to take the marks away, and once more.
            if self.misses >= 2 * (self.lists[0].len() + self.lists[1].len()) {
                self.misses = 0;
                return Search::Nobody;
            }
            let Some(seat) = self.lists[self.ahead].pop_front(&mut self.links) else { return Search::Nobody };
            self.lists[1 - self.ahead].push_back(&mut self.links, seat);
            let Some(entry) = self.seats.get_mut(seat.index()) else { continue };
            entry.list = Some(self.ahead == 0);
            let since = look.idle_since(seat);
            let used = since == 0 || since > entry.seen;
            // Who works now begins to idle later than all that was seen.
            entry.seen = entry.seen.max(since);
            if !used && !look.is_refused(seat) {
                self.misses = 0;
                return Search::Found(seat);
            }
            self.misses += 1;
        }
        Search::More
    }
}

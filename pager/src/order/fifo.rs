//! First in, first out.

use super::{Look, Order, STEPS, Search};
use abi::vm::Seat;
use component::queue::{Links, List};
use component::{Table, Tables};

/// Whoever has been in for longest goes out first. Who cannot go when it is its turn is passed over until it is its turn again.
#[derive(Debug)]
pub struct Fifo {
    links: Links,
    queue: List<Seat>,
    /// Who is in the queue.
    queued: Table<bool>,
    /// So many in a row could not go.
    misses: u32,
}

impl Order for Fifo {
    const NAME: &'static str = "vm-fifo";
    const SEAT_BYTES: u32 = Links::BYTES + 1;

    fn new(tables: &mut Tables) -> Self {
        Fifo { links: Links::new(tables.per_seat()), queue: List::new(), queued: tables.per_seat(), misses: 0 }
    }

    fn clear(&mut self) {
        self.queue = List::new();
        self.queued.clear();
        self.misses = 0;
    }

    fn insert(&mut self, seat: Seat, _: &impl Look) {
        if let Some(queued) = self.queued.reach(seat.index())
            && !core::mem::replace(queued, true)
        {
            self.queue.push_back(&mut self.links, seat);
        }
    }

    fn remove(&mut self, seat: Seat) {
        if self.queued.get_mut(seat.index()).is_some_and(core::mem::take) {
            self.queue.remove(&mut self.links, seat);
        }
    }

    fn next(&mut self, look: &impl Look) -> Search {
        for _ in 0..STEPS {
            if self.misses >= self.queue.len() {
                self.misses = 0;
                return Search::Nobody;
            }
            let Some(seat) = self.queue.rotate(&mut self.links) else { return Search::Nobody };
            if look.idle_since(seat) != 0 && !look.is_refused(seat) {
                self.misses = 0;
                return Search::Found(seat);
            }
            self.misses += 1;
        }
        Search::More
    }
}

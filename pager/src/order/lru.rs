//! Least recently used.

use super::{Look, Order, STEPS, Search};
use abi::vm::Seat;
use component::{Heap, Tables};

/// Whoever has idled for longest goes out first. What stands in the heap is a time that was true once: when it is somebody's turn, it is looked at anew, and whoever
/// has done something since goes further back.
#[derive(Debug)]
pub struct Lru {
    heap: Heap<u64>,
    misses: usize,
}

impl Order for Lru {
    const NAME: &'static str = "vm-lru";
    const SEAT_BYTES: u32 = Heap::<u64>::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Lru { heap: Heap::new(tables), misses: 0 }
    }

    fn clear(&mut self) {
        self.heap.clear();
        self.misses = 0;
    }

    fn insert(&mut self, seat: Seat, look: &impl Look) {
        self.heap.set(seat, look.now());
    }

    fn remove(&mut self, seat: Seat) {
        self.heap.remove(seat);
    }

    fn next(&mut self, look: &impl Look) -> Search {
        for _ in 0..STEPS {
            // Once round: whoever was used stands before those that cannot go then, and is named when it is found again.
            if self.misses > self.heap.len() {
                self.misses = 0;
                return Search::Nobody;
            }
            let Some((seat, used)) = self.heap.first() else { return Search::Nobody };
            let since = look.idle_since(seat);
            if since == 0 || look.is_refused(seat) {
                self.heap.set(seat, look.now());
            } else if since > used {
                self.heap.set(seat, since);
            } else {
                self.heap.set(seat, look.now());
                self.misses = 0;
                return Search::Found(seat);
            }
            self.misses += 1;
        }
        Search::More
    }
}

//! First come, first served: requests begin in the order in which they were taken from the rings, whoever asked.

use super::turns::{self, Turns};
use super::{Discipline, HELD, TURN, Waiting};
use abi::vm::Seat;
use component::Tables;
use heapless::Deque;

/// One queue for all. Each operation takes a constant time.
pub struct Fifo {
    turns: Turns,
    queue: Deque<Waiting, HELD>,
}

impl Discipline for Fifo {
    const NAME: &'static str = "fifo";
    const SEAT_BYTES: u32 = turns::BYTES_PER_SEAT;

    fn new(tables: &mut Tables) -> Self {
        Fifo { turns: Turns::new(tables), queue: Deque::new() }
    }

    fn enqueue(&mut self, seat: Seat) {
        self.turns.push(seat);
    }

    fn wants(&mut self) -> Option<Seat> {
        if self.queue.is_full() { None } else { self.turns.first() }
    }

    fn nothing(&mut self) {
        self.turns.leave();
    }

    fn taken(&mut self, request: Option<Waiting>) {
        self.turns.spend(TURN);
        // There was room, or nothing was wanted.
        self.queue.extend(request);
    }

    fn next(&mut self) -> Option<Waiting> {
        self.queue.pop_front()
    }
}

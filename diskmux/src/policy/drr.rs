//! Deficit round robin: VMs that have requests take turns, each with as many as its weight is worth. All requests are of one block, so nothing is left over
//! from a turn.

use super::turns::{self, Turns};
use super::{Discipline, Waiting};
use abi::share::WEIGHT;
use abi::vm::Seat;
use component::{Table, Tables};

/// Requests in a turn of a VM of the usual weight.
pub const USUAL: u32 = 4;

/// Turns by weight. Each operation takes a constant time.
pub struct Drr {
    turns: Turns,
    /// Requests in a turn, by seat.
    worth: Table<u16>,
    next: Option<Waiting>,
}

impl Discipline for Drr {
    const NAME: &'static str = "drr";
    // Two bytes.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = turns::BYTES_PER_SEAT + size_of::<u16>() as u32;

    fn new(tables: &mut Tables) -> Self {
        Drr { turns: Turns::new(tables), worth: tables.per_seat(), next: None }
    }

    fn attach(&mut self, seat: Seat, weight: u16) {
        if let Some(worth) = self.worth.reach(seat.index()) {
            *worth = u16::try_from(u32::from(weight) * USUAL / u32::from(WEIGHT)).unwrap_or(u16::MAX);
        }
    }

    fn enqueue(&mut self, seat: Seat) {
        self.turns.push(seat);
    }

    fn wants(&mut self) -> Option<Seat> {
        if self.next.is_some() { None } else { self.turns.first() }
    }

    fn nothing(&mut self) {
        self.turns.leave();
    }

    fn taken(&mut self, request: Option<Waiting>) {
        let worth = self.turns.first().and_then(|seat| self.worth.get(seat.index()));
        self.turns.spend(worth.copied().unwrap_or(0));
        self.next = request;
    }

    fn next(&mut self) -> Option<Waiting> {
        self.next.take()
    }
}

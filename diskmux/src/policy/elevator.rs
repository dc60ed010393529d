//! The elevator, in sweeps (FSCAN): what was taken from the rings when a sweep begins is begun in the order of blocks, from the first to the last; what is
//! taken meanwhile waits for the next sweep. So a VM that asks for the same places again and again holds nobody up for longer than a sweep.

use super::turns::{self, Turns};
use super::{Discipline, HELD, TURN, Waiting};
use abi::vm::Seat;
use component::Tables;
use heapless::Vec;

/// A sweep and what is collected for the next one. An operation looks at [`HELD`] requests at most.
pub struct Elevator {
    turns: Turns,
    /// What is left of the sweep, the next one last.
    sweep: Vec<Waiting, HELD>,
    /// What was taken since, in order.
    later: Vec<Waiting, HELD>,
}

impl Elevator {
    /// Whether what comes after this VM's flush would pass it.
    fn flushes(&self, seat: Seat) -> bool {
        self.later.iter().any(|waiting| waiting.seat == seat && waiting.is_flush())
    }
}

impl Discipline for Elevator {
    const NAME: &'static str = "elevator";
    const SEAT_BYTES: u32 = turns::BYTES_PER_SEAT;

    fn new(tables: &mut Tables) -> Self {
        Elevator { turns: Turns::new(tables), sweep: Vec::new(), later: Vec::new() }
    }

    fn enqueue(&mut self, seat: Seat) {
        self.turns.push(seat);
    }

    fn wants(&mut self) -> Option<Seat> {
        if self.later.is_full() {
            return None;
        }
        loop {
            let seat = self.turns.first()?;
            if !self.flushes(seat) {
                return Some(seat);
            }
            // It comes back when its flush is part of a sweep. There are fewer flushes than requests.
            self.turns.leave();
        }
    }

    fn nothing(&mut self) {
        self.turns.leave();
    }

    fn taken(&mut self, request: Option<Waiting>) {
        self.turns.spend(TURN);
        self.later.extend(request);
    }

    fn next(&mut self) -> Option<Waiting> {
        if self.sweep.is_empty() {
            core::mem::swap(&mut self.sweep, &mut self.later);
            // They are in the order in which they came. Of two for the same block the one that came first begins first: a flush has the largest block, so it is behind
            // all of its VM.
            for at in 1..self.sweep.len() {
                let mut to = at;
                while to > 0 && self.sweep[to - 1].at <= self.sweep[to].at {
                    self.sweep.swap(to - 1, to);
                    to -= 1;
                }
            }
            for at in 0..self.sweep.len() {
                if self.sweep[at].is_flush() {
                    self.turns.push(self.sweep[at].seat);
                }
            }
        }
        self.sweep.pop()
    }
}

//! Deficit round robin as published (Shreedhar and Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995), with
//! weights: of the bytes of the wire every VM that has something to send gets its share by weight, whatever the size of its frames.
//!
//! Each turn adds a quantum to a VM's deficit counter; frames leave while they fit into it, and what is left counts in the next
//! turn, unless the VM has nothing more to send. The quantum of a VM of weight 100 is two full frames. One of weight below 50 cannot
//! send a full frame in every turn, and one of weight above 500 may send more than its ring holds: there shares end to grow.

use super::{Discipline, Fifo, More, Next, Turn};
use abi::nic::MAX_FRAME;
use abi::share::{Share, WEIGHT, WEIGHT_MAX};
use abi::vm::Seat;
use component::{Table, Tables};

/// What a turn adds for a VM of weight [`WEIGHT`], in bytes.
pub const QUANTUM: u32 = 2 * 1514;
/// The most that is kept for the next turn: what is left is less than a frame, unless the turn ran out of buffers.
const KEPT: i32 = 1514;
const _: () = assert!(MAX_FRAME == 1514);
/// Transmit buffers that one turn fills at most: all of the shortest frames for a quantum of the usual weight.
pub const BUFFERS: u16 = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The deficit counter.
    deficit: i32,
    /// What each turn adds; 0 counts as [`QUANTUM`].
    quantum: u32,
}

/// Deficit round robin: all operations take constant time.
#[derive(Debug)]
pub struct Drr {
    entries: Table<Entry>,
    queue: Fifo,
}

impl Discipline for Drr {
    const NAME: &'static str = "drr";
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = size_of::<Entry>() as u32 + Fifo::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Drr { entries: tables.per_seat(), queue: Fifo::new(tables) }
    }

    fn attach(&mut self, seat: Seat, share: Share, _now: u64) {
        if let Some(entry) = self.entries.reach(seat.index()) {
            let weight = u32::from(share.weight.clamp(1, WEIGHT_MAX));
            *entry = Entry { deficit: 0, quantum: QUANTUM * weight / u32::from(WEIGHT) };
        }
    }

    #[inline]
    fn enqueue(&mut self, seat: Seat) {
        self.queue.push(seat);
    }

    #[inline]
    fn next(&mut self, _now: u64) -> Next {
        let Some(seat) = self.queue.pop() else { return Next::Nobody };
        let Entry { deficit, quantum } = self.entries.get(seat.index()).copied().unwrap_or_default();
        let quantum = i32::try_from(if quantum == 0 { QUANTUM } else { quantum }).unwrap_or(i32::MAX);
        Next::Turn(Turn { seat, allowance: deficit.saturating_add(quantum), buffers: BUFFERS })
    }

    #[inline]
    fn finish(&mut self, seat: Seat, left: i32, more: More, _now: u64) {
        let Some(entry) = self.entries.reach(seat.index()) else { return };
        if more == More::Nothing {
            entry.deficit = left.min(0);
            return;
        }
        // A frame that did not fit fits in one of the next turns: what one of small weight saves up for it is kept.
        entry.deficit = left.min(KEPT);
        self.queue.push(seat);
    }

    fn remove(&mut self, seat: Seat) {
        self.queue.remove(seat);
        if let Some(entry) = self.entries.get_mut(seat.index()) {
            *entry = Entry::default();
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
#[path = "drr_tests.rs"]
mod tests;

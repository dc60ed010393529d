//! Deficit round robin as published (Shreedhar and Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995), with
//! weights: of the bytes of the wire every VM that has something to send gets its share by weight, whatever the size of its frames.
//!
//! Each turn adds a quantum to a VM's deficit counter; frames leave while they fit into it, and what is left counts in the next
//! turn, unless the VM has nothing more to send. The quantum of a VM of weight 100 is two full frames. One of weight below 50 cannot
//! send a full frame in every turn, and one of weight above 500 may send more than its ring holds: there shares end to grow.

use super::{Discipline, Fifo, More, Next, Turn};
use crate::SLOTS;
use abi::nic::MAX_FRAME;
use abi::share::{Share, WEIGHT, WEIGHT_MAX};

/// What a turn adds for a VM of weight [`WEIGHT`], in bytes.
pub const QUANTUM: u32 = 2 * 1514;
/// The most that is kept for the next turn: what is left is less than a frame, unless the turn ran out of buffers.
const KEPT: i32 = 1514;
const _: () = assert!(MAX_FRAME == 1514);
/// Transmit buffers that one turn fills at most: all of the shortest frames for a quantum of the usual weight.
pub const BUFFERS: u16 = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The deficit counter.
    deficit: i32,
    /// What each turn adds; 0 counts as [`QUANTUM`].
    quantum: u32,
}

/// Deficit round robin over `N` slots: all operations take constant time.
#[derive(Debug)]
pub struct Drr<const N: usize = SLOTS> {
    entries: [Entry; N],
    queue: Fifo<N>,
}

impl<const N: usize> Drr<N> {
    /// An empty queue. All zeros, so that the tables take no room in the image.
    pub const fn new() -> Self {
        Drr { entries: [Entry { deficit: 0, quantum: 0 }; N], queue: Fifo::new() }
    }
}

impl<const N: usize> Default for Drr<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Discipline for Drr<N> {
    const NAME: &'static str = "drr";

    fn attach(&mut self, slot: u16, share: Share, _now: u64) {
        if let Some(entry) = self.entries.get_mut(usize::from(slot)) {
            let weight = u32::from(share.weight.clamp(1, WEIGHT_MAX));
            *entry = Entry { deficit: 0, quantum: QUANTUM * weight / u32::from(WEIGHT) };
        }
    }

    #[inline]
    fn enqueue(&mut self, slot: u16) {
        self.queue.push(slot);
    }

    #[inline]
    fn next(&mut self, _now: u64) -> Next {
        let Some(slot) = self.queue.pop() else { return Next::Nobody };
        let Entry { deficit, quantum } = self.entries[usize::from(slot)];
        let quantum = i32::try_from(if quantum == 0 { QUANTUM } else { quantum }).unwrap_or(i32::MAX);
        Next::Turn(Turn { slot, allowance: deficit.saturating_add(quantum), buffers: BUFFERS })
    }

    #[inline]
    fn finish(&mut self, slot: u16, left: i32, more: More, _now: u64) {
        let Some(entry) = self.entries.get_mut(usize::from(slot)) else { return };
        if more == More::Nothing {
            entry.deficit = left.min(0);
            return;
        }
        // A frame that did not fit fits in one of the next turns: what one of small weight saves up for it is kept.
        entry.deficit = left.min(KEPT);
        self.queue.push(slot);
    }

    fn remove(&mut self, slot: u16) {
        self.queue.remove(slot);
        if let Some(entry) = self.entries.get_mut(usize::from(slot)) {
            *entry = Entry { deficit: 0, quantum: 0 };
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

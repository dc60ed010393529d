//! Queueing disciplines: whose frames leave next, and how many.

mod drr;
mod fifo;
mod limited;
mod rates;
mod round_robin;
#[cfg(test)]
mod test_link;
mod token_bucket;
mod watched;

pub use drr::Drr;
pub use fifo::Fifo;
pub use limited::Limited;
pub use round_robin::RoundRobin;
pub use token_bucket::TokenBucket;
pub use watched::{Fault, Watched};

use abi::share::Share;
use abi::vm::Seat;
use component::Tables;

/// The right to send, given to one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Seat of the VM.
    pub seat: Seat,
    /// What it may spend; what a frame costs says [`Discipline::cost`].
    pub allowance: i32,
    /// Transmit buffers of the NIC that it may fill: the turn ends with the last of them, whatever is left of the allowance.
    pub buffers: u16,
}

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The turn of a VM begins; the VM leaves the queue until [`Discipline::finish`], or until it is enqueued again where its tenant may not send: nothing
    /// has come of the turn then.
    Turn(Turn),
    /// Nobody may send before this time, in ticks, unless others have something to send by then.
    At(u64),
    /// Nobody has anything to send.
    Nobody,
}

/// Frames in a hundredth of a second from the wire and from other VMs, from which on a VM has a lot to do for those.
const BUSY: u32 = 64;
/// Frames that one VM may bring in a hundredth of a second one that has a lot to do for others, whatever that is; and one that has not. 25,600 and 204,800 a
/// second.
const BROUGHT_LEAST: u32 = 256;
const BROUGHT_MOST: u32 = 2_048;

/// Decides in which order VMs with something to send are served. Nothing in here looks at rings or frames. `docs/policies.md` tells how to write one.
pub trait Discipline: Sized {
    /// What the boot option calls it.
    const NAME: &'static str;

    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    const SEAT_BYTES: u32;

    /// Nobody has anything to send.
    fn new(tables: &mut Tables) -> Self;

    /// Before anything else: how many ticks the clock of `now` has in a second.
    fn start(&mut self, _ticks_per_second: u64) {}

    /// The VM in `seat`, which is new there, may have this share. Its fields are as the core says them, and are to be brought
    /// within their limits.
    fn attach(&mut self, _seat: Seat, _share: Share, _now: u64) {}

    /// The VM in `seat` has something to send. Nothing changes when it is known to have.
    fn enqueue(&mut self, seat: Seat);

    /// Who is next.
    fn next(&mut self, now: u64) -> Next;

    /// The time before which the VM in `seat`, which has something to send, may not: a discipline that holds frames back says so, or it
    /// counts as one that starves the VM.
    fn not_before(&self, _seat: Seat) -> u64 {
        0
    }

    /// What a frame of `len` bytes costs.
    fn cost(&self, len: usize) -> i32 {
        bytes(len)
    }

    /// Whether a frame of this cost may be begun with so much of the allowance `left`. Usually when there is enough.
    fn affords(&self, left: i32, cost: i32) -> bool {
        cost <= left
    }

    /// Slots that one VM may have in another's receive ring, when so many are `free` there ([`crate::Holdings`]). Twice as many leaves
    /// others a third of the ring beside one VM that floods it, and a ninth beside four.
    #[inline]
    fn may_hold(&self, free: u32) -> u32 {
        2 * free
    }

    /// Frames that one VM may bring another in a hundredth of a second, when so many came for that from all `others` in the one before. Usually many, and
    /// where the receiver has a lot to do for others, half as many as these brought, or what is little work.
    #[inline]
    fn may_bring(&self, others: u32) -> u32 {
        if others < BUSY { BROUGHT_MOST } else { (others / 2).clamp(BROUGHT_LEAST, BROUGHT_MOST) }
    }

    /// The turn is over at `now`. `left` of the allowance is left (negative: overspent).
    fn finish(&mut self, seat: Seat, left: i32, more: More, now: u64);

    /// The VM in `seat` is gone, whether it is queued or has its turn.
    fn remove(&mut self, seat: Seat);

    /// True when nobody waits for a turn, nor for a time.
    fn is_empty(&self) -> bool;
}

/// What a VM has to send at the end of its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Nothing.
    Nothing,
    /// Perhaps something.
    Perhaps,
    /// A frame of this cost, which the turn did not afford.
    Frame(i32),
}

/// The cost of a frame of `len` bytes where nothing but bytes count.
pub fn bytes(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

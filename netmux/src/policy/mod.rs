//! Queueing disciplines: whose frames leave next.

mod round_robin;

pub use round_robin::RoundRobin;

/// The right to send, given to one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Slot of the VM.
    pub slot: u16,
    /// What it may spend. A frame may be begun while anything is left, so a turn can end below zero.
    pub allowance: i32,
}

/// Decides in which order VMs with something to send are served. What a frame costs is [`cost`]; nothing in here looks
/// at rings or frames.
pub trait Discipline {
    /// The VM in `slot` has something to send. Nothing changes when it is known to have.
    fn enqueue(&mut self, slot: u16);

    /// Whose turn begins; its VM leaves the queue until [`Discipline::finish`]. `None` when nobody has anything to send.
    fn next(&mut self) -> Option<Turn>;

    /// The turn is over: `left` of its allowance is left (negative: overspent), and the VM has `more` to send or not.
    fn finish(&mut self, slot: u16, left: i32, more: bool);

    /// The VM in `slot` is gone, whether it is queued or has its turn.
    fn remove(&mut self, slot: u16);

    /// True when nobody waits for a turn.
    fn is_empty(&self) -> bool;
}

/// What sending a frame costs beside its bytes. It is about what the work per frame costs in terms of the work per
/// byte, and so bounds the frames of a turn together with their bytes.
pub const FRAME_COST: i32 = 256;

/// The cost of a frame of `len` bytes.
pub fn cost(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX - FRAME_COST) + FRAME_COST
}

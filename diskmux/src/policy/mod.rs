//! Disciplines: whose requests are taken from the VMs' rings, and in which order they go to the disks.
//!
//! A request lies in its VM's ring until a discipline [wants](Discipline::wants) it. One that looks at where blocks are holds some of them; one that does not,
//! none but the next.

mod drr;
mod elevator;
mod fifo;
#[cfg(test)]
mod tests;
mod turns;

pub use drr::Drr;
pub use elevator::Elevator;
pub use fifo::Fifo;

use abi::guest_disk::DiskOrder;
use abi::vm::{Seat, VmId};
use component::Tables;

/// Requests that a discipline holds at most.
pub const HELD: usize = 64;
/// Requests that are taken from one ring before it is the next one's turn, where weights do not count.
const TURN: u16 = 8;

/// A request that was taken from a VM's ring and has not begun. It was found to be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose it is, and its seat.
    pub vm: VmId,
    /// See `vm`.
    pub seat: Seat,
    /// The VM's name for it.
    pub id: u32,
    /// What is asked for.
    pub order: DiskOrder,
    /// The block of the set that it is about; of a flush the largest number.
    pub at: u64,
}

impl Waiting {
    fn is_flush(&self) -> bool {
        matches!(self.order, DiskOrder::Flush)
    }
}

/// Decides in which order the requests of VMs are begun. Nothing in here looks at rings or disks. Requests of one VM to the same block begin in the
/// order in which they were taken, and nothing passes a flush of the same VM in either direction: all else is the discipline's choice.
pub trait Discipline: Sized {
    /// What the boot option calls it.
    const NAME: &'static str;

    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    const SEAT_BYTES: u32;

    /// Nobody has any requests.
    fn new(tables: &mut Tables) -> Self;

    /// The VM in `seat`, which is new there, weighs so much, as the core says.
    fn attach(&mut self, _seat: Seat, _weight: u16) {}

    /// The VM in `seat` may have requests. Nothing changes when that is known.
    fn enqueue(&mut self, seat: Seat);

    /// Whose ring the next request is to be taken from; `None` when nobody has any, or no more is wanted before one begins.
    fn wants(&mut self) -> Option<Seat>;

    /// The one that was wanted has none that may be taken now. It is enqueued again when that changes.
    fn nothing(&mut self);

    /// The one that was wanted has had a request taken from its ring: this one, or one that was refused.
    fn taken(&mut self, request: Option<Waiting>);

    /// The request that begins now; `None` when none was taken.
    fn next(&mut self) -> Option<Waiting>;
}

//! In which order VMs go out when memory is short: pure code over seats.

#[cfg(test)]
mod contract_tests;
mod fifo;
mod lru;
mod nobody;
mod sieve;
#[cfg(test)]
mod traces;

pub use fifo::Fifo;
pub use lru::Lru;
pub use nobody::Nobody;
pub use sieve::Sieve;

use abi::vm::Seat;
use component::Tables;

/// What an order can see of the VMs.
pub trait Look {
    /// The TSC now.
    fn now(&self) -> u64;
    /// The TSC at which a VM has begun to idle; 0 while it does anything else.
    fn idle_since(&self, seat: Seat) -> u64;
    /// Whether it is no use to ask that this VM go out: it is going, or was refused and nothing has changed since.
    fn is_refused(&self, seat: Seat) -> bool;
    /// Ticks after a VM has come in that belong to what it came in for.
    fn grace(&self) -> u64;
}

/// What an order has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// This VM should go out next.
    Found(Seat),
    /// Nobody can go out, or nobody is there.
    Nobody,
    /// There are more VMs to look at: ask again.
    More,
}

/// VMs that are looked at by one call of [`Order::next`] at most.
pub const STEPS: u32 = 64;

/// An order.
pub trait Order: Sized {
    /// What the boot option calls it.
    const NAME: &'static str;

    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    const SEAT_BYTES: u32;

    /// Knows nobody yet.
    fn new(tables: &mut Tables) -> Self;

    /// Knows nobody again.
    fn clear(&mut self);

    /// A VM has come in, in a seat in which nobody was.
    fn insert(&mut self, seat: Seat, look: &impl Look);

    /// Nobody is in this seat any more. Nothing happens where nobody was.
    fn remove(&mut self, seat: Seat);

    /// Who should go out next, after at most [`STEPS`] that are looked at. Whoever is named is taken for used at this moment, so that somebody else is named
    /// the next time if it stays.
    fn next(&mut self, look: &impl Look) -> Search;
}

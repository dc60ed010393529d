//! The services between the core and its parties, one file each: what the core tells them, and what it does on their word.

mod admission;
mod callers;
mod control;
mod disk;
mod hold;
mod net;
mod out;
mod pager;
mod plan;
mod resync;
mod wakes;

pub use net::NoRingPage;
pub use wakes::Wakes;

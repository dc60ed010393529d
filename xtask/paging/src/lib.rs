//! Plays wakes of many VMs against the pager's own code, and says how many of them needed the disk: the library behind
//! `cargo xtask bench paging-policies`. Beside it, how long those wait whom the scheduler's gatekeeper lets in ([`admission`]), for `cargo xtask bench gatekeepers`.
//!
//! What is simulated is a machine without a memory tier: who is not in lies on a disk. The choice of who goes out is made by
//! [`pager::victims::Victims`] with each of its orders, word for word as on a machine; around it stands a core that lets VMs in and out at
//! once ([`machine`]); where single pages go out, by [`pager::pages::Single`] with each of its rules ([`single`]). What no policy can do better stands beside it ([`optimum`]). Traces are made from a seed, and are the same on every run
//! ([`trace`]).
#![forbid(unsafe_code)]

pub mod admission;
pub mod machine;
pub mod optimum;
mod random;
pub mod single;
pub mod trace;

pub use machine::{Comes, Policy, play};
pub use single::{PagePolicy, play_pages};
pub use trace::{Shape, Trace};

/// What became of a trace's wakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// All of them.
    pub wakes: u32,
    /// Those that needed the disk.
    pub from_disk: u32,
    /// Pages that were read for them.
    pub pages: u64,
}

impl Outcome {
    /// The share of wakes that needed the disk, from 0 to 1.
    pub fn share(&self) -> f64 {
        f64::from(self.from_disk) / f64::from(self.wakes.max(1))
    }

    /// Pages that were read, per wake.
    pub fn pages_per_wake(&self) -> f64 {
        // Far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let pages = self.pages as f64;
        pages / f64::from(self.wakes.max(1))
    }
}

//! Who runs: the gatekeeper admits VMs, a policy orders the admitted ones, the scheduler publishes that as the plan.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../../docs/policies.md")]
struct Manual;

pub mod gatekeeper;
mod oddity;
pub mod policy;
mod random;
mod round;
mod run;
mod scheduler;
mod tickets;
pub mod vms;

pub use component;
pub use component::queue;
pub use oddity::Oddity;
pub use policy::PLAN_DEPTH;
pub use run::run;
pub use scheduler::Scheduler;
pub use vms::Seated;

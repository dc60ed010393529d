//! The disk striper: drives disks, recognises which of them are members of a set, and opens the set.
//!
//! `docs/disks.md` explains the whole, docs/disk-format.md what is on a disk. A disk that is not a member of the set in use is never written.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod alteration;
mod controllers;
mod disks;
pub mod drivers;
mod guest;
mod guests;
mod latencies;
mod no_disk;
mod peek;
pub mod policy;
mod question;
mod rate;
mod run;
mod scrub;
mod service;
mod sets;
mod store;
mod swap;
#[cfg(test)]
mod test_machine;
mod uses;

pub use component;
pub use disks::{Disks, Failed, Host};
pub use guests::tables;
pub use run::run;
pub use scrub::Scrub;
pub use sets::Sets;
pub use store::{Ask, BYTES as STORE_BYTES, Data, Outcome, Refused, Store};

//! What holds VMs that are out: compressed, with a checksum, in a pool of memory that outlives the program.
//!
//! `docs/memory.md` explains the whole. The core's records are the only index of the pool; what it says and asks for is in [`abi::swap`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod ages;
pub mod bundle;
pub mod cells;
mod disk;
mod link;
pub mod pool;
mod read;
mod run;
pub mod seal;
mod sparse;
#[cfg(test)]
mod test_vm;

pub use component;
pub use run::{run, tables};

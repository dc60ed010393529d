//! The core of Foraker: boot, trap handling and per-VM metadata; the only program in VMX root mode, ring 0.
//!
//! A library, so that what is pure in it is tested on the host; `main.rs` ties it to the machine.
#![cfg_attr(not(test), no_std)]

#[cfg(all(feature = "fuzzing", not(test)))]
extern crate std;

mod board;
mod boot;
mod calls;
mod component;
mod kernel;
mod log;
mod memory;
mod service;
mod trap;
mod vm;

/// What fuzzers feed: each takes any bytes.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::boot::fuzz::{elf, manifest, multiboot, options};
    pub use crate::memory::frames_fuzz::frames;
}

pub use boot::{CoreImage, panicked, start};

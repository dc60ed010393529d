//! Measuring from inside the machine: samples and their figures, a guest's bare necessities.
//!
//! The guest of this package links no library OS, so that nothing runs in it but what is measured. Time is the
//! time-stamp counter, which counts retired instructions where the machine is emulated without synchronisation
//! (docs/performance.md).
#![no_std]

pub mod guest;
mod hex;
mod samples;

pub use hex::{hex, parse_hex};
pub use samples::Samples;

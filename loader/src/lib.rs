//! The loader of Foraker: what GRUB starts. It reads whatever boot left (multiboot2 information, options, manifest, ELF modules, ACPI,
//! PCI, clocks), checks the processor and picks the core for it, places everything, builds the page tables of the core's half, writes
//! one [`abi::boot::BootRecord`], and jumps into the core, which gives its frames to VMs before the first of them runs.
//!
//! Each step either gives the next what it needs, or ends the boot with a message that says what, why and what to do (`failure.rs`).
//!
//! A library, so that what is pure in it is tested on the host; `main.rs` ties it to the machine.
#![cfg_attr(not(test), no_std)]

#[cfg(all(feature = "fuzzing", not(test)))]
extern crate std;

mod acpi;
mod barriers;
mod clock;
mod core_place;
mod digests;
mod failure;
mod features;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod glyphs;
mod information;
mod kernel_tables;
#[cfg(test)]
mod machines_test;
mod manifest;
#[cfg(test)]
mod manifest_test;
mod map;
mod modules;
mod options;
#[cfg(test)]
mod options_test;
mod pci;
mod pool;
mod prepare;
mod present;
mod programs;
mod quotas;
mod ranges;
mod record;
mod start;
mod virtualization;
mod vm_list;
mod vms;

pub(crate) use base::memory;

/// What fuzzers feed: each takes any bytes.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::fuzz::{elf, manifest, multiboot, options};
}

pub use failure::{Failure, panicked};
pub use start::{LoaderImage, start};

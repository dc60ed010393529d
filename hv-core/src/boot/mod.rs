//! From the boot loader to the run loop. Each step either gives the next what it needs, or ends the boot with a message
//! that says what, why and what to do ([`failure`]).

pub mod elf;
#[cfg(test)]
pub mod elf_test;
pub mod failure;
pub mod fatal;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod information;
mod layout;
pub mod manifest;
#[cfg(test)]
mod manifest_test;
pub mod modules;
pub mod options;
#[cfg(test)]
mod options_test;
mod start;
mod virtualization;
pub mod vms;

pub use elf::{Accept, Elf, ElfError};
pub use failure::Failure;
pub use fatal::{fatal, panicked};
pub use layout::CoreImage;
pub use manifest::Manifest;
pub use modules::Modules;
pub use options::Options;
pub use start::{Boot, start};
pub use virtualization::{Refusal, Virtualization};

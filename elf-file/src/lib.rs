//! Static ELF64 programs: components, the cores and guest images. The loader reads those that boot brings with this, and the operator's VM
//! those that are sent to it: what one refuses the other refuses, too.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "sample"))]
extern crate alloc;

mod elf;
#[cfg(test)]
mod elf_test;
#[cfg(any(test, feature = "sample"))]
pub mod sample;

pub use elf::{Accept, Elf, ElfError, Segment};

//! The core of Foraker: trap handling and per-VM metadata; the only program in root mode, ring 0, that stays.
//!
//! A library, so that what is pure in it is tested on the host; `core-vmx` and `core-svm` make it the program for one kind of processor
//! each. The loader has read and placed everything; what it found the core takes from one binary record, which it checks (`boot/check.rs`).
#![cfg_attr(not(test), no_std)]

mod board;
mod boot;
mod calls;
mod component;
mod kernel;
mod program;
mod service;
mod trap;
mod vm;

pub(crate) use base::{log, memory};

/// Whether the core would believe a boot record.
#[cfg(feature = "check")]
pub use boot::{check, vms::check as check_vms};

/// What the core's note says beside its kind: whether it can make mistakes on purpose.
pub const HOOKS: u32 = if cfg!(feature = "selftest") { abi::note::WITH_SELFTEST } else { 0 };

pub use base::memory::CoreImage;
#[cfg(feature = "svm")]
pub use boot::start_svm;
#[cfg(feature = "vmx")]
pub use boot::start_vmx;
pub use boot::{Virtualization, panicked, start};

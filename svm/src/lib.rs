//! AMD SVM mechanism: capabilities, intercepts, VMCB, nested page tables, entry and exit. No policy, and no VMs.
//!
//! [`Capabilities::read`] and [`Capabilities::plan`] say whether this CPU will do, [`Svm::enable`] switches SVM on, and
//! from there on the core uses the traits of crate [`backend`] alone. Nothing relies on what a CPU may lack: next-RIP
//! saving and clean bits are used where CPUID offers them; decode assists and flush-by-ASID are not needed at all.
//! Sections and tables are those of the AMD64 Architecture Programmer's Manual (APM).
//!
//! Everything that is pure (judging capabilities, page tables, decoding exits and instructions, address space tags) is
//! tested on the host.
#![no_std]

#[cfg(any(test, feature = "detect"))]
pub mod capabilities;
mod code;
pub mod cr;
mod entry;
#[cfg(any(test, feature = "detect"))]
mod error;
pub mod exit;
pub mod instruction;
#[cfg(any(test, feature = "detect"))]
pub mod intercepts;
mod interface;
mod linear;
pub mod npt;
mod plan;
#[cfg(any(test, feature = "detect"))]
mod record;
mod svm;
mod vcpu;
pub mod vmcb;

/// The traits that this crate implements.
pub use ::backend;
#[cfg(any(test, feature = "detect"))]
pub use capabilities::Capabilities;
#[cfg(any(test, feature = "detect"))]
pub use error::Error;
pub use npt::Npt;
pub use plan::{Intercepts, Plan};
pub use svm::{HOST_FRAMES, Svm};
pub use vcpu::{SvmVcpu, VCPU_BYTES};

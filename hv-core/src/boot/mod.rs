//! From the loader's record to the run loop. The record is checked before anything of it is used; a bad one is refused with a field and
//! a value ([`check`]).

pub mod check;
#[cfg(test)]
mod check_tests;
mod fatal;
mod field;
mod frames;
mod handover;
pub mod options;
#[cfg(feature = "selftest")]
pub mod selftest;
mod shape;
mod start;
#[cfg(feature = "svm")]
mod svm;
pub mod vms;
#[cfg(feature = "vmx")]
mod vmx;

pub use check::Field;
pub use fatal::{fatal, panicked, refuse};
pub use frames::give_back;
pub use handover::{Boot, Virtualization};
#[cfg(feature = "selftest")]
pub use selftest::Spoil;
pub use shape::{check_layout, is_image};
pub use start::start;
#[cfg(feature = "svm")]
pub use svm::start_svm;
pub use vms::VmTables;
#[cfg(feature = "vmx")]
pub use vmx::start_vmx;

/// Nothing can be spoilt but in the test image.
#[cfg(not(feature = "selftest"))]
pub trait Spoil {}
#[cfg(not(feature = "selftest"))]
impl<V> Spoil for V {}

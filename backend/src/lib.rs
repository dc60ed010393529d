//! What the core needs of the machine to run guests: the traits that its run loop is written against.
//!
//! One value of a [`Backend`] exists per CPU. A [`Vcpu`] lies in place in a frame of its own and is entered on that CPU;
//! nested page tables are [`Tables`]. There are two backends, `vmx` for VT-x and `svm` for AMD-V; what both can share
//! without asking which one it is lies here as well: page tables of four levels, tags of translations, and the state that XSAVE knows.
#![no_std]

#[cfg(feature = "fake")]
extern crate alloc;

pub mod barriers;
#[cfg(any(feature = "selftest", feature = "fake"))]
mod corruption;
mod cpu;
mod exit;
#[cfg(feature = "fake")]
pub mod fake;
mod four_level;
mod portable;
mod position;
mod tables;
mod tags;
mod vcpu;
#[cfg(any(test, feature = "detect"))]
pub mod xcr0;
pub mod xstate;

pub use abi::barriers::Barriers;
pub use abi::guest::Interrupted;
pub use abi::pager::Access;
pub use abi::vcpu::{BadState, VcpuState};
#[cfg(any(feature = "selftest", feature = "fake"))]
pub use corruption::{Corrupt, Corruption};
pub use cpu::{Backend, Vcpu};
pub use exit::Exit;
pub use four_level::{EntryFormat, FourLevel};
pub use portable::Layout;
pub use position::{NotCanonical, filter_flags, is_canonical};
pub use tables::{Flush, Frames, NestedMapError, Rights, Tables, Translation};
pub use tags::{Tag, Tags};
pub use vcpu::{GeneralRegisters, GuestMemory, VcpuConfig};

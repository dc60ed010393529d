//! VT-x mechanism: capabilities, controls, VMCS, EPT, entry and exit. No policy, and no VMs.
//!
//! [`Capabilities::read`] and [`Capabilities::plan`] say whether this CPU will do, [`Vtx::enable`] switches VT-x on, and
//! from there on the core uses the traits of crate [`backend`] alone. Everything that is pure (judging capabilities, page
//! tables, decoding exits) is tested on the host.
#![no_std]

#[cfg(any(test, feature = "detect"))]
pub mod capabilities;
#[cfg(any(test, feature = "detect"))]
pub mod controls;
pub mod cr;
mod entry;
pub mod ept;
mod error;
pub mod exit;
pub mod fields;
mod host;
mod interface;
mod plan;
#[cfg(any(test, feature = "detect"))]
mod record;
#[cfg(any(test, feature = "detect"))]
mod timer;
#[cfg(any(test, feature = "detect"))]
mod unfit;
mod vcpu;
mod vmcs;
mod vtx;
mod xstate;

/// The traits that this crate implements.
pub use ::backend;
#[cfg(any(test, feature = "detect"))]
pub use capabilities::Capabilities;
pub use ept::Ept;
pub use error::Error;
pub use plan::{Controls, Plan};
#[cfg(any(test, feature = "detect"))]
pub use unfit::Unfit;
pub use vcpu::{VCPU_BYTES, VtxVcpu};
pub use vtx::Vtx;

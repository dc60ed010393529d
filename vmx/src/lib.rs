//! VT-x mechanism: capabilities, controls, VMCS, EPT, entry and exit. No policy, and no VMs.
//!
//! [`Capabilities::read`] and [`Capabilities::plan`] say whether this CPU will do, [`Vtx::enable`] switches VT-x on, and
//! from there on the core uses the traits of crate [`backend`] alone. Everything that is pure (judging capabilities, page
//! tables, decoding exits) is tested on the host.
#![no_std]

pub mod capabilities;
pub mod controls;
mod entry;
pub mod ept;
mod error;
pub mod exit;
pub mod fields;
mod host;
mod plan;
mod timer;
mod vcpu;
mod vmcs;
mod vtx;
mod xstate;

/// The traits that this crate implements.
pub use ::backend;
pub use capabilities::Capabilities;
pub use ept::Ept;
pub use error::Error;
pub use plan::Plan;
pub use vcpu::{VCPU_BYTES, VtxVcpu};
pub use vtx::Vtx;

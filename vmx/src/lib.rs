//! VT-x mechanism: no policy, no VMs.
#![no_std]

pub mod backend;
mod error;

pub use backend::*;
pub use error::Error;

//! Which page a VM gets when it touches one, and who goes out when memory is short: policies as pure code over the messages of [`abi::pager`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod images;
pub mod order;
pub mod pages;
pub mod policy;
mod run;
pub mod victims;
pub mod vms;

pub use component;
pub use run::{run, tables};

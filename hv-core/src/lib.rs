//! The core of Foraker: boot, trap handling and per-VM metadata; the only program in VMX root mode, ring 0.
//!
//! A library, so that what is pure in it is tested on the host; `main.rs` ties it to the machine.
#![cfg_attr(not(test), no_std)]

pub mod boot;
pub mod components;
pub mod cpu;
pub mod hardware;
pub mod log;
pub mod machine;
pub mod memory;
pub mod platform;
pub mod vms;

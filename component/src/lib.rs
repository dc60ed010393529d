//! What every deprivileged component links: entry and panic, system calls, the log, rings, and access to devices.
//!
//! Apart from `ring`, this is the only place where components have `unsafe`; policies above it forbid it.
#![cfg_attr(not(test), no_std)]

#[cfg(not(target_os = "none"))]
extern crate alloc;

mod chains;
mod complaints;
mod component;
mod crc;
mod heap;
mod keep;
mod kicks;
mod line;
mod logger;
mod mmio;
pub mod queue;
mod rings;
mod start;
mod state;
mod syscall;
mod tables;
#[cfg(not(target_os = "none"))]
pub mod test_log;
pub mod virtio;

pub use crate::chains::Chains;
pub use crate::complaints::Complaints;
pub use crate::component::{Component, Dma, IdleTimes, SwapWindow, VmDisk, VmNic};
pub use crate::crc::Crc32c;
pub use crate::heap::Heap;
pub use crate::keep::{KEEP_HEADER_BYTES, Keep};
pub use crate::logger::print;
pub use crate::mmio::Mmio;
pub use crate::rings::{Inbox, Outbox};
pub use crate::start::EXIT_PANIC;
#[doc(hidden)]
pub use crate::start::run;
pub use crate::state::Once;
pub use crate::syscall::{
    Error, exit, irq_ack, nop, notify, now, port_in, port_out, raise, ring_page, ring_return, wait,
};

pub use crate::tables::{Table, Tables};

pub use abi;
pub use log;
pub use ring;

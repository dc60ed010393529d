//! What the loader and the core are both built on, so that neither has a copy of it: physical memory and who owns it, page tables, the
//! outputs of the log, PCI configuration space, the end of the machine's work.
#![cfg_attr(not(test), no_std)]

#[cfg(all(any(feature = "fake", feature = "fuzzing"), not(test)))]
extern crate std;

pub mod fatal;
pub mod log;
pub mod memory;
pub mod pci;
pub mod power;

/// The time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC has no effect but its result.
    unsafe { core::arch::x86_64::_rdtsc() }
}

//! The processor as the core uses it: descriptor tables, traps, and the way into and out of ring 3.

mod descriptors;
mod idt;
mod layout;
mod machine_check;
mod percpu;
mod user;

pub use layout::UserContext;
pub use machine_check::{
    ADVICE, Errors, HardwareError, Make, Severity, enable_machine_checks, has_error_banks, machine_checks, make,
    take_errors,
};
pub use percpu::{CpuMemory, bring_up, idle, nmi_count, take_interrupt};
pub use user::{Trap, enter};

/// Time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC reads a counter; CR4.TSD does not matter at CPL 0.
    unsafe { x86::time::rdtsc() }
}

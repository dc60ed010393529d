//! The processor as the core uses it: descriptor tables, traps, and the way into and out of ring 3.

mod descriptors;
mod percpu;
mod trap;
mod user;

pub use descriptors::{USER_CODE, USER_DATA};
pub use percpu::{CpuMemory, PerCpu, bring_up, idle, nmi_count, take_interrupt};
pub use user::{Trap, UserContext, enter};

/// Time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC reads a counter; CR4.TSD does not matter at CPL 0.
    unsafe { x86::time::rdtsc() }
}

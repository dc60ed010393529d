//! This CPU: descriptor tables, and virtualization switched on.

use crate::boot::{Virtualization, fatal};
use crate::log::say;
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use crate::trap::{self, CpuMemory, Make};
use abi::barriers::BarrierPlan;
use abi::boot::{BootRecord, failure, features};
use abi::limits::PAGE_SIZE;
use abi::log::Record;
use core::ptr::NonNull;

/// Contiguous frames for this CPU, zeroed.
fn frames_for(frames: &mut Frames, pages: u64, what: &str) -> PhysAddr {
    let Some(first) = frames.alloc_contiguous(pages, 1, u64::MAX, Owner::Core) else {
        fatal(failure::NOT_ENOUGH_MEMORY, format_args!("no room for {what}"));
    };
    let memory = core_memory(first, pages * PAGE_SIZE);
    let _ = memory.clear(0, memory.len());
    first
}

fn mapped(frame: PhysAddr) -> NonNull<u8> {
    NonNull::new(frame.as_ptr()).unwrap_or(NonNull::dangling())
}

/// Descriptor tables and trap stacks of this CPU.
pub(super) fn bring_up_cpu(frames: &mut Frames) {
    let first = frames_for(frames, (size_of::<CpuMemory>() as u64).div_ceil(PAGE_SIZE), "the tables of a CPU");
    // SAFETY: the frames were just allocated for good and zeroed; the boot stack is not among them; interrupts are off.
    unsafe { trap::bring_up(first.as_ptr(), 0) };
}

/// Machine checks of this CPU, with those that it has from before the last reset said. After [`bring_up_cpu`], and before the
/// CPU's state is written down for exits of guests.
pub(super) fn machine_checks(of: u32) {
    if of & features::MACHINE_CHECKS == 0 {
        say(Record::NoMachineChecks);
        return;
    }
    let make = if of & features::AMD_BANKS != 0 { Make::Amd } else { Make::Intel };
    // SAFETY: ring 0; the processor has them; `bring_up_cpu` has loaded the IDT.
    let left = unsafe { trap::enable_machine_checks(make) };
    for error in &left {
        say(Record::EarlierError { error: error.said() });
    }
}

/// Switch on what stays on against side channels. Before the CPU's state is written down for exits of guests.
pub(super) fn barriers(plan: &BarrierPlan) {
    // SAFETY: ring 0; the plan is this processor's: the loader has found that it has what is asked for.
    unsafe { backend::barriers::set_up(plan.setup) };
}

/// Switch on what runs guests, or say why it cannot be. After [`bring_up_cpu`].
pub(super) fn virtualization<V: Virtualization>(record: &BootRecord, frames: &mut Frames, host_cr3: u64) -> V::Backend {
    let first = frames_for(frames, V::FRAMES, V::FRAMES_ARE);
    // SAFETY: ring 0, interrupts off; the record is this CPU's; the frames were just allocated and cleared and are never freed;
    // descriptor tables, GS and SYSCALL MSRs were set by `bring_up_cpu`, and the kernel's tables map all of the core.
    match unsafe { V::enable(record, first.as_u64(), mapped(first), host_cr3) } {
        Ok(backend) => backend,
        Err(error) => fatal(failure::VMX_FEATURE, format_args!("{error}")),
    }
}

//! This CPU: descriptor tables, and virtualization switched on.

use crate::board::features::CpuFeatures;
use crate::boot::{Failure, Refusal, fatal};
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use crate::trap::{self, CpuMemory, Make};
use abi::limits::PAGE_SIZE;
use core::ptr::NonNull;
use svm::Svm;
use vmx::Vtx;

/// Contiguous frames for this CPU, zeroed.
fn frames_for(frames: &mut Frames, pages: u64, what: &str) -> PhysAddr {
    let Some(first) = frames.alloc_contiguous(pages, 1, u64::MAX, Owner::Core) else {
        fatal(Failure::LittleMemory, format_args!("no room for {what}"));
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
pub(super) fn machine_checks(features: &CpuFeatures) {
    if !features.machine_checks {
        log::warn!(target: "core", "the processor has no machine checks: hardware that fails is not noticed");
        return;
    }
    let make = if matches!(features.vendor(), "AuthenticAMD" | "HygonGenuine") { Make::Amd } else { Make::Intel };
    // SAFETY: ring 0; the processor has them; `bring_up_cpu` has loaded the IDT.
    let left = unsafe { trap::enable_machine_checks(make) };
    for error in &left {
        log::warn!(target: "core", "a hardware error from before the start: {error}; look at the firmware's event log");
    }
}

/// Switch VT-x on, or say why it cannot be. After [`bring_up_cpu`].
pub(super) fn vtx(plan: &vmx::Plan, frames: &mut Frames, host_cr3: u64) -> Vtx {
    let frame = frames_for(frames, 1, "the VMXON region");
    // SAFETY: ring 0, interrupts off; the plan is this CPU's; the frame was just allocated and is never freed; descriptor
    // tables, GS and SYSCALL MSRs were set by `bring_up_cpu`, and the kernel's tables map all of the core.
    match unsafe { Vtx::enable(plan, frame.as_u64(), mapped(frame), host_cr3) } {
        Ok(vtx) => vtx,
        Err(error) => fatal(Failure::from(&Refusal::Vtx(error)), format_args!("{error}")),
    }
}

/// Switch SVM on. After [`bring_up_cpu`].
pub(super) fn svm(plan: &svm::Plan, frames: &mut Frames) -> Svm {
    let first = frames_for(frames, svm::HOST_FRAMES, "the permission maps of SVM");
    // SAFETY: ring 0, interrupts off; the plan is this CPU's; the frames were just allocated and are never freed; descriptor
    // tables, GS and SYSCALL MSRs were set by `bring_up_cpu`.
    unsafe { Svm::enable(plan, first.as_u64(), mapped(first)) }
}

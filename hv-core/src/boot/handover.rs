//! What the kernel is handed over: by boot, what it found; by the program for one kind of processor, a way to run guests.

use super::Spoil;
use super::vms::VmTables;
use crate::board::Hardware;
use crate::memory::{Frames, KernelSpace};
use abi::boot::BootRecord;
use backend::Backend;
use core::fmt;
use core::ptr::NonNull;

/// A way to run guests: what the program for one kind of processor brings to the core.
pub trait Virtualization {
    /// How guests run.
    type Backend: Backend<Vcpu: Spoil> + 'static;
    /// Why it cannot be switched on.
    type Error: fmt::Display;
    /// [`abi::boot::backend`].
    const KIND: u32;
    /// Frames that it takes for good.
    const FRAMES: u64;
    /// What they are, for who has none: "the VMXON region".
    const FRAMES_ARE: &'static str;

    /// Switches it on, on this CPU. The frames start at the physical address `frame`.
    ///
    /// # Errors
    /// The processor refuses, though boot found that it would not.
    ///
    /// # Safety
    /// Ring 0, interrupts off, descriptor tables, GS and SYSCALL MSRs set; the record is of this CPU; the cleared frames at `memory`
    /// are its own for good; the tables that `host_cr3` names map all of the core.
    unsafe fn enable(
        record: &BootRecord,
        frame: u64,
        memory: NonNull<u8>,
        host_cr3: u64,
    ) -> Result<Self::Backend, Self::Error>;
}

/// What the core goes on with.
pub struct Boot<'r> {
    /// The record, checked, in the loader's frames: until they are given back.
    pub record: &'r BootRecord,
    /// Every frame and its owner.
    pub frames: Frames,
    /// The core's half of every address space.
    pub kernel: KernelSpace,
    /// The core's own devices.
    pub hardware: Hardware,
    /// Room for VMs, and those that live from the start.
    pub vms: VmTables,
}

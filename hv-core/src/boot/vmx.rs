//! The core with VT-x.

use super::Virtualization;
use crate::memory::CoreImage;
use abi::boot::{BootRecord, backend};
use core::ptr::NonNull;
use vmx::{Error, Plan, Vtx};

struct Vmx;

impl Virtualization for Vmx {
    type Backend = Vtx;
    type Error = Error;
    const KIND: u32 = backend::VMX;
    const FRAMES: u64 = 1;
    const FRAMES_ARE: &'static str = "the VMXON region";

    unsafe fn enable(record: &BootRecord, frame: u64, memory: NonNull<u8>, host_cr3: u64) -> Result<Vtx, Error> {
        // SAFETY: upheld by the caller: the record's plan is this CPU's.
        unsafe { Vtx::enable(&Plan::from(&record.vmx), frame, memory, host_cr3) }
    }
}

/// Where the entry goes in the core for VT-x: `record` is what the loader left, `image` where the linker put the core.
pub fn start_vmx(record: u64, image: CoreImage) -> ! {
    super::start::<Vmx>(record, image)
}

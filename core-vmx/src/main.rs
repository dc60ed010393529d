//! The core for processors with VT-x. All but how guests are run is `hv_core`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use abi::boot::{BootRecord, backend};
    use abi::note::KIND_CORE_VMX;
    use core::ptr::NonNull;
    use hv_core::Virtualization;
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

    hv_core::main!(Vmx, KIND_CORE_VMX);
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the core runs on the bare machine only: cargo xtask run");
}

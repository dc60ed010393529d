//! The core for processors with AMD SVM. All but how guests are run is `hv_core`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use abi::boot::{BootRecord, backend};
    use abi::note::KIND_CORE_SVM;
    use core::convert::Infallible;
    use core::ptr::NonNull;
    use hv_core::Virtualization;
    use svm::{HOST_FRAMES, Plan, Svm};

    struct Nested;

    impl Virtualization for Nested {
        type Backend = Svm;
        type Error = Infallible;
        const KIND: u32 = backend::SVM;
        const FRAMES: u64 = HOST_FRAMES;
        const FRAMES_ARE: &'static str = "the permission maps of SVM";

        unsafe fn enable(record: &BootRecord, frame: u64, memory: NonNull<u8>, _: u64) -> Result<Svm, Infallible> {
            // SAFETY: upheld by the caller: the record's plan is this CPU's.
            Ok(unsafe { Svm::enable(&Plan::from(&record.svm), frame, memory) })
        }
    }

    hv_core::main!(Nested, KIND_CORE_SVM);
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the core runs on the bare machine only: cargo xtask run");
}

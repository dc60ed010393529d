//! The core with AMD SVM.

use super::Virtualization;
use crate::memory::CoreImage;
use abi::boot::{BootRecord, backend};
use core::convert::Infallible;
use core::ptr::NonNull;
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

/// Where the entry goes in the core for SVM: `record` is what the loader left, `image` where the linker put the core.
pub fn start_svm(record: u64, image: CoreImage) -> ! {
    super::start::<Nested>(record, image)
}

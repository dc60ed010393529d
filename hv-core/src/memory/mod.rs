//! Physical memory, who owns it, and the core's and the components' page tables.

mod core_memory;
pub mod frames;
#[cfg(test)]
mod frames_test;
pub mod map;
pub mod paging;
#[cfg(test)]
mod paging_test;
pub mod phys;
pub mod tables;

pub use core_memory::{core_memory, core_slice};
pub use frames::{CLASSES, Frames, Owner, OwnerClass};
pub use paging::{AddressSpace, KernelSpace, WxReport};
pub use phys::{PhysAddr, copy_frame};
pub use tables::{MapError, MapFlags};

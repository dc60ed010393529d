//! Physical memory, who owns it, and the core's and the components' page tables.

pub mod frames;
#[cfg(test)]
mod frames_test;
pub mod map;
pub mod paging;
#[cfg(test)]
mod paging_test;
pub mod phys;
pub mod tables;

pub use frames::{Frames, Owner, OwnerClass};
pub use paging::{AddressSpace, KernelSpace, WxReport, audit_wx};
pub use phys::PhysAddr;
pub use tables::{MapError, MapFlags};

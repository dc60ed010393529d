//! Physical memory, who owns it, and page tables.

mod core_image;
mod core_memory;
pub mod frames;
#[cfg(test)]
mod frames_all_test;
#[cfg(feature = "fuzzing")]
pub mod frames_fuzz;
#[cfg(test)]
mod frames_test;
pub mod paging;
#[cfg(test)]
mod paging_test;
pub mod phys;
mod reservation;
pub mod tables;

pub use core_image::CoreImage;
pub use core_memory::{core_memory, core_room, core_slice, core_slice_below};
pub use frames::{CLASSES, Frames, Owner, OwnerClass};
pub use paging::{AddressSpace, KernelSpace};
pub use phys::{PhysAddr, copy_frame};
pub use reservation::{Denied, Reservation};
pub use tables::{MapError, MapFlags};

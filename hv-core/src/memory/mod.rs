//! Physical memory, who owns it, and the core's and the components' page tables.

mod core_memory;
pub mod frames;
#[cfg(feature = "fuzzing")]
pub mod frames_fuzz;
#[cfg(test)]
mod frames_test;
pub mod map;
pub mod paging;
#[cfg(test)]
mod paging_test;
pub mod phys;
mod reservation;
pub mod tables;

pub use core_memory::{core_memory, core_slice};
pub use frames::{CLASSES, Frames, Owner, OwnerClass};
#[cfg(feature = "fuzzing")]
pub use map::LOW_MEMORY_END;
#[cfg(feature = "fuzzing")]
pub use paging::Piece;
pub use paging::{AddressSpace, KernelSpace, WxReport};
pub use phys::{PhysAddr, copy_frame};
pub use reservation::{Denied, Reservation};
pub use tables::{MapError, MapFlags};

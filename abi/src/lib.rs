//! Every type, number and address that crosses a protection boundary of Foraker, and nothing else.
//!
//! The core, the components, the guests and the build tool all take these definitions from here; nobody else defines a
//! number. `tripwires.rs` holds a second copy of what must not change by accident.
#![no_std]
#![forbid(unsafe_code)]

pub mod addresses;
pub mod attachment;
pub mod barriers;
pub mod boot;
pub mod charges;
pub mod claim;
pub mod component;
pub mod control;
pub mod disk;
pub mod disk_service;
pub mod end;
pub mod flow;
pub mod guest;
pub mod guest_control;
pub mod guest_disk;
pub mod image;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod message;
pub mod net;
pub mod nic;
pub mod note;
#[cfg(any(test, feature = "beyond-core"))]
pub mod options;
pub mod pager;
pub mod pci;
pub mod quota;
pub mod record;
pub mod request_page;
pub mod ring;
pub mod sched;
pub mod service;
pub mod share;
pub mod swap;
#[cfg(any(test, feature = "beyond-core"))]
pub mod swap_disk;
pub mod tenant;
pub mod terms;
#[cfg(test)]
mod tripwires;
pub mod vcpu;
pub mod vm;
#[cfg(any(test, feature = "beyond-core"))]
pub mod words;

/// Version of everything in this crate. A component or guest that was built against another one is refused at boot.
pub const ABI_VERSION: u32 = 2;

//! The virtual architecture as the rest of Ilwaco sees it: hypercalls, the TSC, and the pages shared with the machine.
//!
//! On the bare machine these are instructions and fixed addresses; on the host, a simulated machine for tests.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
pub(crate) mod host;

#[cfg(target_os = "none")]
pub(crate) use bare::{control, disk, exit, give_back, idle, kick, nic, registers, set_registers, take, tsc};
#[cfg(not(target_os = "none"))]
pub(crate) use host::control::memory as control;
#[cfg(not(target_os = "none"))]
pub(crate) use host::disk::memory as disk;
#[cfg(not(target_os = "none"))]
pub(crate) use host::pages::{nic, registers};
#[cfg(not(target_os = "none"))]
pub(crate) use host::{exit, has_memory, has_pages, idle, kick, tsc};

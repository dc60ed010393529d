//! The virtual architecture as the rest of Ilwaco sees it: hypercalls, the TSC, and the pages shared with the machine.
//!
//! On the bare machine these are instructions and fixed addresses; on the host, a simulated machine for tests.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(not(target_os = "none"))]
mod host_control;
#[cfg(not(target_os = "none"))]
mod host_disk;

#[cfg(target_os = "none")]
pub(crate) use bare::{
    control, disk, exit, idle, kick, nic, registers, return_memory, secure_working_memory, set_registers, take, tsc,
};
#[cfg(not(target_os = "none"))]
pub use host::{Sim, SimEvent};
#[cfg(not(target_os = "none"))]
pub(crate) use host::{exit, has_memory, idle, kick, nic, registers, return_memory, secure_working_memory, tsc};
#[cfg(not(target_os = "none"))]
pub(crate) use host_control::control;
#[cfg(not(target_os = "none"))]
pub(crate) use host_disk::disk;

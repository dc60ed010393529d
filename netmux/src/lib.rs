//! The network demultiplexer: which frame goes to which VM, and which frame of a VM may leave it.
//!
//! `docs/network.md` explains the whole. This library holds the policy and the drivers as safe code that runs on any host;
//! the program `netmux` ties it to rings, registers and system calls.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod addresses;
mod audience;
mod demux;
#[cfg(test)]
mod demux_policy_tests;
pub mod dhcp;
mod directory;
mod doors;
pub mod drivers;
pub mod egress;
pub mod frame;
mod holdings;
pub mod ingress;
mod leases;
pub mod load;
mod neighbours;
pub mod policy;
mod ports;
mod refusals;
mod run;
pub mod segments;
#[cfg(test)]
mod test_frames;
#[cfg(test)]
mod test_machine;
mod totals;

pub use addresses::Addresses;
pub use component;
pub use demux::{Called, Demux, Host, Newcomer, Pace};
pub use directory::{Directory, Resident};
pub use doors::Doors;
pub use holdings::{Fill, Holdings};
pub use leases::Leases;
pub use ports::{Port, Ports};
pub use run::{run, tables};
pub use totals::Totals;

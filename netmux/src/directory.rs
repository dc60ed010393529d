//! What routing has to know about the VMs.

use crate::frame::Mac;
use abi::vm::Seat;

/// Answers about the VMs that are attached.
pub trait Directory {
    /// The seat of the attached VM that has this MAC address.
    fn resident(&self, mac: Mac) -> Option<Seat>;

    /// The seat of the attached VM that listens to this solicited-node group.
    fn solicited(&self, group: Mac) -> Option<Seat>;

    /// The seat of the attached VM that has this IPv4 address.
    fn owner(&self, ipv4: u32) -> Option<Seat>;

    /// The IPv4 address of the VM in this seat; 0 while it has none.
    fn address(&self, seat: Seat) -> u32;

    /// True when the VM in this seat gets its address from DHCP, so that answers to it are read along.
    fn learns(&self, seat: Seat) -> bool;
}

//! What routing has to know about the VMs.

use crate::frame::Mac;
use abi::vm::Seat;

/// A VM that is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its seat.
    pub seat: Seat,
    /// Its IPv4 address; 0 while it has none.
    pub ipv4: u32,
    /// It gets its address from DHCP, so that answers to it are read along.
    pub learns: bool,
}

/// Answers about the VMs that are attached.
pub trait Directory {
    /// The VM that has this MAC address.
    fn resident(&self, mac: Mac) -> Option<Resident>;

    /// The seat of the VM that listens to this solicited-node group.
    fn solicited(&self, group: Mac) -> Option<Seat>;

    /// The seat of the VM that has this IPv4 address.
    fn owner(&self, ipv4: u32) -> Option<Seat>;
}

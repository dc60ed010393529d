//! How VMs come by their IPv4 addresses.

use crate::vm::Slot;

/// How the VMs of a machine come by their IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Each asks by DHCP.
    Dhcp,
    /// VM `i` gets `address + i`; numbers in host byte order.
    Static {
        /// Address of VM 0.
        address: u32,
        /// Bits of the network prefix.
        prefix: u8,
        /// The router.
        gateway: Option<u32>,
    },
}

impl Net {
    /// The address of the VM in a slot, 0 when it asks DHCP.
    #[must_use]
    pub const fn address_of(&self, slot: Slot) -> u32 {
        match self {
            Net::Static { address, .. } => address.wrapping_add(slot.number()),
            Net::Dhcp => 0,
        }
    }
}

//! What routing has to know about the VMs.

/// Answers about the VMs that are attached.
pub trait Directory {
    /// True while a VM is attached in this slot.
    fn attached(&self, slot: u16) -> bool;

    /// The slot of the attached VM that has this IPv4 address.
    fn owner(&self, ipv4: u32) -> Option<u16>;

    /// True when the VM in this slot gets its address from DHCP, so that answers to it are read along.
    fn learns(&self, slot: u16) -> bool;
}

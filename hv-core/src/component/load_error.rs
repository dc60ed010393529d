//! Why a component cannot be made: the record that boot left cannot be what the machine has.

use abi::limits::Name;
use abi::service::Service;

/// Why a component cannot be made.
#[derive(Clone, Copy, Debug)]
pub enum LoadError {
    /// There is no device of this PCI class, which a component drives.
    Device(u32),
    /// There are not enough frames for the component, or the ring, of this name.
    Memory(Name),
    /// The rings of a component for this service are no pair.
    Pair(Service),
}

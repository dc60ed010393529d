//! How VMs and images are named outside themselves.

use core::fmt;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A place for a VM, below the machine's number of slots ([`crate::limits::MAX_SLOTS`] at most).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// The slot of this number.
    pub const fn new(number: u32) -> Self {
        Slot(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its number, for tables with an entry for each slot.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an admitted VM, below the machine's number of seats ([`crate::limits::MAX_SEATS`] at most): what components index
/// their tables by. A VM has one from its admission until its frames are freed.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(u16);

impl Seat {
    /// The seat of this number.
    pub const fn new(number: u16) -> Self {
        Seat(number)
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its number, for tables with an entry for each seat.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A VM: a slot, and which of the VMs that have used it. Messages that arrive late name a VM that is gone, not its successor.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId {
    /// The slot.
    pub slot: Slot,
    /// Counts the VMs that have lived in the slot; never 0 for a VM that has lived.
    pub generation: u32,
}

impl VmId {
    /// The VM of this generation in the slot of this number.
    pub const fn new(slot: u32, generation: u32) -> Self {
        VmId { slot: Slot(slot), generation }
    }

    /// As one number: generation in bits 63..32, slot in bits 31..0.
    pub const fn raw(self) -> u64 {
        // Widening only; `u64::from` is not const.
        #[allow(clippy::cast_lossless)]
        {
            (self.generation as u64) << 32 | self.slot.0 as u64
        }
    }

    /// The inverse of [`VmId::raw`].
    pub const fn from_raw(raw: u64) -> Self {
        // Both halves are meant to be cut out.
        #[allow(clippy::cast_possible_truncation)]
        VmId { slot: Slot(raw as u32), generation: (raw >> 32) as u32 }
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm{}.{}", self.slot, self.generation)
    }
}

impl fmt::Debug for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What VMs are created from: an image, by its place in the manifest.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, Immutable, KnownLayout)]
pub struct ImageId(u32);

impl ImageId {
    /// The image of this number.
    pub const fn new(number: u32) -> Self {
        ImageId(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its number, for tables with an entry for each image.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::VmId;

    #[test]
    fn a_name_is_one_word() {
        let vm = VmId::new(0x0012_3456, 0x89ab_cdef);
        assert_eq!(vm.raw(), 0x89ab_cdef_0012_3456);
        assert_eq!(VmId::from_raw(vm.raw()), vm);
    }
}

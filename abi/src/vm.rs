//! How a VM is named outside itself.

/// A VM slot and which of the VMs that have used it: messages that arrive late name a VM that is gone, not its successor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId {
    /// The slot, below the machine's number of slots.
    pub index: u16,
    /// Counts the VMs that have lived in the slot; never 0 for a VM that has lived.
    pub incarnation: u16,
}

impl VmId {
    /// As one number: incarnation in bits 31..16, index in bits 15..0.
    pub const fn raw(self) -> u32 {
        // Widening only; `u32::from` is not const.
        #[allow(clippy::cast_lossless)]
        {
            (self.incarnation as u32) << 16 | self.index as u32
        }
    }

    /// The inverse of [`VmId::raw`].
    pub const fn from_raw(raw: u32) -> Self {
        // Both halves are meant to be cut out.
        #[allow(clippy::cast_possible_truncation)]
        VmId { index: raw as u16, incarnation: (raw >> 16) as u16 }
    }
}

impl core::fmt::Display for VmId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "vm{}.{}", self.index, self.incarnation)
    }
}

impl core::fmt::Debug for VmId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self}")
    }
}

//! The VMs that the boot options ask for and that have still to come to live.

use abi::vm::Slot;

/// Slots whose VMs have still to come to live, in order.
pub struct Requested {
    next: u32,
    end: u32,
}

impl Requested {
    /// Those from slot 0 on.
    pub fn new(slots: u32) -> Self {
        Requested { next: 0, end: slots }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// The next one, which is taken out.
    pub fn take(&mut self) -> Option<Slot> {
        let slot = (!self.is_empty()).then(|| Slot::new(self.next))?;
        self.next += 1;
        Some(slot)
    }
}

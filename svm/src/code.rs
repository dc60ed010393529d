//! Where a guest's VMCALLs were found. VMCALL raises #UD on this maker's CPUs, and an exit for #UD does not say what the
//! instruction was; walking the guest's page tables each time would cost more than everything else.
//!
//! A place that is remembered is only a shortcut to the bytes: they are read anew each time. It can be out of date only
//! with respect to the guest's own page tables, as a TLB can, and what a guest gets wrong in that way is its own affair.

use crate::instruction::VMCALL;
use core::ptr::{self, NonNull};

/// Places that are remembered. A power of two.
const PLACES: usize = 8;

/// One place.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    /// [`NOWHERE`] for none.
    rip: u64,
    cr3: u64,
    /// Four bytes, of which the first three count.
    bytes: *const u8,
}

/// Not a linear address, so no instruction is there.
const NOWHERE: u64 = 1 << 63;
const NONE: Place = Place { rip: NOWHERE, cr3: 0, bytes: ptr::null() };

/// The places of one guest.
pub(crate) struct Code([Place; PLACES]);

fn index(rip: u64) -> usize {
    // Masked to a few bits.
    #[allow(clippy::cast_possible_truncation)]
    {
        rip as usize & (PLACES - 1)
    }
}

impl Code {
    /// Forget all places.
    pub(crate) fn clear(&mut self) {
        self.0 = [NONE; PLACES];
    }

    /// Remember that the instruction at `rip` is at `bytes`.
    ///
    /// # Safety
    /// Four bytes can be read there until `clear`.
    pub(crate) unsafe fn remember(&mut self, rip: u64, cr3: u64, bytes: NonNull<u8>) {
        self.0[index(rip)] = Place { rip, cr3, bytes: bytes.as_ptr() };
    }

    /// Whether the instruction at `rip` is known to be VMCALL.
    ///
    /// # Safety
    /// `clear` has been called, and `rip` is canonical.
    #[inline(always)]
    pub(crate) unsafe fn is_vmcall(&self, rip: u64, cr3: u64) -> bool {
        let place = &self.0[index(rip)];
        if place.rip != rip || place.cr3 != cr3 {
            return false;
        }
        // SAFETY: the place is one that was remembered, since its RIP is canonical. `remember`'s contract; the guest does not run, so nobody writes there.
        let bytes = unsafe { place.bytes.cast::<u32>().read_unaligned() };
        bytes & 0xff_ffff == u32::from_le_bytes([VMCALL[0], VMCALL[1], VMCALL[2], 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_count_not_the_memory_of_them() {
        let mut code = Code([NONE; PLACES]);
        let bytes = [0x0f_u8, 0x01, 0xc1, 0x90];
        let others = [0x0f_u8, 0x0b, 0xc1, 0x90];
        // SAFETY: here and below: there is no place but those that are remembered, and the addresses are canonical.
        let known = |code: &Code, rip, cr3| unsafe { code.is_vmcall(rip, cr3) };
        assert!(!known(&code, 0, 0));
        // SAFETY: both arrays live to the end of this function.
        unsafe {
            code.remember(0x2_0000, 0x1000, NonNull::from(&bytes).cast());
            code.remember(0x2_0001, 0x1000, NonNull::from(&others).cast());
        }
        assert!(known(&code, 0x2_0000, 0x1000));
        assert!(!known(&code, 0x2_0000, 0x3000), "other page tables");
        assert!(!known(&code, 0x2_0001, 0x1000), "no VMCALL there now");
        code.clear();
        assert!(!known(&code, 0x2_0000, 0x1000));
    }
}

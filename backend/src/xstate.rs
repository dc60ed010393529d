//! The state that stays in the registers when a guest exits: x87, SSE, AVX, AVX-512.
//!
//! The core and the components use none of it, so it is exchanged only when another guest runs (eagerly then: there is
//! no #NM to wait for).

use abi::vcpu::MXCSR_INITIAL;
use core::arch::asm;

/// Bytes of an XSAVE area in the standard format with everything up to AVX-512 (SDM vol. 1, 13.4 and 13.5).
pub const AREA_BYTES: u32 = 2688;
/// Offset of MXCSR in the area.
const MXCSR: usize = 24;
/// Offset of the header in the area.
const HEADER: usize = 512;

/// Such state in memory. All zeros is a valid value; [`State::reset`] before it is loaded.
#[repr(C, align(64))]
pub struct State(pub(crate) [u8; AREA_BYTES as usize]);

impl State {
    /// What a guest starts with.
    pub fn reset(&mut self) {
        // XRSTOR initialises whatever the header says is not in the area, but takes MXCSR from it all the same.
        self.0[..HEADER + 64].fill(0);
        self.0[MXCSR..MXCSR + 4].copy_from_slice(&MXCSR_INITIAL.to_le_bytes());
    }

    /// Save the registers to `this`.
    ///
    /// # Safety
    /// Ring 0; CR4.OSXSAVE is set, CR0.TS and CR0.EM are not; `this` is valid and nobody else's; `optimized` only where
    /// there is XSAVEOPT.
    pub unsafe fn save(this: *mut State, optimized: bool) {
        // SAFETY: the caller vouches for `this`, which is aligned to 64 bytes by its type and as large as XCR0 needs
        // (`xcr0::choose`). XSAVEOPT leaves out what is in its initial state or unchanged since it was loaded from there, but
        // never MXCSR, which XRSTOR takes from the area even when the header says that SSE is not in it.
        unsafe {
            let area = &raw mut (*this).0;
            if optimized {
                asm!("xsaveopt64 [{}]", in(reg) area,
                    in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
            } else {
                asm!("xsave64 [{}]", in(reg) area,
                    in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
            }
        }
    }

    /// Have the x87's pointers to its last instruction and operand point into the core, where [`State::load`] leaves them as they
    /// are: else they would tell a guest where another one was (CVE-2013-2076, XSA-52).
    ///
    /// # Safety
    /// As [`State::load`], which has to come next: the x87's other registers are changed.
    pub unsafe fn forget_pointers() {
        static ZERO: u32 = 0;
        // SAFETY: by this function's contract. No exception can be pending behind FNCLEX, and EMMS empties the stack for the load.
        unsafe {
            asm!("fnclex", "emms", "fild dword ptr [{}]", in(reg) &raw const ZERO, options(nostack, readonly, preserves_flags));
        }
    }

    /// Load the registers.
    ///
    /// # Safety
    /// Ring 0; CR4.OSXSAVE is set, CR0.TS and CR0.EM are not; the state was made by `reset`, `save` or `import`.
    pub unsafe fn load(&self) {
        // SAFETY: the area is well formed because only `reset`, XSAVE and `import` write it, of which the last takes what `Layout::check` has passed.
        unsafe {
            asm!("xrstor64 [{0}]", in(reg) &raw const self.0,
                in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, readonly, preserves_flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_state_is_what_xrstor_takes() {
        let mut state = State([0xff; AREA_BYTES as usize]);
        state.reset();
        assert_eq!(state.0[MXCSR..MXCSR + 4], [0x80, 0x1f, 0, 0]);
        assert!(state.0[HEADER..HEADER + 64].iter().all(|&byte| byte == 0), "no component, standard format");
    }
}

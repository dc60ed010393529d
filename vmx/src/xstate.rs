//! The state that stays in the registers when a guest exits: what XSAVE knows, and IA32_KERNEL_GS_BASE.
//!
//! IA32_KERNEL_GS_BASE is in this set because no control makes SWAPGS exit: a guest can write it. Root mode must not
//! believe what it finds there.

use backend::{Layout, VcpuState};
use x86::msr;

/// Such state in memory. All zeros is a valid value; [`State::reset`] before it is loaded.
#[repr(C, align(64))]
pub struct State {
    area: backend::xstate::State,
    kernel_gs_base: u64,
}

impl State {
    /// What a guest starts with.
    pub fn reset(&mut self) {
        self.area.reset();
        self.kernel_gs_base = 0;
    }

    /// Put what is saved here into a [`VcpuState`].
    pub fn export(&self, layout: &Layout, to: &mut VcpuState) {
        self.area.export(layout, to);
        to.kernel_gs_base = self.kernel_gs_base;
    }

    /// Have [`State::load`] load a state that passed [`Layout::check`].
    pub fn import(&mut self, layout: &Layout, from: &VcpuState) {
        self.area.import(layout, from);
        self.kernel_gs_base = from.kernel_gs_base;
    }

    /// Save the registers to `this`. What is in IA32_KERNEL_GS_BASE.
    ///
    /// # Safety
    /// As [`backend::xstate::State::save`].
    pub unsafe fn save(this: *mut State, optimized: bool) -> u64 {
        // SAFETY: upheld by the caller; the MSR exists on every 64-bit CPU.
        unsafe {
            backend::xstate::State::save(&raw mut (*this).area, optimized);
            let base = msr::rdmsr(msr::IA32_KERNEL_GSBASE);
            (*this).kernel_gs_base = base;
            base
        }
    }

    /// Load the registers, in which IA32_KERNEL_GS_BASE is `base`, if that is known: most guests have the same there, and to write it is slow.
    ///
    /// # Safety
    /// As [`backend::xstate::State::load`].
    pub unsafe fn load(&self, base: Option<u64>) {
        // SAFETY: upheld by the caller. The base is canonical because it comes from RDMSR, was checked, or is 0.
        unsafe {
            self.area.load();
            if base != Some(self.kernel_gs_base) {
                msr::wrmsr(msr::IA32_KERNEL_GSBASE, self.kernel_gs_base);
            }
        }
    }
}

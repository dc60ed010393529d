//! The control register bits that the core runs with.

use abi::boot::features;
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};

/// Sets the control register bits that the core runs with: write protection in ring 0, global pages, XSAVE, and as far as
/// there are RDFSBASE, SMEP, UMIP and PCID. CR3 holds PCID 0 at this time. SMAP stays off: the core reads components' and
/// guests' memory through the direct map, so it would guard nothing and cost instructions.
///
/// # Safety
/// Called once per CPU at boot, with the final page tables loaded and nothing executing from user pages.
pub unsafe fn set_control_registers(of: u32) {
    let has = |feature: u32| of & feature != 0;
    // SAFETY: each bit that is set is supported, and by this function's contract nothing relies on its being clear.
    unsafe {
        cr0_write(
            (cr0() | Cr0::CR0_WRITE_PROTECT | Cr0::CR0_NUMERIC_ERROR | Cr0::CR0_MONITOR_COPROCESSOR)
                - Cr0::CR0_EMULATE_COPROCESSOR,
        );
        let mut value = cr4() | Cr4::CR4_ENABLE_GLOBAL_PAGES | Cr4::CR4_ENABLE_SSE | Cr4::CR4_UNMASKED_SSE;
        for (present, bit) in [
            (has(features::XSAVE), Cr4::CR4_ENABLE_OS_XSAVE),
            (has(features::FSGSBASE), Cr4::CR4_ENABLE_FSGSBASE),
            (has(features::SMEP), Cr4::CR4_ENABLE_SMEP),
            (has(features::UMIP), Cr4::CR4_ENABLE_UMIP),
            (has(features::PCID), Cr4::CR4_ENABLE_PCID),
        ] {
            if present {
                value |= bit;
            }
        }
        cr4_write(value);
    }
}

//! The instructions of barriers ([`abi::barriers`]), which both makes' processors share.
//!
//! Which processor needs and has which is decided before; here they are executed. Sources: Intel's "Speculative Execution Side Channel
//! Mitigations" and the pages of its "Software Security Guidance" on BHI, MDS, L1TF and post-barrier RSB; AMD's "Software Techniques for Managing
//! Speculation on AMD Processors", "Technical Guidance for Mitigating Branch Type Confusion", and its bulletin 7029 on TSA.

use abi::barriers::{Barriers, setup};
use core::arch::asm;

/// MSRs (SDM vol. 4, table 2-2; APM vol. 2, A.1).
const IA32_SPEC_CTRL: u32 = 0x48;
const IA32_PRED_CMD: u32 = 0x49;
const IA32_FLUSH_CMD: u32 = 0x10b;
const EFER: u32 = 0xc000_0080;
/// As Linux has it (`MSR_ZEN4_BP_CFG`).
const BP_CFG: u32 = 0xc001_102e;
/// Bits of IA32_SPEC_CTRL.
const SPEC_CTRL_IBRS: u64 = 1;
const SPEC_CTRL_BHI_DIS_S: u64 = 0x400;
/// Bit of EFER (APM vol. 2, 3.1.7).
const EFER_AIBRSE: u64 = 0x20_0000;
/// Bit of BP_CFG.
const BP_SPEC_REDUCE: u64 = 0x10;

/// The barriers of a guest's exit, for assembly that has not returned yet: on the core's stack, with the set in R8D. Changes RAX, RCX, RDX
/// and flags, uses 256 bytes of stack, and makes no return and no indirect branch.
///
/// LFENCE at the end also for an empty set: a branch above that was predicted wrongly must not lead past it.
#[macro_export]
macro_rules! barriers_at_exit {
    () => {
        concat!(
            // Indirect branch prediction barrier: IA32_PRED_CMD bit 0.
            "test r8d, 1\n",
            "jz 61f\n",
            "mov ecx, 0x49\n",
            "mov eax, 1\n",
            "xor edx, edx\n",
            "wrmsr\n",
            "61:\n",
            // IA32_SPEC_CTRL.IBRS, which counts from when it is written.
            "test r8d, 4\n",
            "jz 62f\n",
            "mov ecx, 0x48\n",
            "mov eax, 1\n",
            "xor edx, edx\n",
            "wrmsr\n",
            "62:\n",
            // 32 entries of the return stack buffer; whoever returns by one of them runs into INT3.
            "test r8d, 2\n",
            "jz 65f\n",
            "mov ecx, 16\n",
            "63:\n",
            "call 64f\n",
            "int3\n",
            "64:\n",
            "call 66f\n",
            "int3\n",
            "66:\n",
            "dec ecx\n",
            "jnz 63b\n",
            "add rsp, 256\n",
            "65:\n",
            // One call, behind which the guest's entry is not used any more.
            "test r8d, 16\n",
            "jz 68f\n",
            "call 67f\n",
            "int3\n",
            "67:\n",
            "add rsp, 8\n",
            "68:\n",
            // Taken branches, more than any history of a processor that needs this: two in each of 128 rounds (the longest is 194).
            "test r8d, 8\n",
            "jz 71f\n",
            "mov ecx, 128\n",
            "69:\n",
            "jmp 70f\n",
            "int3\n",
            "70:\n",
            "dec ecx\n",
            "jnz 69b\n",
            "71:\n",
            "lfence\n",
        )
    };
}

// The numbers above.
const _: () = {
    assert!(Barriers::IBPB.raw() == 1 && Barriers::RSB.raw() == 2 && Barriers::IBRS.raw() == 4);
    assert!(Barriers::BHB.raw() == 8 && Barriers::CALL.raw() == 16);
    assert!(Barriers::AT_EXIT.raw() == 31);
};

/// # Safety
/// The processor has the MSR, and the value changes nothing that the core relies on.
unsafe fn wrmsr(number: u32, value: u64) {
    // The halves of the value.
    #[allow(clippy::cast_possible_truncation)]
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: by this function's contract.
    unsafe { asm!("wrmsr", in("ecx") number, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// # Safety
/// The processor has the MSR.
unsafe fn rdmsr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: by this function's contract.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Execute the barriers of an entry or before a component goes on: IBPB, RSB, L1D and VERW, in this order.
///
/// # Safety
/// Ring 0, with a stack; the processor has what is asked for.
#[cold]
#[inline(never)]
pub unsafe fn execute(barriers: Barriers) {
    if barriers.contains(Barriers::IBPB) {
        // SAFETY: upheld by the caller; it only forgets predictions.
        unsafe { wrmsr(IA32_PRED_CMD, 1) };
    }
    if barriers.contains(Barriers::RSB) {
        // SAFETY: each call pushes eight bytes and jumps over a trap; all of them are dropped again. The stack has no red zone (the core is built
        // for a target without one).
        unsafe {
            asm!(
                "2:",
                "call 3f",
                "int3",
                "3:",
                "call 4f",
                "int3",
                "4:",
                "dec {count:e}",
                "jnz 2b",
                "add rsp, 256",
                "lfence",
                count = inout(reg) 16_u64 => _,
            );
        }
    }
    if barriers.contains(Barriers::L1D) {
        // SAFETY: upheld by the caller; caches are emptied, memory stays as it is.
        unsafe { wrmsr(IA32_FLUSH_CMD, 1) };
    }
    // Last: between it and the guest the core handles what is the guest's, and its own addresses.
    if barriers.contains(Barriers::VERW) {
        let mut selector = 0_u16;
        // SAFETY: VERW changes ZF only; it takes a writable data segment, which SS is, from memory: only that form empties the buffers.
        unsafe {
            asm!(
                "mov word ptr [{selector}], ss",
                "verw word ptr [{selector}]",
                selector = in(reg) &raw mut selector,
                options(nostack),
            );
        }
    }
}

/// Switch on what stays on ([`abi::barriers::setup`]).
///
/// # Safety
/// Ring 0; the processor has what is asked for.
pub unsafe fn set_up(what: u32) {
    let mut control = 0;
    if what & setup::ENHANCED_IBRS != 0 {
        control |= SPEC_CTRL_IBRS;
    }
    if what & setup::BHI_DIS_S != 0 {
        control |= SPEC_CTRL_BHI_DIS_S;
    }
    // SAFETY: upheld by the caller; both only limit predictions.
    unsafe {
        if control != 0 {
            // What the firmware has set stays.
            wrmsr(IA32_SPEC_CTRL, rdmsr(IA32_SPEC_CTRL) | control);
        }
        if what & setup::AUTOMATIC_IBRS != 0 {
            wrmsr(EFER, rdmsr(EFER) | EFER_AIBRSE);
        }
        if what & setup::BP_SPEC_REDUCE != 0 {
            wrmsr(BP_CFG, rdmsr(BP_CFG) | BP_SPEC_REDUCE);
        }
    }
}

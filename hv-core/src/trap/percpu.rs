//! Bringing a CPU into its per-CPU state, and letting interrupts in.

use super::descriptors::{self, GDT_ENTRIES, TaskState};
use super::idt::{self, Idt};
use super::layout::{GS_IDLE_VECTOR, NMI_COUNT, PerCpu};
use core::sync::atomic::Ordering;

/// Bytes of the stack on which a trap from ring 3 lands; the stub leaves it at once.
const TRAP_STACK: usize = 512;
/// Bytes of each stack for NMI, double fault and machine check: each may end in a fatal message. `cargo xtask size` says what they take.
const IST_STACK: usize = 16 << 10;

// Says it to the check of stacks: the symbol takes no memory.
core::arch::global_asm!(".global trap_exception_stack_bytes", ".set trap_exception_stack_bytes, {}", const IST_STACK);

/// The memory that one CPU's tables and stacks take; zeroed, page-aligned, never freed.
#[repr(C, align(4096))]
pub struct CpuMemory {
    idt: Idt,
    ist: [[u8; IST_STACK]; 3],
    trap_stack: [u8; TRAP_STACK],
    cpu: PerCpu,
}

/// NMIs since boot.
pub fn nmi_count() -> u64 {
    NMI_COUNT.load(Ordering::Relaxed)
}

/// Load the descriptor tables of this CPU, set the SYSCALL MSRs and GS. Called once per CPU with interrupts off.
///
/// # Safety
/// `memory` points to zeroed memory that is mapped writable for good and used by nothing else; the caller runs at CPL 0
/// on a stack that is not part of it.
pub unsafe fn bring_up(memory: *mut CpuMemory, index: u32) {
    use x86::msr;
    // SAFETY: the caller gives exclusive, zeroed, permanent memory; zero is a valid value of every field.
    let memory = unsafe { &mut *memory };
    let top = |stack: *const u8, bytes: usize| (stack as u64 + bytes as u64) & !15;
    let ist = [
        top(memory.ist[0].as_ptr(), IST_STACK),
        top(memory.ist[1].as_ptr(), IST_STACK),
        top(memory.ist[2].as_ptr(), IST_STACK),
        0,
        0,
        0,
        0,
    ];
    let cpu = &mut memory.cpu;
    cpu.index = index;
    cpu.own_address = core::ptr::from_ref::<PerCpu>(cpu) as u64;
    cpu.tss = TaskState::new(top(memory.trap_stack.as_ptr(), TRAP_STACK), ist);
    cpu.gdt = descriptors::gdt(core::ptr::from_ref(&cpu.tss) as u64);
    idt::fill(&mut memory.idt);

    let gdt = x86::dtables::DescriptorTablePointer { limit: limit_of::<[u64; GDT_ENTRIES]>(), base: cpu.gdt.as_ptr() };
    let idt = x86::dtables::DescriptorTablePointer {
        limit: limit_of::<Idt>(),
        base: core::ptr::from_ref(&memory.idt).cast::<u64>(),
    };
    // SAFETY: both tables are complete and permanent, and the GDT holds the selectors that are loaded from it. The far
    // return reloads CS with the same flat segment. GS is not used before its base is written.
    unsafe {
        x86::dtables::lgdt(&gdt);
        x86::dtables::lidt(&idt);
        core::arch::asm!(
            "push {code}", "lea {tmp}, [rip + 2f]", "push {tmp}", "retfq", "2:",
            "mov ss, {data:x}", "mov ds, {data:x}", "mov es, {data:x}", "mov fs, {zero:x}", "mov gs, {zero:x}",
            "ltr {tss:x}",
            code = in(reg) u64::from(descriptors::CORE_CODE),
            data = in(reg) descriptors::CORE_DATA,
            zero = in(reg) 0_u16,
            tss = in(reg) descriptors::TSS,
            tmp = out(reg) _,
        );
        msr::wrmsr(msr::IA32_GS_BASE, cpu.own_address);
        msr::wrmsr(msr::IA32_KERNEL_GSBASE, 0);
        msr::wrmsr(msr::IA32_EFER, msr::rdmsr(msr::IA32_EFER) | 1);
        // SYSCALL loads CS from bits 47:32 and SS from the next entry; SYSRET loads SS from bits 63:48 plus 8 and CS from
        // plus 16 (SDM vol. 2, SYSCALL and SYSRET).
        let star = u64::from(descriptors::CORE_DATA | 3) << 48 | u64::from(descriptors::CORE_CODE) << 32;
        msr::wrmsr(msr::IA32_STAR, star);
        msr::wrmsr(msr::IA32_LSTAR, super::user::syscall_entry_address());
        // TF, IF, DF, NT and AC are cleared on entry.
        msr::wrmsr(msr::IA32_FMASK, 0x4_4700);
    }
}

/// Limit of a descriptor table of type `T`.
const fn limit_of<T>() -> u16 {
    const { assert!(size_of::<T>() <= 0x1_0000) };
    // Asserted to fit.
    #[allow(clippy::cast_possible_truncation)]
    {
        (size_of::<T>() - 1) as u16
    }
}

/// Wait for an interrupt and return its vector; `None` when the CPU woke without one.
pub fn idle() -> Option<u8> {
    // SAFETY: GS was set by `bring_up`. The stub for an interrupt at CPL 0 stores the vector through GS, clears IF in the frame
    // and returns to where it came from, which is between STI and CLI.
    let vector = unsafe { idt::trap_idle() };
    u8::try_from(vector).ok().filter(|&vector| vector != 0)
}

/// Take an interrupt that waits and return its vector; `None` when there is none.
#[inline]
pub fn take_interrupt() -> Option<u8> {
    let vector: u64;
    // SAFETY: interrupts are taken only between STI and CLI, one that waits behind the instruction that follows STI. The stub
    // for an interrupt at CPL 0 stores the vector through GS, clears IF in the frame and returns here. The stack below RSP is
    // free (no red zone on this target).
    unsafe {
        core::arch::asm!(
            "mov qword ptr gs:[{at}], 0",
            "sti",
            "nop",
            "cli",
            "mov {vector}, gs:[{at}]",
            at = const GS_IDLE_VECTOR,
            vector = out(reg) vector,
        );
    }
    u8::try_from(vector).ok().filter(|&vector| vector != 0)
}

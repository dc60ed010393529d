//! Into ring 3 and back: `enter` looks like a call that returns when the component traps.

use super::descriptors::{USER_CODE, USER_DATA};
use super::layout::{
    CTX_RFLAGS, CTX_RIP, CTX_RSP, CTX_VECTOR, GS_CONTEXT, GS_CORE_RSP, GS_SCRATCH, UserContext, VECTOR_SYSCALL,
};

/// Why a component stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// System call: number in RAX, arguments in RDI, RSI, RDX.
    Syscall,
    /// External interrupt.
    Interrupt(u8),
    /// Exception: vector, error code, CR2.
    Exception(u8, u64, u64),
}

/// Run the component until it traps.
///
/// # Safety
/// Runs on a brought-up CPU with interrupts off, in an address space that maps the core and in which whatever `context`
/// names is the component's own business: its RIP is canonical and in the lower half, and its flags were set by
/// [`UserContext::start`] or stored by a trap (ring 3 can change neither IF nor IOPL).
#[inline]
pub unsafe fn enter(context: &mut UserContext) -> Trap {
    // SAFETY: the caller's promise; the stub saves and restores the callee-saved registers itself.
    unsafe { user_enter(context) };
    if context.vector == VECTOR_SYSCALL {
        return Trap::Syscall;
    }
    match context.vector.to_le_bytes()[0] {
        vector @ 0..32 => Trap::Exception(vector, context.error, context.cr2),
        vector => Trap::Interrupt(vector),
    }
}

/// Address that SYSCALL enters.
pub(super) fn syscall_entry_address() -> u64 {
    syscall_entry as *const () as u64
}

unsafe extern "C" {
    fn user_enter(context: *mut UserContext);
    fn syscall_entry();
}

core::arch::global_asm!(
    ".pushsection .text.user, \"ax\"",
    ".code64",
    ".balign 16",
    ".global user_enter",
    "user_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov gs:[{core_rsp}], rsp",
    "mov gs:[{context}], rdi",
    "mov rax, [rdi]",
    "mov rbx, [rdi + 8]",
    "mov rdx, [rdi + 24]",
    "mov rsi, [rdi + 32]",
    "mov rbp, [rdi + 48]",
    "mov r8, [rdi + 56]",
    "mov r9, [rdi + 64]",
    "mov r10, [rdi + 72]",
    "mov r12, [rdi + 88]",
    "mov r13, [rdi + 96]",
    "mov r14, [rdi + 104]",
    "mov r15, [rdi + 112]",
    "cmp qword ptr [rdi + {ctx_vector}], {syscall}",
    "jne 2f",
    // Back from a system call: RCX and R11 are its to lose. RIP was checked canonical by having executed there.
    "mov rcx, [rdi + {ctx_rip}]",
    "mov r11, [rdi + {ctx_rflags}]",
    "mov rsp, [rdi + {ctx_rsp}]",
    "mov rdi, [rdi + 40]",
    "swapgs",
    "sysretq",
    // Back from an interrupt, or the first time: every register counts.
    "2:",
    "push {user_data}",
    "push qword ptr [rdi + {ctx_rsp}]",
    "push qword ptr [rdi + {ctx_rflags}]",
    "push {user_code}",
    "push qword ptr [rdi + {ctx_rip}]",
    "mov rcx, [rdi + 16]",
    "mov r11, [rdi + 80]",
    "mov rdi, [rdi + 40]",
    "swapgs",
    "iretq",
    ".balign 16",
    ".global syscall_entry",
    "syscall_entry:",
    "swapgs",
    "mov gs:[{scratch}], rsp",
    "mov rsp, gs:[{context}]",
    "mov [rsp], rax",
    "mov [rsp + 8], rbx",
    "mov [rsp + 24], rdx",
    "mov [rsp + 32], rsi",
    "mov [rsp + 40], rdi",
    "mov [rsp + 48], rbp",
    "mov [rsp + 56], r8",
    "mov [rsp + 64], r9",
    "mov [rsp + 72], r10",
    "mov [rsp + 88], r12",
    "mov [rsp + 96], r13",
    "mov [rsp + 104], r14",
    "mov [rsp + 112], r15",
    "mov [rsp + {ctx_rip}], rcx",
    "mov [rsp + {ctx_rflags}], r11",
    "mov rax, gs:[{scratch}]",
    "mov [rsp + {ctx_rsp}], rax",
    "mov qword ptr [rsp + {ctx_vector}], {syscall}",
    "mov rsp, gs:[{core_rsp}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
    core_rsp = const GS_CORE_RSP,
    context = const GS_CONTEXT,
    scratch = const GS_SCRATCH,
    ctx_vector = const CTX_VECTOR,
    ctx_rip = const CTX_RIP,
    ctx_rflags = const CTX_RFLAGS,
    ctx_rsp = const CTX_RSP,
    syscall = const VECTOR_SYSCALL,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
);

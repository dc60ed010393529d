//! The IDT and the stubs behind it.
//!
//! Three kinds of trap arrive here. From ring 3: the registers go to the component's context and control returns to the
//! core's loop, as after a system call. At CPL 0 while the core idles: an interrupt, whose vector is noted. At CPL 0
//! otherwise: an exception in the core itself, which is a bug and ends in a report.

use super::descriptors::CORE_CODE;
use super::layout::{
    CTX_CR2, CTX_ERROR, CTX_RFLAGS, CTX_RIP, CTX_RSP, CTX_VECTOR, GS_CONTEXT, GS_CORE_RSP, GS_IDLE_VECTOR,
};

const NMI: usize = 2;
const DOUBLE_FAULT: usize = 8;
const MACHINE_CHECK: usize = 18;

/// 256 gates of 16 bytes.
#[repr(C, align(16))]
pub struct Idt([[u64; 2]; 256]);

/// Interrupt gate (SDM vol. 3, figure 6-8): 64-bit, present, DPL 0: a component cannot raise a vector by INT n.
const fn gate(handler: u64, ist: u64) -> [u64; 2] {
    // Widening only.
    #[allow(clippy::cast_lossless)]
    let selector = CORE_CODE as u64;
    [handler & 0xffff | selector << 16 | ist << 32 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48, handler >> 32]
}

/// Point every gate at its stub.
pub(super) fn fill(idt: &mut Idt) {
    let stubs = trap_stubs as *const () as u64;
    for (vector, entry) in (0_u64..).zip(idt.0.iter_mut()) {
        *entry = gate(stubs + vector * 16, 0);
    }
    idt.0[NMI] = gate(trap_nmi as *const () as u64, 1);
    idt.0[DOUBLE_FAULT] = gate(stubs + 16 * DOUBLE_FAULT as u64, 2);
    idt.0[MACHINE_CHECK] = gate(trap_machine_check as *const () as u64, 3);
}

/// What the stub pushed for an exception at CPL 0, or a machine check.
#[repr(C)]
struct CoreFrame {
    /// r15, r14, …, rax.
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

impl CoreFrame {
    /// A CPU that was about to halt does not: what has just come could have been what it was to wait for.
    fn wake(&mut self) {
        if self.rip == trap_halt as *const () as u64 {
            self.rip += 1;
        }
    }
}

/// An exception in the core: report everything and stop. Guests and components cannot cause this short of a bug.
extern "C" fn core_exception(frame: &CoreFrame) -> ! {
    let cr2: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags)) };
    panic!(
        "exception {} (error {:#x}) in the core at {:#x}, rsp {:#x}, rflags {:#x}, cr2 {:#x}, r15..rax {:x?}",
        frame.vector, frame.error, frame.rip, frame.rsp, frame.rflags, cr2, frame.registers
    );
}

/// A machine check in the core or in a component.
extern "C" fn machine_check(frame: &mut CoreFrame) {
    super::machine_check::survive();
    frame.wake();
}

unsafe extern "C" {
    fn trap_stubs();
    fn trap_nmi();
    fn trap_machine_check();
    fn trap_halt();
    /// Waits for an interrupt. Its vector; 0 when the CPU woke without one.
    pub(super) fn trap_idle() -> u64;
}

core::arch::global_asm!(
    ".pushsection .text.traps, \"ax\"",
    ".code64",
    // In the order of `CoreFrame`, from its end.
    ".macro push_registers",
    ".irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15",
    "push \\register",
    ".endr",
    ".endm",
    ".macro pop_registers",
    ".irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax",
    "pop \\register",
    ".endr",
    ".endm",
    // 256 stubs, 16 bytes apart. Vectors with an error code: SDM vol. 3, table 6-1.
    ".balign 16",
    ".global trap_stubs",
    "trap_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)",
    "push 0",
    ".endif",
    "push vector",
    "jmp trap_common",
    ".set vector, vector + 1",
    ".endr",
    // Stack: vector, error, rip, cs, rflags, rsp, ss.
    ".balign 16",
    "trap_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 20f",
    // From ring 3.
    "swapgs",
    "cld",
    "push rax",
    "mov rax, gs:[{context}]",
    "mov [rax + 8], rbx",
    "mov [rax + 16], rcx",
    "mov [rax + 24], rdx",
    "mov [rax + 32], rsi",
    "mov [rax + 40], rdi",
    "mov [rax + 48], rbp",
    "mov [rax + 56], r8",
    "mov [rax + 64], r9",
    "mov [rax + 72], r10",
    "mov [rax + 80], r11",
    "mov [rax + 88], r12",
    "mov [rax + 96], r13",
    "mov [rax + 104], r14",
    "mov [rax + 112], r15",
    "pop rbx",
    "mov [rax], rbx",
    "pop rbx",
    "mov [rax + {ctx_vector}], rbx",
    "pop rbx",
    "mov [rax + {ctx_error}], rbx",
    "pop rbx",
    "mov [rax + {ctx_rip}], rbx",
    "pop rbx",
    "pop rbx",
    "mov [rax + {ctx_rflags}], rbx",
    "pop rbx",
    "mov [rax + {ctx_rsp}], rbx",
    "mov rbx, cr2",
    "mov [rax + {ctx_cr2}], rbx",
    "mov rsp, gs:[{core_rsp}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // At CPL 0.
    "20:",
    "cmp qword ptr [rsp], 32",
    "jb 30f",
    // An interrupt, which the core takes only in `idle`: note the vector, and go on with interrupts off; behind the HLT, if
    // it came before that (see `trap_idle`).
    "push rax",
    "mov rax, [rsp + 8]",
    "mov gs:[{idle_vector}], rax",
    "and qword ptr [rsp + 40], ~0x200",
    "lea rax, [rip + trap_halt]",
    "cmp [rsp + 24], rax",
    "jne 21f",
    "inc qword ptr [rsp + 24]",
    "21:",
    "pop rax",
    "add rsp, 16",
    "iretq",
    "30:",
    "cld",
    "push_registers",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {core_exception}",
    "ud2",
    // A machine check comes at any instruction, in the core or in a component: GS may not be relied on.
    ".balign 16",
    ".global trap_machine_check",
    "trap_machine_check:",
    "push 0",
    "push 18",
    "cld",
    "push_registers",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "call {machine_check}",
    "mov rsp, rbx",
    "pop_registers",
    "add rsp, 16",
    "iretq",
    ".balign 16",
    ".global trap_nmi",
    "trap_nmi:",
    // Neither a register nor GS may be relied on here: an NMI comes at any instruction.
    "lock inc qword ptr [rip + {nmi_count}]",
    "push rax",
    "lea rax, [rip + trap_halt]",
    "cmp [rsp + 8], rax",
    "jne 40f",
    "inc qword ptr [rsp + 8]",
    "40:",
    "pop rax",
    "iretq",
    // STI lets nothing in before the instruction behind it has begun, so that an interrupt ends the HLT and is not lost
    // before it. But an NMI can come between the two, and behind its IRET an interrupt can, too: whoever finds that it has
    // interrupted the HLT (one byte) goes on behind it.
    ".balign 16",
    ".global trap_idle",
    ".global trap_halt",
    "trap_idle:",
    "mov qword ptr gs:[{idle_vector}], 0",
    "sti",
    "trap_halt:",
    "hlt",
    "cli",
    "mov rax, gs:[{idle_vector}]",
    "ret",
    ".popsection",
    context = const GS_CONTEXT,
    core_rsp = const GS_CORE_RSP,
    idle_vector = const GS_IDLE_VECTOR,
    ctx_vector = const CTX_VECTOR,
    ctx_error = const CTX_ERROR,
    ctx_rip = const CTX_RIP,
    ctx_rflags = const CTX_RFLAGS,
    ctx_rsp = const CTX_RSP,
    ctx_cr2 = const CTX_CR2,
    core_exception = sym core_exception,
    machine_check = sym machine_check,
    nmi_count = sym super::layout::NMI_COUNT,
);

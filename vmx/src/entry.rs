//! The way into a guest and back.
//!
//! Rules of this file:
//! - VMRESUME, then VMLAUNCH, and no flag that remembers whether a VMCS was launched: falling through both is the failure.
//! - From the first POP on, every general register but RSP holds a guest's value, and a failed entry leaves them so.
//!   Nothing is taken from them then. RSP is still the core's: the CPU loads the guest's RSP only in an entry that
//!   succeeds, and `HOST_RSP`, on an exit. On both ways back it points to the end of `Crossing::registers`.
//! - Whether the instruction failed is taken from the flags before anything changes them.
//! - No branch of the core is predicted by what a guest has left: where the processor asks for it, an exit goes through the barriers before the
//!   first `ret` (`backend::barriers`).
//! - [`enter`] names every register as clobbered; RBX and RBP, which Rust does not let us name, it saves itself.
//! - No interrupt can come while RSP points into the `Crossing` (interrupts are off), and NMI and machine check have stacks
//!   of their own.

use crate::fields::ReadOnly32;
use backend::{Barriers, GeneralRegisters, barriers_at_exit, pop_registers, push_registers};
use core::arch::{asm, naked_asm};
use core::mem::offset_of;

/// Bit of [`enter`]'s result: both instructions failed. Bit 0: without a VM-instruction error (VMfailInvalid).
pub(crate) const FAILED: u64 = 1 << 32;

/// What this file knows of a guest's processor, of which it is a part.
#[repr(C)]
pub(crate) struct Crossing {
    /// Exits push them, downwards from `host_rsp`.
    pub(crate) registers: GeneralRegisters,
    /// The core's RSP while the guest runs.
    pub(crate) host_rsp: u64,
    /// The guest's CR2 while it does not run.
    pub(crate) cr2: u64,
    /// VM-instruction error of the last VMRESUME that failed.
    pub(crate) resume_error: u64,
    /// What comes with every exit, where it goes to `exit_guest_with_barriers`.
    pub(crate) at_exit: u32,
}

/// Offsets from the end of the registers, where RSP is while a guest runs.
const END: usize = offset_of!(Crossing, host_rsp);
const _: () = assert!(offset_of!(Crossing, registers) == 0 && END == size_of::<GeneralRegisters>());

/// Where exits go that these barriers come with: `HOST_RIP`. So one without costs nothing, not even a look.
pub(crate) fn exit_address(barriers: Barriers) -> u64 {
    let to: unsafe extern "sysv64" fn() = if barriers.is_none() { exit_guest } else { exit_guest_with_barriers };
    u64::try_from((to as *const ()).addr()).unwrap_or(0)
}

/// Take the NMI that has just ended a guest's turn. The exit has blocked all others until the next IRET (SDM vol. 3, 28.3.3.4),
/// and nobody has been called: the handler is, by INT 2, whose IRET lets the next one come.
///
/// # Safety
/// The IDT's handler of vector 2 can be called at any time and ends with IRET; ring 0.
pub(crate) unsafe fn take_nmi() {
    // SAFETY: by this function's contract; a gate through the IST leaves this stack alone.
    unsafe { asm!("int 2", options(nomem)) };
}

/// Enter the guest whose VMCS is loaded. Returns the exit reason (SDM vol. 3, 25.9.1), or [`FAILED`].
///
/// # Safety
/// `guest` is of the processor that the loaded VMCS was made for, valid and initialised; `HOST_RSP` is the end of its registers.
#[inline(always)]
pub(crate) unsafe fn enter(guest: *mut Crossing) -> u64 {
    let reason: u64;
    // SAFETY: `enter_guest` takes RDI, changes every register but RSP, and comes back with RSP as it was, whether or not
    // the guest was entered. A build for the host, whose registers are more, never gets here: the first instruction of
    // it faults outside ring 0.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "call {enter_guest}",
            "pop rbp",
            "pop rbx",
            enter_guest = sym enter_guest,
            inout("rdi") guest => _,
            lateout("rax") reason,
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
        );
    }
    reason
}

/// RDI: the `Crossing`. To be called from [`enter`] alone: it keeps no register.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_guest() {
    naked_asm!(
        "mov [rdi + {host_rsp}], rsp",
        // No control makes a guest's MOV to CR2 exit, so CR2 is the guest's from here on. Writing it is slow; it rarely
        // differs, because page faults of guests exit instead of setting it.
        "mov rax, cr2",
        "cmp rax, [rdi + {cr2}]",
        "jne 3f",
        "2:",
        "mov rsp, rdi",
        "pop rax",
        pop_registers!(),
        "vmresume",
        // Not entered: the guest was not launched yet, or the VMCS is bad. VMLAUNCH then fails as well, and would hide why:
        // remember what VMRESUME said. RAX gets back what the guest has there.
        "mov qword ptr [rsp + {resume_error} - {end}], 0",
        "mov eax, {instruction_error}",
        "vmread [rsp + {resume_error} - {end}], rax",
        "mov rax, [rsp - {end}]",
        "vmlaunch",
        // Not entered. CF: no VMCS; ZF: there is a VM-instruction error. MOV keeps flags.
        "mov rsp, [rsp]",
        "mov eax, 0",
        "setc al",
        "bts rax, 32",
        "ret",
        "3:",
        "mov rax, [rdi + {cr2}]",
        "mov cr2, rax",
        "jmp 2b",
        host_rsp = const offset_of!(Crossing, host_rsp),
        cr2 = const offset_of!(Crossing, cr2),
        resume_error = const offset_of!(Crossing, resume_error),
        end = const END,
        instruction_error = const ReadOnly32::InstructionError as u32,
    )
}

/// The way back from a guest, until all that it had in registers is stored, with RSP at RAX; what comes behind that, and its operands.
macro_rules! way_back {
    ([$($behind:expr),* $(,)?] $($operands:tt)*) => {
        naked_asm!(
            push_registers!(),
            "push rax",
            "mov rax, cr2",
            "mov [rsp + {cr2}], rax",
            $($behind,)*
            "mov eax, {exit_reason}",
            "vmread rax, rax",
            "ret",
            host_rsp = const offset_of!(Crossing, host_rsp),
            cr2 = const offset_of!(Crossing, cr2),
            exit_reason = const ReadOnly32::ExitReason as u32,
            $($operands)*
        )
    };
}

/// The CPU comes here on every exit, with RSP at the end of the registers of the `Crossing` that was entered.
#[unsafe(naked)]
unsafe extern "sysv64" fn exit_guest() {
    way_back!(["mov rsp, [rsp + {host_rsp}]"])
}

/// As [`exit_guest`], with the barriers of `Crossing::at_exit` before the first return.
#[unsafe(naked)]
unsafe extern "sysv64" fn exit_guest_with_barriers() {
    way_back!(
        ["mov r8d, [rsp + {at_exit}]", "mov rsp, [rsp + {host_rsp}]", barriers_at_exit!()]
        at_exit = const offset_of!(Crossing, at_exit),
    )
}

//! The way into a guest and back.
//!
//! Rules of this file:
//! - From CLGI to STGI nothing interrupts, not even an NMI or a machine check: RSP points into the `Crossing`, and TR and GS
//!   may be the guest's. STI between them lets a physical interrupt end the guest; none is taken before CLI.
//! - VMRUN saves and restores RSP, RAX, and what CR3, GDTR and the like hold. FS, GS, TR, LDTR and the MSRs of SYSCALL,
//!   SYSENTER and SWAPGS go by VMLOAD and VMSAVE, the core's from a VMCB of its own.
//! - A VMRUN that fails looks like an exit, and its code says so. Nothing else is taken from a register then: the guest's
//!   come back as they were.
//! - No branch of the core is predicted by what a guest has left: where the processor asks for it, an exit goes through the barriers before the
//!   first `ret` (`backend::barriers`).
//! - [`enter`] names every register as clobbered; RBX and RBP, which Rust does not let us name, it saves itself.

use crate::vmcb::{Control, Save, Vmcb};
use backend::{GeneralRegisters, barriers_at_exit, pop_registers, push_registers};
use core::arch::{asm, naked_asm};
use core::mem::offset_of;

/// What this file knows of a guest's processor, of which it is a part.
#[repr(C)]
pub(crate) struct Crossing {
    /// Exits push them, downwards from `host_rsp`. RAX is copied from and to the VMCB.
    pub(crate) registers: GeneralRegisters,
    /// The core's RSP while the guest runs.
    pub(crate) host_rsp: u64,
    /// Null before `init`.
    pub(crate) vmcb: *mut Vmcb,
    /// Physical address of the VMCB.
    pub(crate) vmcb_physical: u64,
    /// Physical address of the VMCB that holds the core's state.
    pub(crate) host_vmcb: u64,
    /// What comes with every exit of [`enter_with_barriers`].
    pub(crate) at_exit: u32,
}

/// Offsets from the end of the registers, where RSP is while a guest runs.
const END: usize = offset_of!(Crossing, host_rsp);
const _: () = assert!(offset_of!(Crossing, registers) == 0 && END == size_of::<GeneralRegisters>());
const RAX: usize = offset_of!(Vmcb, save) + offset_of!(Save, rax);
const EXIT_CODE: usize = offset_of!(Vmcb, control) + offset_of!(Control, exit_code);

/// Calls one of the ways into the guest of a `*mut Crossing`, and gives the exit code.
///
/// To be `unsafe`: SVM is on; interrupts are off; the `Crossing` is valid and initialised, its VMCB and the host's are what its fields say, and
/// the state that VMRUN does not exchange is the guest's. Then the way takes RDI, changes every register but RSP, and comes back with RSP as it
/// was, whether or not the guest was entered. A build for the host, whose registers are more, never gets here: the first instruction of it
/// faults outside ring 0.
macro_rules! call {
    ($way:ident, $guest:expr) => {{
        let code: u64;
        asm!(
            "push rbx",
            "push rbp",
            "call {way}",
            "pop rbp",
            "pop rbx",
            way = sym $way,
            inout("rdi") $guest => _,
            lateout("rax") code,
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
        );
        code
    }};
}

/// The way into a guest and back to the core's registers, of which RCX is the VMCB then, and RSP still the end of the guest's; what comes
/// behind that, and its operands.
macro_rules! way {
    ([$($behind:expr),* $(,)?] $($operands:tt)*) => {
        naked_asm!(
            "clgi",
            "mov [rdi + {host_rsp}], rsp",
            "mov rax, [rdi + {vmcb}]",
            "mov rcx, [rdi]",
            "mov [rax + {rax}], rcx",
            "mov rax, [rdi + {vmcb_physical}]",
            "vmload rax",
            "lea rsp, [rdi + 8]",
            pop_registers!(),
            "sti",
            "vmrun rax",
            // RAX is the VMCB again, RSP the end of the registers; the rest is the guest's.
            "cli",
            "vmsave rax",
            push_registers!(),
            "mov rax, [rsp + {host_vmcb} - 8]",
            "vmload rax",
            "mov rcx, [rsp + {vmcb} - 8]",
            "mov rax, [rcx + {rax}]",
            "mov [rsp - 8], rax",
            $($behind,)*
            "stgi",
            "ret",
            host_rsp = const offset_of!(Crossing, host_rsp),
            vmcb = const offset_of!(Crossing, vmcb),
            vmcb_physical = const offset_of!(Crossing, vmcb_physical),
            host_vmcb = const offset_of!(Crossing, host_vmcb),
            rax = const RAX,
            exit_code = const EXIT_CODE,
            $($operands)*
        )
    };
}

/// Enter the guest. Returns the exit code.
///
/// # Safety
/// SVM is on; interrupts are off; `guest` is valid and initialised, its VMCB and the host's are what its fields say, and the
/// state that VMRUN does not exchange is the guest's.
#[inline(always)]
pub(crate) unsafe fn enter(guest: *mut Crossing) -> u64 {
    // SAFETY: as `call` asks, upheld by the caller.
    unsafe { call!(enter_guest, guest) }
}

/// As [`enter`], with the barriers of `Crossing::at_exit` before the core's first return.
///
/// # Safety
/// As for [`enter`].
#[inline(always)]
pub(crate) unsafe fn enter_with_barriers(guest: *mut Crossing) -> u64 {
    // SAFETY: as `call` asks, upheld by the caller.
    unsafe { call!(enter_guest_with_barriers, guest) }
}

/// RDI: the `Crossing`. To be called from [`enter`] alone: it keeps no register.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_guest() {
    way!(["mov rax, [rcx + {exit_code}]", "mov rsp, [rsp + {host_rsp} - 8]"])
}

/// As [`enter_guest`], for [`enter_with_barriers`].
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_guest_with_barriers() {
    way!(
        [
            "mov r9, [rcx + {exit_code}]",
            "mov r8d, [rsp + {at_exit} - 8]",
            "mov rsp, [rsp + {host_rsp} - 8]",
            barriers_at_exit!(),
            "mov rax, r9",
        ]
        at_exit = const offset_of!(Crossing, at_exit),
    )
}

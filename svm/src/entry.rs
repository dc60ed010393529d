//! The way into a guest and back.
//!
//! Rules of this file:
//! - From CLGI to STGI nothing interrupts, not even an NMI or a machine check: RSP points into the `SvmVcpu`, and TR and GS
//!   may be the guest's. STI between them lets a physical interrupt end the guest; none is taken before CLI.
//! - VMRUN saves and restores RSP, RAX, and what CR3, GDTR and the like hold. FS, GS, TR, LDTR and the MSRs of SYSCALL,
//!   SYSENTER and SWAPGS go by VMLOAD and VMSAVE, the core's from a VMCB of its own.
//! - A VMRUN that fails looks like an exit, and its code says so. Nothing else is taken from a register then: the guest's
//!   come back as they were.
//! - No branch of the core is predicted by what a guest has left: where the processor asks for it, an exit goes through the barriers before the
//!   first `ret` (`backend::barriers`).
//! - [`enter`] names every register as clobbered; RBX and RBP, which Rust does not let us name, it saves itself.

use crate::vcpu::SvmVcpu;
use crate::vmcb::{Control, Save, Vmcb};
use backend::barriers_at_exit;
use core::arch::{asm, naked_asm};
use core::mem::offset_of;

/// Offsets from the end of the registers, where RSP is while a guest runs.
const END: usize = offset_of!(SvmVcpu, host_rsp);
const _: () = assert!(offset_of!(SvmVcpu, registers) == 0 && END == size_of::<backend::GeneralRegisters>());
const RAX: usize = offset_of!(Vmcb, save) + offset_of!(Save, rax);
const EXIT_CODE: usize = offset_of!(Vmcb, control) + offset_of!(Control, exit_code);

/// Enter the guest. Returns the exit code.
///
/// # Safety
/// SVM is on; interrupts are off; `vcpu` is valid and initialised, its VMCB and the host's are what its fields say, and the
/// state that VMRUN does not exchange is the guest's.
#[inline(always)]
pub(crate) unsafe fn enter(vcpu: *mut SvmVcpu) -> u64 {
    let code: u64;
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
            inout("rdi") vcpu => _,
            lateout("rax") code,
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
        );
    }
    code
}

/// RDI: the `SvmVcpu`. To be called from [`enter`] alone: it keeps no register.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_guest() {
    naked_asm!(
        "clgi",
        "mov [rdi + {host_rsp}], rsp",
        "mov rax, [rdi + {vmcb}]",
        "mov rcx, [rdi]",
        "mov [rax + {rax}], rcx",
        "mov rax, [rdi + {vmcb_physical}]",
        "vmload rax",
        "lea rsp, [rdi + 8]",
        "pop rbx",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "pop r8",
        "pop r9",
        "pop r10",
        "pop r11",
        "pop r12",
        "pop r13",
        "pop r14",
        "pop r15",
        "sti",
        "vmrun rax",
        // RAX is the VMCB again, RSP the end of the registers; the rest is the guest's.
        "cli",
        "vmsave rax",
        "push r15",
        "push r14",
        "push r13",
        "push r12",
        "push r11",
        "push r10",
        "push r9",
        "push r8",
        "push rbp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push rbx",
        "mov rax, [rsp + {host_vmcb} - 8]",
        "vmload rax",
        "mov rcx, [rsp + {vmcb} - 8]",
        "mov rax, [rcx + {rax}]",
        "mov [rsp - 8], rax",
        "mov rax, [rcx + {exit_code}]",
        "mov rsp, [rsp + {host_rsp} - 8]",
        "stgi",
        "ret",
        host_rsp = const offset_of!(SvmVcpu, host_rsp),
        vmcb = const offset_of!(SvmVcpu, vmcb),
        vmcb_physical = const offset_of!(SvmVcpu, vmcb_physical),
        host_vmcb = const offset_of!(SvmVcpu, host_vmcb),
        rax = const RAX,
        exit_code = const EXIT_CODE,
    )
}

/// As [`enter`], with the barriers of `SvmVcpu::at_exit` before the core's first return.
///
/// # Safety
/// SVM is on; interrupts are off; `vcpu` is valid and initialised, its VMCB and the host's are what its fields say, and the
/// state that VMRUN does not exchange is the guest's.
#[inline(always)]
pub(crate) unsafe fn enter_with_barriers(vcpu: *mut SvmVcpu) -> u64 {
    let code: u64;
    // SAFETY: `enter_guest_with_barriers` takes RDI, changes every register but RSP, and comes back with RSP as it was, whether or not
    // the guest was entered. A build for the host, whose registers are more, never gets here: the first instruction of
    // it faults outside ring 0.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "call {enter_guest_with_barriers}",
            "pop rbp",
            "pop rbx",
            enter_guest_with_barriers = sym enter_guest_with_barriers,
            inout("rdi") vcpu => _,
            lateout("rax") code,
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
        );
    }
    code
}

/// As [`enter_guest`], for [`enter_with_barriers`].
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_guest_with_barriers() {
    naked_asm!(
        "clgi",
        "mov [rdi + {host_rsp}], rsp",
        "mov rax, [rdi + {vmcb}]",
        "mov rcx, [rdi]",
        "mov [rax + {rax}], rcx",
        "mov rax, [rdi + {vmcb_physical}]",
        "vmload rax",
        "lea rsp, [rdi + 8]",
        "pop rbx",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "pop r8",
        "pop r9",
        "pop r10",
        "pop r11",
        "pop r12",
        "pop r13",
        "pop r14",
        "pop r15",
        "sti",
        "vmrun rax",
        // RAX is the VMCB again, RSP the end of the registers; the rest is the guest's.
        "cli",
        "vmsave rax",
        "push r15",
        "push r14",
        "push r13",
        "push r12",
        "push r11",
        "push r10",
        "push r9",
        "push r8",
        "push rbp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push rbx",
        "mov rax, [rsp + {host_vmcb} - 8]",
        "vmload rax",
        "mov rcx, [rsp + {vmcb} - 8]",
        "mov rax, [rcx + {rax}]",
        "mov [rsp - 8], rax",
        "mov r9, [rcx + {exit_code}]",
        "mov r8d, [rsp + {at_exit} - 8]",
        "mov rsp, [rsp + {host_rsp} - 8]",
        barriers_at_exit!(),
        "mov rax, r9",
        "stgi",
        "ret",
        host_rsp = const offset_of!(SvmVcpu, host_rsp),
        vmcb = const offset_of!(SvmVcpu, vmcb),
        vmcb_physical = const offset_of!(SvmVcpu, vmcb_physical),
        at_exit = const offset_of!(SvmVcpu, at_exit),
        host_vmcb = const offset_of!(SvmVcpu, host_vmcb),
        rax = const RAX,
        exit_code = const EXIT_CODE,
    )
}

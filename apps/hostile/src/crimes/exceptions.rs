//! Exceptions, and processor states that could make an entry fail (SDM vol. 3, 27.3).

use super::{Deed, acts, nothing};

acts! {
    "ud2" => ud2: "ud2";
    "divide" => divide: "xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx";
    "int3" => int3: "int3";
    "int-80" => int_80: "int 0x80";
    "int-2" => int_2: "int 2";
    "int-18" => int_18: "int 18";
    "icebp" => icebp: ".byte 0xf1";
    "single-step" => single_step: "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop";
    "single-step-vmcall" => single_step_vmcall:
        "xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "vmcall", "nop", "nop";
    "x87-error" => x87_error:
        "fninit", "push 0x37b", "fldcw [rsp]", "pop rax", "fld1", "fldz", "fdivp st(1), st", "fwait";
    "simd-error" => simd_error:
        "push 0x1d80", "ldmxcsr [rsp]", "pop rax", "xorps xmm0, xmm0", "mov eax, 0x3f800000", "movd xmm1, eax",
        "divss xmm1, xmm0";
    "iretq-junk" => iretq_junk: "push 0x33", "push rsp", "push 2", "push 0x2b", "push rsp", "iretq";
    "far-jump" => far_jump: "push 0x28", "push rsp", ".byte 0x48, 0xff, 0x2c, 0x24";
    "far-return" => far_return: "push 0x2b", "push rsp", ".byte 0x48, 0xcb";
    "load-ss" => load_ss: "mov eax, 0x28", "mov ss, eax";
    "load-ds" => load_ds: "mov eax, 0x28", "mov ds, eax";
    "lock-prefix" => lock_prefix: ".byte 0xf0, 0x90";
    "long-instruction" => long_instruction: ".rept 15", ".byte 0x66", ".endr", "nop";
    "null-segments" => null_segments:
        "xor eax, eax", "mov ds, eax", "mov es, eax", "mov fs, eax", "mov gs, eax", "mov ss, eax", "vmcall",
        "mov eax, 1", "xor edi, edi", "vmcall";
    "flags" => flags:
        "push 0x247ed7", "popfq", "xor eax, eax", "mov ecx, 0", "vmcall", "push 0x247ed7", "popfq", "mov eax, 1", "mov edi, 0",
        "vmcall", "push 2", "popfq";
    "sti-vmcall" => sti_vmcall: "mov ecx, 1000", "2: cli", "sti", "mov eax, 0", "vmcall", "dec ecx", "jnz 2b", "cli";
    "mov-ss-vmcall" => mov_ss_vmcall: "mov ecx, 1000", "2: xor eax, eax", "mov ss, eax", "vmcall", "dec ecx", "jnz 2b";
    "mov-ss-int3" => mov_ss_int3: "xor eax, eax", "mov ss, eax", "int3";
    "mov-ss-step-ud2" => mov_ss_step_ud2: "xor eax, eax", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov ss, eax", "ud2";
}

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    act(name).map(|act| Deed::Act(act, nothing))
}

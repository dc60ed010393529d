//! What a component is killed for.
//!
//! None of this is sound Rust, and that is the point: each block does what the processor refuses, in an address space of
//! which nothing is used afterwards.
#![allow(unsafe_code)]

use crate::{Escape, Outcome};
use component::abi::component::layout;
use core::arch::asm;

/// Between the rings and the kick bitmap nothing is mapped.
pub const UNMAPPED: u64 = 0x2800_0000;
/// In the core's half: its text, which begins 2 GiB below the end.
pub const CORE: u64 = 0xffff_ffff_8000_1000;
/// Not canonical.
const NOWHERE: u64 = 0x8000_0000_0000_0000;

/// What every crime returns if it is not stopped.
const UNSTOPPED: Outcome = Err(Escape { what: "nobody stopped it", expected: 0, found: 1 });

/// Reads a byte.
pub fn read(address: u64) -> Outcome {
    // SAFETY: faults.
    let found = unsafe { core::ptr::with_exposed_provenance::<u8>(component_address(address)).read_volatile() };
    Err(Escape { what: "it could be read", expected: 0, found: found.into() })
}

fn write(address: u64) -> Outcome {
    // SAFETY: faults.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(component_address(address)).write_volatile(0xcc) };
    UNSTOPPED
}

pub fn write_text() -> Outcome {
    let text: fn() -> Outcome = write_text;
    write(text as usize as u64)
}

pub fn write_information() -> Outcome {
    write(layout::INFO)
}

pub fn execute_stack() -> Outcome {
    // SAFETY: faults at the first byte of what would be `ret`.
    unsafe { asm!("push 0xc3", "call rsp", "pop {0}", out(reg) _) };
    UNSTOPPED
}

pub fn spin() -> Outcome {
    loop {
        core::hint::spin_loop();
    }
}

pub fn halt() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("hlt") };
    UNSTOPPED
}

pub fn rdmsr() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("rdmsr", in("ecx") 0xc000_0080_u32, out("eax") _, out("edx") _) };
    UNSTOPPED
}

pub fn port_in() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("in al, dx", in("dx") 0x3fd_u16, out("al") _) };
    UNSTOPPED
}

pub fn port_out() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("out dx, al", in("dx") 0xcf9_u16, in("al") 6_u8) };
    UNSTOPPED
}

pub fn jump_nowhere() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("jmp {0}", in(reg) NOWHERE) };
    UNSTOPPED
}

pub fn interrupt() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("int 0x80") };
    UNSTOPPED
}

pub fn divide() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("div {0}", in(reg) 0_u64, inout("rax") 1_u64 => _, inout("rdx") 0_u64 => _) };
    UNSTOPPED
}

pub fn undefined() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("ud2") };
    UNSTOPPED
}

pub fn vector_register() -> Outcome {
    // SAFETY: faults. MOVQ RAX, XMM0; the target's assembler knows no vector registers.
    unsafe { asm!(".byte 0x66, 0x48, 0x0f, 0x7e, 0xc0", out("rax") _) };
    UNSTOPPED
}

pub fn overflow_stack() -> Outcome {
    // SAFETY: pushes down to the unmapped page below the stack, and faults there.
    unsafe { asm!("2:", "push 0", "jmp 2b") };
    UNSTOPPED
}

pub fn single_step() -> Outcome {
    // SAFETY: sets the trap flag and faults behind the next instruction.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop") };
    UNSTOPPED
}

pub fn load_cr3() -> Outcome {
    // SAFETY: faults.
    unsafe { asm!("mov cr3, {0}", in(reg) 0_u64) };
    UNSTOPPED
}

/// An address of a 64-bit machine.
#[allow(clippy::cast_possible_truncation)] // Components run on 64-bit machines only.
fn component_address(address: u64) -> usize {
    address as usize
}

//! System calls with numbers and arguments that make no sense: each must be refused as `abi::component` says.
#![allow(unsafe_code)]

use crate::{Escape, Outcome, expect, pause};
use component::abi;
use component::abi::component::{ERROR_ARGUMENT, ERROR_AUTHORITY, ERROR_BUSY, ERROR_UNKNOWN, bits, layout, syscall};
use component::abi::guest::pending;
use component::abi::limits::{LOG_LINE_BYTES, MAX_RINGS_PER_COMPONENT};
use core::arch::asm;

/// The instruction with whatever arguments, and with values in the other registers that must be there afterwards.
fn call(number: u64, a: u64, b: u64, c: u64) -> u64 {
    let (result, kept): (u64, u64);
    // SAFETY: by `abi::component::syscall` the core returns behind the instruction with RAX, RCX and R11 changed. It writes
    // no memory of the component, and what it reads is its own risk.
    unsafe {
        asm!(
            "syscall",
            "xor r8, 0x1111", "xor r9, 0x2222", "xor r10, 0x3333", "xor r12, 0x4444", "xor r13, 0x5555", "xor r14, 0x6666", "xor r15, 0x7777",
            "or r8, r9", "or r8, r10", "or r8, r12", "or r8, r13", "or r8, r14", "or r8, r15",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _,
            inlateout("r8") 0x1111_u64 => kept,
            inlateout("r9") 0x2222_u64 => _, inlateout("r10") 0x3333_u64 => _, inlateout("r12") 0x4444_u64 => _,
            inlateout("r13") 0x5555_u64 => _, inlateout("r14") 0x6666_u64 => _, inlateout("r15") 0x7777_u64 => _,
        );
    }
    // A number that no call returns.
    if kept == 0 { result } else { 0xdead_0000_0000_0000 | kept }
}

/// As [`call`], for calls that are told to come again later.
fn patient(number: u64, a: u64, b: u64, c: u64) -> u64 {
    loop {
        let result = call(number, a, b, c);
        if result != ERROR_BUSY {
            return result;
        }
        pause();
    }
}

pub fn bad_calls() -> Outcome {
    for number in [syscall::RING_RETURN + 1, 0x80, 1 << 31, 1 << 32, u64::MAX - 1, u64::MAX] {
        expect("an unknown number", ERROR_UNKNOWN, call(number, u64::MAX, u64::MAX, u64::MAX))?;
    }
    expect("nop", abi::ABI_VERSION.into(), call(syscall::NOP, u64::MAX, u64::MAX, u64::MAX))?;
    log()?;
    for vm in [0, 0x1_0000, 0xffff_ffff, 1 << 32, u64::MAX] {
        expect("raise", ERROR_AUTHORITY, call(syscall::RAISE, vm, pending::NIC, 0))?;
        expect("raise", ERROR_AUTHORITY, call(syscall::RAISE, vm, u64::MAX, 0))?;
    }
    ports()?;
    for device in [0, 1, 4, 63, 64, 1 << 32, u64::MAX] {
        expect("irq_ack", ERROR_ARGUMENT, call(syscall::IRQ_ACK, device, 0, 0))?;
    }
    let beyond = !((1 << MAX_RINGS_PER_COMPONENT) - 1);
    for rings in [beyond, 1 << 63, u64::MAX] {
        expect("notify", 0, call(syscall::NOTIFY, rings, 0, 0))?;
    }
    // Nothing but doorbells can have rung.
    let others = call(syscall::WAIT, u64::MAX, 0, u64::MAX) & !((1 << bits::IRQ_SHIFT) - 1);
    expect("wait", 0, others)?;
    expect("wait for nothing until the past", 0, call(syscall::WAIT, 0, 0, beyond))
}

fn log() -> Outcome {
    static LINE: [u8; 2 * LOG_LINE_BYTES] = [b'~'; 2 * LOG_LINE_BYTES];
    let good = core::ptr::from_ref(&LINE).expose_provenance() as u64;
    for level in [0, 6, 0x101, u64::MAX] {
        expect("a level of the log", ERROR_ARGUMENT, patient(syscall::LOG, level, good, 1))?;
    }
    let addresses = [
        0,
        layout::IMAGE_BASE - 1,
        layout::IMAGE_END - 8,
        layout::INFO,
        layout::STACK_TOP - 8,
        layout::STACK_TOP,
        layout::RINGS,
        layout::KICKS,
        layout::MMIO,
        layout::DMA,
        layout::VM_WINDOW,
        1 << 47,
        0xffff_8000_0000_0000,
        crate::crimes::CORE,
        u64::MAX - 15,
        u64::MAX,
    ];
    for address in addresses {
        for len in [16, LOG_LINE_BYTES as u64, 1 << 32, u64::MAX - address, u64::MAX] {
            // The last addresses have fewer bytes behind them than the shortest line.
            if len >= 16 {
                expect("an address of the log", ERROR_ARGUMENT, patient(syscall::LOG, 3, address, len))?;
            }
        }
    }
    // What is too long is cut.
    expect("a long line", 0, patient(syscall::LOG, 3, good, u64::MAX))
}

fn ports() -> Outcome {
    for number in [syscall::PORT_IN, syscall::PORT_OUT] {
        for width in [1, 2, 4] {
            for port in [0, 0x20, 0x64, 0x3f8, 0xcf8, 0xcf9, 0xffff] {
                expect("a port", ERROR_AUTHORITY, call(number, port, width, 0))?;
            }
            for port in [0x1_0000, 1 << 32 | 0x3f8, u64::MAX] {
                expect("no port", ERROR_ARGUMENT, call(number, port, width, 0))?;
            }
        }
        for width in [0, 3, 8, u64::MAX] {
            expect("a width", ERROR_ARGUMENT, call(number, 0x3f8, width, 0))?;
        }
    }
    Ok(())
}

/// Flags that must mean nothing to the core, or it would stumble over them: direction, nested task, alignment check, all
/// arithmetic ones.
pub fn bad_flags() -> Outcome {
    const FLAGS: u64 = 0x4_4cd5;
    for _ in 0..3 {
        let result: u64;
        let after: u64;
        // SAFETY: as in `call`; direction and alignment-check flag are cleared before Rust goes on.
        unsafe {
            asm!(
                "push {flags}", "popfq", "syscall", "pushfq", "pop {after}", "push 2", "popfq",
                flags = in(reg) FLAGS,
                after = lateout(reg) after,
                inlateout("rax") syscall::WAIT => result,
                in("rdi") 0, in("rsi") 0, in("rdx") 0,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        expect("wait with odd flags", 0, result)?;
        // Interrupts stay on, and there is no privilege for ports: IF, IOPL, VM.
        if after & 0x2_3200 != 0x200 {
            return Err(Escape { what: "flags behind a call", expected: 0x200, found: after });
        }
    }
    Ok(())
}

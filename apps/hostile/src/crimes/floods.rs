//! Guests that take all that they can get, until somebody destroys them.

use super::{Deed, frames};
use crate::catch::{arm, attempt};
use crate::machine::{PAGE, hypercall, memory_bytes, poke64, scratch, set32, set64};
use crate::register;
use abi::guest::{device, hypercall as number, pending};
use core::arch::{asm, naked_asm};

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(Deed::Forever(match name {
        "loop" => endless,
        "hypercall-flood" => hypercalls,
        "idle-flood" => idles,
        "kick-flood" => kicks,
        "alarm-flood" => alarms,
        "fault-flood" => faults,
        "page-flood" => pages,
        "console-flood" => lines,
        "broadcast-flood" => frames::broadcast_for_ever,
        "datagram-flood" => frames::datagrams_for_ever,
        "wire-flood" => frames::to_the_wire_for_ever,
        _ => return None,
    }))
}

fn endless() -> ! {
    // SAFETY: changes nothing but the interrupt flag, which means nothing to Rust.
    unsafe { asm!("cli", "2: jmp 2b", options(noreturn)) }
}

fn hypercalls() -> ! {
    loop {
        for number in [number::NOP, 8, 99, u64::MAX, number::FAULT_RETURN] {
            hypercall(number, u64::MAX, u64::MAX);
        }
    }
}

fn idles() -> ! {
    loop {
        hypercall(number::IDLE, 1, 0);
    }
}

fn kicks() -> ! {
    loop {
        hypercall(number::KICK, device::NIC, 0);
        hypercall(number::KICK, device::CONSOLE, 0);
    }
}

/// An upcall that sets the next alarm, in the past, and returns.
#[unsafe(naked)]
unsafe extern "sysv64" fn again() {
    naked_asm!(
        "mov qword ptr [{pending}], 0",
        "mov eax, {alarm}",
        "mov edi, 1",
        "vmcall",
        "mov eax, {upcall_return}",
        "vmcall",
        "ud2",
        pending = const crate::machine::place(core::mem::offset_of!(abi::guest::RegisterPage, pending)),
        alarm = const number::ALARM,
        upcall_return = const number::UPCALL_RETURN,
    )
}

fn alarms() -> ! {
    set64(
        register!(upcall_entry),
        crate::machine::offset((again as unsafe extern "sysv64" fn()) as *const () as usize),
    );
    set64(register!(upcall_stack), scratch(1));
    set64(register!(enabled), pending::ALARM);
    set32(register!(upcalls_on), 1);
    hypercall(number::ALARM, 1, 0);
    // SAFETY: the upcall changes RAX and RDI, which nothing here uses.
    unsafe { asm!("2: jmp 2b", options(noreturn)) }
}

#[unsafe(naked)]
unsafe extern "sysv64" fn ud2(_: u64) {
    naked_asm!("ud2")
}

fn faults() -> ! {
    arm();
    loop {
        attempt(ud2, 0);
    }
}

fn pages() -> ! {
    let pages = memory_bytes() / PAGE;
    let first = pages / 2;
    loop {
        for page in first..pages {
            // SAFETY: Ilwaco's heap ends far below.
            unsafe { poke64(page * PAGE, page) };
            if page % 64 == 63 {
                hypercall(number::GIVE_BACK, page - 63, 64);
            }
        }
    }
}

fn lines() -> ! {
    let mut number = 0_u64;
    loop {
        ilwaco::println!("hostile: line {number} of a flood; the core shows some of these and counts the others");
        number += 1;
    }
}

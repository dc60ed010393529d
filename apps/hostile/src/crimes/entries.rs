//! Where the core enters a guest for upcalls and faults, and what it finds in the register page.

use super::{Deed, Escape, nothing};
use crate::catch::{Act, attempt, disarm};
use crate::machine::{
    Noise, PAGE, hypercall, memory_bytes, offset, peek64, place, poke64, scratch, set32, set64, yield_turn,
};
use crate::register;
use abi::guest::{CONSOLE_RING, REGISTER_PAGE, RegisterPage, hypercall as number, pending};
use core::arch::naked_asm;
use core::mem::offset_of;

/// What is neither an address of 48 bits nor one of 57.
const NON_CANONICAL: u64 = 1 << 62;

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    let act = |act: Act, prepare: fn() -> u64| Deed::Act(act, prepare);
    Some(match name {
        "fault-entry-non-canonical" => act(ud2, || handler(NON_CANONICAL)),
        "fault-entry-beyond" => act(ud2, || handler(memory_bytes())),
        "fault-stack-beyond" => act(ud2, || {
            set64(register!(fault_stack), memory_bytes() + PAGE);
            handler(address_of(push_then_hang))
        }),
        "fault-in-handler" => act(ud2, || handler(address_of(ud2))),
        "in-fault-forged" => act(ud2, || handler(address_of(forge_in_fault))),
        "in-fault-set" => act(ud2, || {
            set32(register!(in_fault), 1);
            0
        }),
        "fault-return-non-canonical" => act(ud2, || handler(address_of(return_to_nowhere))),
        "fault-return-flags" => Deed::Check(return_flags),
        "upcall-entry-non-canonical" => act(wait_for_upcall, || upcalls(NON_CANONICAL, scratch(1))),
        "upcall-entry-beyond" => act(wait_for_upcall, || upcalls(memory_bytes(), scratch(1))),
        "upcall-stack-beyond" => act(wait_for_upcall, || upcalls(address_of(push_then_hang), memory_bytes() + PAGE)),
        "upcall-return-non-canonical" => act(upcall_return, || {
            let record = register!(upcall);
            set64(record, NON_CANONICAL);
            set64(record + 8, scratch(1));
            set64(record + 16, 2);
            nothing()
        }),
        "register-page-noise" => Deed::Check(noise),
        _ => return None,
    })
}

fn address_of(act: Act) -> u64 {
    offset(act as *const () as usize)
}

/// Puts a fault handler of the crime's own in place.
fn handler(entry: u64) -> u64 {
    set64(register!(fault_entry), entry);
    entry
}

/// Lets upcalls come to `entry`, with an alarm that is due.
fn upcalls(entry: u64, stack: u64) -> u64 {
    set64(register!(pending), 0);
    set64(register!(upcall_entry), entry);
    set64(register!(upcall_stack), stack);
    set64(register!(enabled), pending::ALARM);
    set32(register!(upcalls_on), 1);
    entry
}

#[unsafe(naked)]
unsafe extern "sysv64" fn ud2(_: u64) {
    naked_asm!("ud2")
}

#[unsafe(naked)]
unsafe extern "sysv64" fn push_then_hang(_: u64) {
    naked_asm!("push rax", "2: jmp 2b")
}

/// Sets an alarm in the past and gives its turn up until the upcall comes, or long enough to say that it does not.
#[unsafe(naked)]
unsafe extern "sysv64" fn wait_for_upcall(_: u64) {
    naked_asm!(
        "mov eax, {alarm}",
        "mov edi, 1",
        "vmcall",
        "mov ecx, 1000",
        "2: mov eax, {idle}",
        "xor edi, edi",
        "vmcall",
        "dec ecx",
        "jnz 2b",
        "ret",
        alarm = const number::ALARM,
        idle = const number::IDLE,
    )
}

#[unsafe(naked)]
unsafe extern "sysv64" fn upcall_return(_: u64) {
    naked_asm!("mov eax, {upcall_return}", "vmcall", "ret", upcall_return = const number::UPCALL_RETURN)
}

/// A fault handler that says that it is none, and faults.
#[unsafe(naked)]
unsafe extern "sysv64" fn forge_in_fault(_: u64) {
    naked_asm!(
        "mov eax, {in_fault}",
        "mov dword ptr [rax], 0",
        "ud2",
        in_fault = const place(offset_of!(RegisterPage, in_fault)),
    )
}

/// A fault handler that returns to an address that is none.
#[unsafe(naked)]
unsafe extern "sysv64" fn return_to_nowhere(_: u64) {
    naked_asm!(
        "mov eax, {fault}",
        "mov rcx, 0x4000000000000000",
        "mov [rax], rcx",
        "mov eax, {fault_return}",
        "vmcall",
        "2: jmp 2b",
        fault = const place(offset_of!(RegisterPage, fault)),
        fault_return = const number::FAULT_RETURN,
    )
}

/// A fault handler that returns behind the UD2, with every flag set but the trap flag.
#[unsafe(naked)]
unsafe extern "sysv64" fn return_with_flags(_: u64) {
    naked_asm!(
        "mov eax, {fault}",
        "add qword ptr [rax], 2",
        "mov qword ptr [rax + 16], -257",
        "mov eax, {fault_return}",
        "vmcall",
        "2: jmp 2b",
        fault = const place(offset_of!(RegisterPage, fault)),
        fault_return = const number::FAULT_RETURN,
    )
}

/// Faults, and stores the flags with which it goes on at RDI.
#[unsafe(naked)]
unsafe extern "sysv64" fn fault_and_look(_: u64) {
    naked_asm!("ud2", "pushfq", "pop rax", "mov [rdi], rax", "push 2", "popfq", "ret")
}

fn return_flags() -> Result<(), Escape> {
    /// I/O privilege, nested task, virtual-8086 mode, virtual interrupts. The interrupt flag means nothing to a guest.
    const NOT_THE_GUESTS: u64 = 3 << 12 | 1 << 14 | 1 << 17 | 3 << 19;
    let place = scratch(0);
    set64(register!(fault_stack), scratch(2));
    handler(address_of(return_with_flags));
    for _ in 0..10 {
        Escape::unless_quiet(attempt(fault_and_look, place), "a fault")?;
        let flags = peek64(place);
        Escape::unless(flags & NOT_THE_GUESTS == 0, "it has flags that it may not choose", flags)?;
        Escape::unless(flags & 1 != 0, "it has lost a flag that it may choose", flags)?;
    }
    disarm();
    Ok(())
}

/// Whatever is in the register page, the core believes nothing and goes on. The fault entry and the upcall switch are left
/// alone: what those do wrong are crimes of their own.
fn noise() -> Result<(), Escape> {
    let kept = scratch(4);
    copy(REGISTER_PAGE, kept);
    let spared = [register!(fault_entry), register!(fault_stack), register!(upcalls_on)];
    let mut noise = Noise::new(2);
    for _ in 0..200 {
        for address in
            (REGISTER_PAGE..REGISTER_PAGE + CONSOLE_RING).step_by(8).filter(|address| !spared.contains(address))
        {
            set64(address, noise.word());
        }
        hypercall(number::NOP, 0, 0);
        hypercall(number::ALARM, noise.word(), 0);
        hypercall(number::KICK, noise.word() & 1, 0);
        hypercall(number::FAULT_RETURN, 0, 0);
        yield_turn();
    }
    copy(kept, REGISTER_PAGE);
    hypercall(number::ALARM, u64::MAX, 0);
    let answer = hypercall(number::NOP, 0, 0);
    Escape::unless(answer == u64::from(abi::ABI_VERSION), "NOP answers", answer)
}

/// Copies the part of a register page that lies before the console ring.
fn copy(from: u64, to: u64) {
    for at in (0..CONSOLE_RING).step_by(8) {
        // SAFETY: between the register page and a scratch page, where no Rust object lies.
        unsafe { poke64(to + at, peek64(from + at)) };
    }
}

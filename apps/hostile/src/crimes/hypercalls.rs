//! Hypercalls with numbers and arguments that no sane guest has.

use super::{Deed, Escape, acts, nothing};
use crate::catch::attempt;
use crate::machine::{
    Noise, PAGE, SCRATCH_PAGES, hypercall, memory_bytes, offset, peek64, poke64, scratch, set32, set64, tsc, yield_turn,
};
use crate::register;
use abi::guest::{
    ERROR_ARGUMENT, ERROR_MIN, ERROR_STATE, ERROR_UNKNOWN, NIC_BASE, device, hypercall as number, pending,
};
use core::arch::naked_asm;

acts! {
    "exit-code" => exit_code: "mov eax, 2", "mov rdi, 0xfedcba9876543210", "vmcall";
    // Nothing but registers is left in the end: no stack, no data, and the code comes back from the image.
    "give-back-all" => give_back_all:
        "mov r12, rdi",
        "shr r12, 12",
        "mov ebx, 12",
        "2: mov eax, 7",
        "mov rdi, rbx",
        "mov esi, 1",
        "vmcall",
        "inc rbx",
        "cmp rbx, r12",
        "jb 2b",
        "mov eax, 2",
        "mov edi, 77",
        "vmcall";
}

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(match name {
        "unknown" => Deed::Check(unknown),
        "bad-devices" => Deed::Check(bad_devices),
        "give-back-refused" => Deed::Check(give_back_refused),
        "give-back-code" => Deed::Check(give_back_code),
        "give-back-stack" => Deed::Check(give_back_stack),
        "give-back-huge" => Deed::Check(give_back_huge),
        "give-back-all" => return act(name).map(|act| Deed::Act(act, memory_bytes)),
        "take-refused" => Deed::Check(take_refused),
        "registers" => Deed::Check(registers),
        "alarm-past" => Deed::Check(alarm_past),
        "alarm-sweep" => Deed::Check(alarm_sweep),
        "idle-past" => Deed::Check(idle_past),
        "kick-storm" => Deed::Check(kick_storm),
        "fault-return-outside" => Deed::Check(fault_return_outside),
        "upcall-return-outside" => Deed::Check(upcall_return_outside),
        _ => return act(name).map(|act| Deed::Act(act, nothing)),
    })
}

fn unknown() -> Result<(), Escape> {
    let ask = |number| {
        let answer = hypercall(number, number, !number);
        Escape::unless(answer == ERROR_UNKNOWN, "a number that is no hypercall was not answered with an error", number)
    };
    (number::TAKE + 1..5_000).try_for_each(ask)?;
    for bit in 4..64 {
        ask(1 << bit)?;
        ask(((1 << bit) - 1) | 1 << 63)?;
        // The low half looks like a hypercall.
        (0..=number::TAKE).filter(|_| bit >= 32).try_for_each(|low| ask(1 << bit | low))?;
    }
    let mut noise = Noise::new(1);
    (0..5_000).try_for_each(|_| ask(noise.word() | 1 << 40))?;
    ask(u64::MAX)
}

fn bad_devices() -> Result<(), Escape> {
    for device in (device::CONSOLE + 1..1_000).chain((8..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
        let answer = hypercall(number::KICK, device, device);
        Escape::unless(answer == ERROR_ARGUMENT, "a device that there is not was kicked without an error", device)?;
    }
    Ok(())
}

/// Gives one page back: what came of it.
fn give_back(page: u64, count: u64) -> u64 {
    hypercall(number::GIVE_BACK, page, count)
}

fn give_back_refused() -> Result<(), Escape> {
    let pages = memory_bytes() / PAGE;
    let (rx, tx) = super::nic::slots();
    let first_own = NIC_BASE / PAGE + abi::nic::nic_pages(rx, tx);
    for page in (0..first_own).chain(pages..pages + 64) {
        Escape::unless(give_back(page, 1) >= ERROR_MIN, "a page was given back that cannot be", page)?;
    }
    Escape::unless(peek64(register!(magic)) == abi::guest::MAGIC, "the register page is gone", peek64(register!(magic)))
}

fn take_refused() -> Result<(), Escape> {
    let pages = memory_bytes() / PAGE;
    let code = take_refused as *const () as u64 / PAGE;
    for (first, count) in [
        (0, 1),
        (code, 1),
        (pages, 1),
        (pages - 1, 2),
        (pages - 1, u64::MAX),
        (u64::MAX, 1),
        (0, u64::MAX),
        (code, 0x1000),
    ] {
        let answer = hypercall(number::TAKE, first, count);
        Escape::unless(answer >= ERROR_MIN, "a page was taken that cannot be", first)?;
    }
    Ok(())
}

fn give_back_huge() -> Result<(), Escape> {
    let pages = memory_bytes() / PAGE;
    let last = pages - 1;
    for (first, count) in [
        (0, u64::MAX),
        (last, 2),
        (last, u64::MAX),
        (last, 0_u64.wrapping_sub(last)),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (u64::MAX - 5, 100),
        (1 << 52, 1),
        (1 << 32 | last, 1),
        (last, 1 << 32 | 1),
        (last, 1 << 63),
    ] {
        Escape::unless(give_back(first, count) >= ERROR_MIN, "a range was given back that cannot be", count)?;
    }
    // What was in order stays so.
    Escape::unless(give_back(last, 1) < ERROR_MIN, "the last page cannot be given back", last)?;
    Escape::unless(give_back(last, 0) < ERROR_MIN, "no page at all cannot be given back", last)
}

fn give_back_code() -> Result<(), Escape> {
    unsafe extern "sysv64" {
        /// The first instruction of the guest (Ilwaco's entry).
        fn _start();
    }
    let here = offset((give_back_code as fn() -> Result<(), Escape>) as *const () as usize) / PAGE;
    let start = offset((_start as unsafe extern "sysv64" fn()) as *const () as usize) / PAGE;
    for page in start.min(here)..=here + 1 {
        give_back(page, 1);
    }
    // Pages of the heap that hold nothing.
    let pages = memory_bytes() / PAGE;
    for page in pages - 512..pages {
        // SAFETY: the heap ends far below.
        unsafe { poke64(page * PAGE, page) };
        Escape::unless(give_back(page, 1) == 1, "a page of its own was not freed", page)?;
        Escape::unless(peek64(page * PAGE) == 0, "a page that was given back is not zero", page)?;
    }
    Ok(())
}

/// Moves the stack into the page in RDI, gives that page back, and stores what a pop finds at RDI's neighbour RDI + 4096.
#[unsafe(naked)]
unsafe extern "sysv64" fn lose_stack(_: u64) {
    naked_asm!(
        "mov r12, rsp",
        "mov r13, rdi",
        "lea rsp, [rdi + 2048]",
        "push 0x1234567",
        "mov eax, 7",
        "shr rdi, 12",
        "mov esi, 1",
        "vmcall",
        "pop rcx",
        "mov rsp, r12",
        "mov [r13 + 4096], rcx",
        "ret",
    )
}

fn give_back_stack() -> Result<(), Escape> {
    let found = scratch(1);
    // SAFETY: a scratch page.
    unsafe { poke64(found, 1) };
    Escape::unless_quiet(attempt(lose_stack, scratch(0)), "a fault")?;
    Escape::unless(peek64(found) == 0, "the stack holds something after it was given back", peek64(found))
}

/// Fills all registers, makes the hypercall whose number and arguments are at RDI, and stores the registers behind them.
#[unsafe(naked)]
unsafe extern "sysv64" fn hypercall_with_pattern(_: u64) {
    naked_asm!(
        "push rdi",
        "mov rax, [rdi]",
        "mov rbx, 0x1111111111111111",
        "mov rcx, 0x2222222222222222",
        "mov rdx, 0x3333333333333333",
        "mov rsi, [rdi + 16]",
        "mov rbp, 0x6666666666666666",
        "mov r8, 0x8888888888888888",
        "mov r9, 0x9999999999999999",
        "mov r10, 0xaaaaaaaaaaaaaaaa",
        "mov r11, 0xbbbbbbbbbbbbbbbb",
        "mov r12, 0xcccccccccccccccc",
        "mov r13, 0xdddddddddddddddd",
        "mov r14, 0xeeeeeeeeeeeeeeee",
        "mov r15, 0xffffffffffffffff",
        "mov rdi, [rdi + 8]",
        "vmcall",
        "xchg rdi, [rsp]",
        "mov [rdi + 24], rbx",
        "mov [rdi + 32], rcx",
        "mov [rdi + 40], rdx",
        "mov [rdi + 48], rsi",
        "mov [rdi + 56], rbp",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop rax",
        "mov [rdi + 128], rax",
        "ret",
    )
}

fn registers() -> Result<(), Escape> {
    let place = scratch(SCRATCH_PAGES - 1);
    for (number, first, second) in [
        (number::NOP, 7, 8),
        (number::KICK, device::NIC, 9),
        (number::KICK, device::CONSOLE, 10),
        (number::ALARM, u64::MAX, 11),
        (number::IDLE, 0, 12),
        (number::IDLE, 1, 13),
        (u64::MAX, 14, 15),
    ] {
        for (index, value) in [number, first, second].into_iter().enumerate() {
            // SAFETY: a scratch page.
            unsafe { poke64(place + offset(index) * 8, value) };
        }
        Escape::unless_quiet(attempt(hypercall_with_pattern, place), "a fault")?;
        let expected = [1, 2, 3, second, 6, 8, 9, 10, 11, 12, 13, 14, 15].into_iter().enumerate();
        for (index, digit) in expected {
            // The arguments are small numbers; what else is in a register is one digit sixteen times.
            let expected = if index == 3 { second } else { 0x1111_1111_1111_1111 * digit };
            let found = peek64(place + 24 + offset(index) * 8);
            Escape::unless(found == expected, "a register was changed by a hypercall to", found)?;
        }
        Escape::unless(peek64(place + 128) == first, "RDI was changed by a hypercall", peek64(place + 128))?;
    }
    Ok(())
}

/// Takes no interrupts, and forgets what is pending.
fn quiet() {
    set32(register!(upcalls_on), 0);
    set64(register!(pending), 0);
}

fn alarm_past() -> Result<(), Escape> {
    quiet();
    set64(register!(enabled), pending::ALARM);
    for round in 0..10_000 {
        let answer = hypercall(number::ALARM, round, 0);
        Escape::unless(answer == 0, "ALARM fails", answer)?;
    }
    wait_for_alarm()
}

/// The last alarm was in the past, so it is pending before long.
fn wait_for_alarm() -> Result<(), Escape> {
    for _ in 0..1_000 {
        if peek64(register!(pending)) & pending::ALARM != 0 {
            return Ok(());
        }
        yield_turn();
    }
    Escape::because("the alarm does not come", peek64(register!(pending)))
}

fn alarm_sweep() -> Result<(), Escape> {
    quiet();
    set64(register!(enabled), pending::ALARM);
    for bit in 0..64 {
        for near in [0, 1, u64::MAX] {
            hypercall(number::ALARM, (1_u64 << bit).wrapping_add(near), 0);
            yield_turn();
        }
    }
    quiet();
    hypercall(number::ALARM, tsc(), 0);
    wait_for_alarm()
}

fn idle_past() -> Result<(), Escape> {
    quiet();
    set64(register!(enabled), 0);
    for round in 0..10_000 {
        hypercall(number::IDLE, round, 0);
    }
    Ok(())
}

fn kick_storm() -> Result<(), Escape> {
    for _ in 0..10_000 {
        for device in [device::NIC, device::CONSOLE] {
            let answer = hypercall(number::KICK, device, 0);
            Escape::unless(answer == 0, "KICK fails", answer)?;
        }
    }
    Ok(())
}

fn fault_return_outside() -> Result<(), Escape> {
    for _ in 0..100 {
        let answer = hypercall(number::FAULT_RETURN, 0, 0);
        Escape::unless(answer == ERROR_STATE, "FAULT_RETURN outside of a fault is no error but", answer)?;
    }
    Ok(())
}

/// Writes an upcall record (its address is in RDI) that leads behind the hypercall, and returns from the upcall that never was.
#[unsafe(naked)]
unsafe extern "sysv64" fn forge_upcall(_: u64) {
    naked_asm!(
        "lea rax, [rip + 2f]",
        "mov [rdi], rax",
        "mov [rdi + 8], rsp",
        "mov qword ptr [rdi + 16], 2",
        "mov eax, {upcall_return}",
        "vmcall",
        "ud2",
        "2:",
        "ret",
        upcall_return = const number::UPCALL_RETURN,
    )
}

fn upcall_return_outside() -> Result<(), Escape> {
    quiet();
    set64(register!(upcall_entry), 0);
    for _ in 0..100 {
        Escape::unless_quiet(attempt(forge_upcall, register!(upcall)), "a fault")?;
    }
    quiet();
    Ok(())
}

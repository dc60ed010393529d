//! Addresses that are not the guest's, page tables, its own code.

use super::{Deed, Escape, acts, nothing};
use crate::catch::{Act, Caught, attempt};
use crate::machine::{PAGE, hypercall, memory_bytes, offset, peek64, poke64, scratch};
use abi::guest::hypercall::{GIVE_BACK, TAKE};
use abi::guest::{FAULT_ADDRESS, NIC_BASE, PAGE_TABLES, TAKE_MAX};
use core::arch::{global_asm, naked_asm};

acts! {
    "read" => read: "mov rax, [rdi]";
    "write" => write: "mov qword ptr [rdi], 0";
    "jump" => jump: "jmp rdi";
    "push" => push: "mov rcx, rsp", "mov rsp, rdi", "push rax", "mov rsp, rcx";
    "push-forever" => push_forever: "2: push rax", "jmp 2b";
    "load-cr3" => load_cr3: "mov cr3, rdi";
    "call" => call: "call rdi";
    "invalidate" => invalidate: "invlpg [rdi]";
    "reload" => reload: "mov rax, cr3", "mov cr3, rax";
}

// Two pages of code that differ in one instruction: the hypercall that does nothing, and what is none.
global_asm!(
    ".pushsection .text.hostile_pages, \"ax\", @progbits",
    ".balign 4096",
    ".globl hostile_page_with_vmcall",
    "hostile_page_with_vmcall: xor eax, eax",
    "vmcall",
    "ret",
    ".balign 4096",
    ".globl hostile_page_with_ud2",
    "hostile_page_with_ud2: xor eax, eax",
    "ud2",
    "nop",
    "ret",
    ".balign 4096",
    ".popsection",
);

unsafe extern "sysv64" {
    fn hostile_page_with_vmcall();
    fn hostile_page_with_ud2();
}

/// What is neither an address of 48 bits nor one of 57.
const NON_CANONICAL: u64 = 1 << 62;
/// Where the image and its heap have ended for sure. Ilwaco's heap grows from below and uses some dozen pages.
const FREE_FROM: u64 = 4 << 20;
/// So far below anything on the stack, which has 32 KiB, there is the hole of 64 KiB.
const GUARD_BELOW: u64 = 48 << 10;
/// Present and writable; and a leaf of 1 GiB.
const TABLE: u64 = 0x3;
const HUGE: u64 = 0x83;
/// #UD.
const INVALID_OPCODE: u32 = 6;

fn beyond() -> u64 {
    memory_bytes() + 0x1000
}

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    const fn at(act: Act, address: fn() -> u64) -> Deed {
        Deed::Act(act, address)
    }
    Some(match name {
        "read-beyond" => at(read, beyond),
        "write-beyond" => at(write, beyond),
        "execute-beyond" => at(jump, beyond),
        "read-across-end" => at(read, || memory_bytes() - 4),
        "read-apic" => at(read, || 0xfee0_0020),
        "map-apic" => Deed::Fault(map_apic),
        "map-everything" => Deed::Check(map_everything),
        "read-unmapped" => at(read, || 0x7fff_0000_0000),
        "jump-unmapped" => at(jump, || 0x7fff_0000_0000),
        "read-non-canonical" => at(read, || NON_CANONICAL),
        "write-non-canonical" => at(write, || NON_CANONICAL),
        "jump-non-canonical" => at(jump, || NON_CANONICAL),
        "push-non-canonical" => at(push, || NON_CANONICAL),
        "read-core" => at(read, || 0xffff_ffff_8010_0000),
        "jump-data" => at(jump, data_with_ud2),
        "jump-nic" => at(jump, || NIC_BASE + PAGE),
        "read-null" => at(read, || 8),
        "write-null" => at(write, || 8),
        "jump-null" => at(jump, || 0),
        "read-guard" => at(read, guard),
        "self-modify" => at(write, constant_of_probe),
        "probe-text" => Deed::Check(probe_text),
        "reserved-bits" => Deed::Fault(reserved_bits),
        "cr3-reserved" => at(load_cr3, || PAGE_TABLES | 1 << 60),
        "cr3-beyond" => at(load_cr3, beyond),
        "vmcall-remapped" => Deed::Check(vmcall_remapped),
        "no-page-tables" => at(load_cr3, no_page_tables),
        "tables-in-a-loop" => Deed::Check(tables_in_a_loop),
        "stack-overflow" => at(push_forever, nothing),
        "memory-hog" => Deed::Check(memory_hog),
        "memory-hoard" => Deed::Check(memory_hoard),
        "memory-noise" => Deed::Check(memory_noise),
        "memory-patterns" => Deed::Check(memory_patterns),
        "fresh-memory" => Deed::Check(fresh_memory),
        _ => return None,
    })
}

/// Writes a word of a scratch page.
fn put(page: usize, index: usize, value: u64) {
    // SAFETY: scratch pages are used by addresses alone.
    unsafe { poke64(scratch(page) + offset(index) * 8, value) }
}

fn data_with_ud2() -> u64 {
    put(0, 0, 0x0b0f);
    scratch(0)
}

/// Tables of its own: PML4 in scratch page 0, PDPT in page 1, with the first GiB where it was.
fn own_tables() {
    for index in 0..512 {
        put(0, index, 0);
        put(1, index, 0);
    }
    put(0, 0, scratch(1) | TABLE);
    put(1, 0, HUGE);
}

/// Does something under its own tables.
fn under_own_tables<T>(action: impl FnOnce() -> T) -> Result<T, Caught> {
    if let Some(caught) = attempt(load_cr3, scratch(0)) {
        return Err(caught);
    }
    let result = action();
    match attempt(load_cr3, PAGE_TABLES) {
        Some(caught) => Err(caught),
        None => Ok(result),
    }
}

fn map_apic() -> Option<Caught> {
    own_tables();
    put(1, 3, 0xc000_0000 | HUGE);
    under_own_tables(|| attempt(read, 0xfee0_0020)).unwrap_or_else(Some)
}

fn map_everything() -> Result<(), Escape> {
    own_tables();
    for gib in 1..256 {
        put(1, gib, offset(gib) << 30 | HUGE);
    }
    let result = under_own_tables(|| {
        for gib in 1..256_u64 {
            let address = gib << 30;
            for act in [read, write, jump] {
                match attempt(act, address) {
                    Some(Caught { vector: FAULT_ADDRESS, address: at, .. }) if at == address => {}
                    _ => return Escape::because("an address was not refused", address),
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|caught| Escape::because("MOV to CR3 faulted", caught.vector.into()))
}

fn reserved_bits() -> Option<Caught> {
    own_tables();
    // Bits 29..13 of an entry for 1 GiB must be zero (SDM vol. 3, table 4-15).
    put(1, 1, 1 << 30 | 0x2000 | HUGE);
    under_own_tables(|| attempt(read, 1 << 30)).unwrap_or_else(Some)
}

fn tables_in_a_loop() -> Result<(), Escape> {
    own_tables();
    put(0, 1, scratch(0) | TABLE);
    // Every level finds entry 1, which leads to the same page; at last that page is what is read.
    let address = 1 << 39 | 1 << 30 | 1 << 21 | 1 << 12;
    match under_own_tables(|| attempt(read, address)) {
        Ok(None) => Ok(()),
        Ok(Some(caught)) | Err(caught) => Escape::because("a fault", caught.vector.into()),
    }
}

/// An address where a hypercall is, then none, then one again, by the guest's page tables.
fn vmcall_remapped() -> Result<(), Escape> {
    const AT: u64 = 1 << 39;
    /// Table, PDPT, PD and PT of [`AT`] in scratch pages.
    const PDPT: usize = 2;
    const PD: usize = 3;
    const PT: usize = 4;
    own_tables();
    for (page, next) in [(PDPT, PD), (PD, PT)] {
        put(page, 0, scratch(next) | TABLE);
    }
    put(0, 1, scratch(PDPT) | TABLE);
    let page = |code: unsafe extern "sysv64" fn()| offset(code as *const () as usize);
    let (with, without) = (page(hostile_page_with_vmcall), page(hostile_page_with_ud2));
    let result = under_own_tables(|| {
        for flush in [invalidate, reload] {
            // Often enough that whoever remembers places remembers this one.
            for (code, times) in [(with, 3), (without, 2), (with, 3)] {
                put(PT, 0, code | TABLE);
                attempt(flush, AT);
                for _ in 0..times {
                    let vector = attempt(call, AT).map(|caught| caught.vector);
                    let expected = (code == without).then_some(INVALID_OPCODE);
                    let found = vector.map_or(0, u64::from);
                    Escape::unless(vector == expected, "a page of code was taken for another: vector", found)?;
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|caught| Escape::because("MOV to CR3 faulted", caught.vector.into()))
}

fn no_page_tables() -> u64 {
    // SAFETY: no Rust object lies in the page tables.
    unsafe { poke64(PAGE_TABLES, 0) };
    PAGE_TABLES
}

/// Returns 1, unless somebody has changed its second byte.
#[unsafe(naked)]
unsafe extern "sysv64" fn probe() -> u32 {
    naked_asm!(".byte 0xb8, 1, 0, 0, 0", "ret")
}

fn call_probe() -> u64 {
    let probe = core::hint::black_box(probe as unsafe extern "sysv64" fn() -> u32);
    // SAFETY: it keeps to the calling convention whatever its constant is.
    u64::from(unsafe { probe() })
}

/// Address of the constant in `probe`, which nothing but its caller knows.
fn constant_of_probe() -> u64 {
    offset((probe as unsafe extern "sysv64" fn() -> u32) as *const () as usize) + 1
}

fn probe_text() -> Result<(), Escape> {
    Escape::unless(call_probe() == 1, "another VM has changed its code: it finds", call_probe())
}

/// A page of the hole below Ilwaco's stack, which is as large as the stack and more.
fn guard() -> u64 {
    let here = 0_u8;
    offset((&raw const here).addr()) - GUARD_BELOW
}

fn memory_hog() -> Result<(), Escape> {
    let end = memory_bytes();
    let mut address = FREE_FROM;
    while address < end {
        // SAFETY: the heap ends below.
        unsafe { poke64(address, 0x7365_6372_6574_2100 ^ address) };
        address += PAGE;
    }
    let mut address = FREE_FROM;
    while address < end {
        Escape::unless(
            peek64(address) == 0x7365_6372_6574_2100 ^ address,
            "a page does not hold what was written",
            address,
        )?;
        address += PAGE;
    }
    Ok(())
}

/// Pages of its reserve that a hoarder leaves for what its own heap and rings may still need: one that has put all of it into its hoard
/// would be ended for the next page that it touches.
const SPARE_PAGES: u64 = 16;

fn memory_hoard() -> Result<(), Escape> {
    let (first, end) = (FREE_FROM / PAGE, memory_bytes() / PAGE);
    let mut page = first;
    while page < end {
        let count = TAKE_MAX.min(end - page);
        let there = hypercall(TAKE, page, count);
        Escape::unless(there <= count, "TAKE has given more than was asked for", there)?;
        page += there;
        if there < count {
            let spare = SPARE_PAGES.min(page - first);
            hypercall(GIVE_BACK, page - spare, spare);
            break;
        }
    }
    Ok(())
}

/// Pages of [`memory_noise`].
const NOISE_PAGES: u64 = 64;

/// The word that it writes to an address: no two are alike, and nothing makes them shorter (SplitMix64).
fn noise(address: u64) -> u64 {
    let word = address.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn memory_noise() -> Result<(), Escape> {
    let words = (FREE_FROM..FREE_FROM + NOISE_PAGES * PAGE).step_by(8);
    if peek64(FREE_FROM) == noise(FREE_FROM) {
        for address in words {
            let is_there = peek64(address) == noise(address);
            Escape::unless(is_there, "a page does not hold what was written the last time", address)?;
        }
        return Ok(());
    }
    for address in words {
        // SAFETY: the heap ends below.
        unsafe { poke64(address, noise(address)) };
    }
    Ok(())
}

/// Two words of each page of its memory that are like no others, and like none of another VM.
fn memory_patterns() -> Result<(), Escape> {
    let own = u64::from(ilwaco::vm_id().slot.number()) << 40;
    let pages = (FREE_FROM..memory_bytes()).step_by(4096);
    let words = pages.flat_map(|page| [page + 8, page + 64 * (1 + (page >> 12) % 63)]);
    if peek64(FREE_FROM + 8) == noise(own | (FREE_FROM + 8)) {
        for address in words {
            let is_there = peek64(address) == noise(own | address);
            Escape::unless(is_there, "a page does not hold what was written the last time", address)?;
        }
        return Ok(());
    }
    for address in words {
        // SAFETY: the heap ends below.
        unsafe { poke64(address, noise(own | address)) };
    }
    Ok(())
}

fn fresh_memory() -> Result<(), Escape> {
    let end = memory_bytes();
    let mut address = FREE_FROM;
    while address < end {
        // Each page's first line, and a line that differs from page to page: all words would take too long.
        let line = address + (address >> 12 & 63) * 64;
        for at in (address..address + 64).step_by(8).chain((line..line + 64).step_by(8)) {
            Escape::unless(peek64(at) == 0, "memory is not zero at", at)?;
        }
        address += PAGE;
    }
    Ok(())
}

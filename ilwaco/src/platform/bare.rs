//! The real machine: hypercalls and fixed addresses.

use crate::cell::global;
use abi::guest::{TAKE_MAX, hypercall};
use abi::limits::PAGE_SIZE;
use abi::nic::{MAX_SLOTS_TOTAL, nic_pages};
use core::arch::asm;
use core::cell::Cell;
use core::ops::Range;
use ring::SharedMemory;

/// Calls the core. `vmcall` changes RAX and nothing else.
#[inline]
fn call(number: u64, first: u64, second: u64) -> u64 {
    let result;
    // SAFETY: every hypercall that comes through here preserves all registers but RAX. The memory that one of them can
    // change is the register page, which no reference points to, and the pages of `GIVE_BACK`, for which
    // `return_memory` answers. No `nomem`: the core reads rings that were written before.
    unsafe {
        asm!("vmcall", inlateout("rax") number => result, in("rdi") first, in("rsi") second, options(nostack));
    }
    result
}

/// Sleeps until something selected is pending, or the TSC reaches `deadline`. Returns the pending mask.
#[inline]
pub(crate) fn idle(deadline: u64) -> u64 {
    call(hypercall::IDLE, deadline, 0)
}

/// Tells the server of a device to look at its rings.
#[inline]
pub(crate) fn kick(device: u64) {
    call(hypercall::KICK, device, 0);
}

/// Ends this VM.
pub(crate) fn exit(code: u64) -> ! {
    loop {
        call(hypercall::EXIT, code, 0);
    }
}

/// Gives whole pages back; they read as at the start when they are touched again. Returns the frames that were freed.
///
/// # Safety
/// Nobody may rely on what is in these pages.
unsafe fn give_back(first_page: u64, pages: u64) -> u64 {
    call(hypercall::GIVE_BACK, first_page, pages)
}

/// The time-stamp counter. Reading it is no exit.
#[inline]
pub(crate) fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC only writes these two registers.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

global! {
    static REGISTERS: Cell<usize> = Cell::new(0);
}

/// The register page lies at this address, says the core.
pub(crate) fn set_registers(address: usize) {
    REGISTERS.with(|registers| registers.set(address));
}

/// The register page.
#[inline]
pub(crate) fn registers() -> SharedMemory {
    at(REGISTERS.with(Cell::get), PAGE_SIZE)
}

/// The NIC page and the slots behind it; what there is of them the NIC page says.
pub(crate) fn nic() -> SharedMemory {
    let Ok(page) = usize::try_from(crate::registers::nic_page()) else { unreachable!() };
    at(page, nic_pages(MAX_SLOTS_TOTAL / 2, MAX_SLOTS_TOTAL / 2) * PAGE_SIZE)
}

/// Control page and request page, where the VM has them.
pub(crate) fn control() -> Option<SharedMemory> {
    let page = usize::try_from(crate::registers::control_page()).ok().filter(|&page| page != 0)?;
    Some(at(page, 2 * PAGE_SIZE))
}

/// Disk page and block slots, where the VM has a virtual disk.
pub(crate) fn disk() -> Option<SharedMemory> {
    let page = usize::try_from(crate::registers::disk_page()).ok().filter(|&page| page != 0)?;
    Some(at(page, abi::guest_disk::PAGES * PAGE_SIZE))
}

#[inline]
fn at(address: usize, bytes: u64) -> SharedMemory {
    let Ok(bytes) = usize::try_from(bytes) else { unreachable!() };
    // SAFETY: the virtual architecture maps these pages for as long as the VM exists, below the image, where no Rust
    // object lies.
    unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(address), bytes) }
}

/// Has the machine give memory to these pages now, instead of when they are first touched. False when it has not as much.
pub(crate) fn take(pages: Range<usize>) -> bool {
    let (Ok(first), Ok(count)) = (u64::try_from(pages.start), u64::try_from(pages.len())) else { return false };
    let end = first.saturating_add(count);
    let mut next = first;
    while next < end {
        let some = TAKE_MAX.min(end - next);
        if call(hypercall::TAKE, next, some) != some {
            return false;
        }
        next += some;
    }
    true
}

/// Has the machine give memory to what a server needs beside its connections, and idle VMs give back: the stack, as deep as it
/// usually is, and the NIC's transmit ring. False when it has not as much.
pub(crate) fn secure_working_memory() -> bool {
    let page = usize::try_from(PAGE_SIZE).unwrap_or(4096);
    let end = crate::entry::stack_top() / page;
    let stack = end.saturating_sub(STACK_PAGES)..end;
    take(stack) && take(crate::net::transmit_pages())
}

/// Pages of stack that requests need, from its upper end.
const STACK_PAGES: usize = 3;

/// Gives back what the heap and the stack do not use just now. Returns the frames that were freed.
pub(crate) fn return_memory() -> u64 {
    let mut freed = 0;
    let mut give = |pages: Range<usize>| {
        let (Ok(first), Ok(count)) = (u64::try_from(pages.start), u64::try_from(pages.len())) else { return };
        // SAFETY: the heap names pages that lie wholly inside free memory and hold none of its own records;
        // `stack_below` names pages that lie below everything that is live on the stack.
        freed += unsafe { give_back(first, count) };
    };
    crate::heap::free_pages(&mut give);
    let stack = stack_below();
    if !stack.is_empty() {
        give(stack);
    }
    freed
}

/// Bytes of stack that are left alone below the one that gives the stack back: many times what the two calls until the
/// hypercall push.
const GIVE_BACK_MARGIN: usize = 1024;

/// Whole pages of the stack below the caller's frame. What lies there is dead; an interrupt cannot use it, since upcalls
/// are off.
#[inline(never)]
fn stack_below() -> Range<usize> {
    let sp: usize;
    // SAFETY: reads RSP.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    let page = usize::try_from(PAGE_SIZE).unwrap_or(4096);
    let bottom = crate::entry::stack_bottom() / page;
    // What is pushed while the pages are given back lies in the margin.
    let end = (sp - GIVE_BACK_MARGIN) / page;
    bottom..end.max(bottom)
}

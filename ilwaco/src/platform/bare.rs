//! The real machine: hypercalls and fixed addresses.

use crate::cell::global;
use abi::guest::{RegisterPage, TAKE_MAX, hypercall};
use abi::limits::PAGE_SIZE;
use abi::nic::{MAX_SLOTS_TOTAL, nic_pages};
use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use core::ops::Range;
use ring::SharedMemory;

/// Calls the core. `vmcall` changes RAX and nothing else.
#[inline]
fn call(number: u64, first: u64, second: u64) -> u64 {
    let result;
    // SAFETY: every hypercall that comes through here preserves all registers but RAX. The memory that one of them can
    // change is the register page, which no reference points to, and the pages of `GIVE_BACK`, for which
    // `give_back`'s caller answers. No `nomem`: the core reads rings that were written before.
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
pub(crate) unsafe fn give_back(first_page: u64, pages: u64) -> u64 {
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

/// Where the register page says at `field` that pages are; `None` where the VM does not have them.
#[inline]
fn page(field: usize) -> Option<usize> {
    usize::try_from(registers().read64(field)?).ok().filter(|&page| page != 0)
}

/// The NIC page and the slots behind it; what there is of them the NIC page says.
pub(crate) fn nic() -> SharedMemory {
    let Some(page) = page(offset_of!(RegisterPage, nic_page)) else { unreachable!("nobody asks without a NIC") };
    at(page, nic_pages(MAX_SLOTS_TOTAL / 2, MAX_SLOTS_TOTAL / 2) * PAGE_SIZE)
}

/// Control page and request page, where the VM has them.
pub(crate) fn control() -> Option<SharedMemory> {
    Some(at(page(offset_of!(RegisterPage, control_page))?, 2 * PAGE_SIZE))
}

/// Disk page and block slots, where the VM has a virtual disk.
pub(crate) fn disk() -> Option<SharedMemory> {
    Some(at(page(offset_of!(RegisterPage, disk_page))?, abi::guest_disk::PAGES * PAGE_SIZE))
}

#[inline]
fn at(address: usize, bytes: u64) -> SharedMemory {
    let Ok(bytes) = usize::try_from(bytes) else { unreachable!() };
    // SAFETY: the virtual architecture maps these pages for as long as the VM exists, below the image, where no Rust
    // object lies.
    unsafe { SharedMemory::new(core::ptr::with_exposed_provenance_mut(address), bytes) }
}

/// Has the machine give memory to these pages now, instead of when they are first touched. How many of them, the first ones, have some: fewer where it
/// has not as much.
pub(crate) fn take(pages: Range<usize>) -> usize {
    let wanted = pages.len();
    let (Ok(first), Ok(count)) = (u64::try_from(pages.start), u64::try_from(wanted)) else { return 0 };
    let mut taken = 0;
    while taken < count {
        let some = TAKE_MAX.min(count - taken);
        // More than there were: an error. They are not the VM's.
        let there = Some(call(hypercall::TAKE, first + taken, some)).filter(|&there| there <= some).unwrap_or(0);
        taken += there;
        if there < some {
            break;
        }
    }
    usize::try_from(taken).unwrap_or(0)
}

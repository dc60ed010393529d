//! The guest's one stack.

use abi::limits::PAGE_SIZE;
use core::arch::asm;
use core::ops::Range;

/// Bytes of the stack. Only pages that were touched cost memory, and they are given back when the VM is quiet.
pub(crate) const STACK_BYTES: usize = 32 * 1024;
#[repr(C, align(4096))]
pub(crate) struct Stack(core::cell::UnsafeCell<[u64; STACK_BYTES / 8]>);

// SAFETY: nobody looks at it but the CPU, through RSP.
unsafe impl Sync for Stack {}

/// The linker script puts it below everything else that is written, and a hole below it: the compiler touches every page of
/// what a function takes of the stack, from above, so whatever is too large ends in the hole.
#[unsafe(link_section = ".bss.stack")]
pub(crate) static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_BYTES / 8]));

/// Address of the lowest byte.
pub(crate) fn bottom() -> usize {
    STACK.0.get().addr()
}

fn page() -> usize {
    usize::try_from(PAGE_SIZE).unwrap_or(4096)
}

/// Numbers of the `count` pages at its upper end, which are in use first.
pub(crate) fn upper_pages(count: usize) -> Range<usize> {
    let end = (bottom() + STACK_BYTES) / page();
    end.saturating_sub(count)..end
}

/// Bytes of stack that are left alone below the one that gives the stack back: many times what the two calls until the
/// hypercall push.
const GIVE_BACK_MARGIN: usize = 512;

/// Numbers of whole pages below the caller's frame. What lies there is dead; an interrupt cannot use it, since upcalls are off.
#[inline(never)]
pub(crate) fn dead_pages() -> Range<usize> {
    let sp: usize;
    // SAFETY: reads RSP.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    let bottom = bottom() / page();
    // What is pushed while the pages are given back lies in the margin.
    let end = (sp - GIVE_BACK_MARGIN) / page();
    bottom..end.max(bottom)
}

//! Memory between this VM and the machine: what must be there, and what is given back.

use crate::platform;
#[cfg(target_os = "none")]
use {crate::heap, crate::stack, core::ops::Range};

/// Pages of the stack that requests need, from its upper end.
pub(crate) const STACK_PAGES: usize = 3;

/// Has the machine give memory to the stack, as deep as it usually is: idle VMs give it back. False when it has not as much.
#[cfg(target_os = "none")]
pub(crate) fn secure_stack() -> bool {
    let pages = stack::upper_pages(STACK_PAGES);
    platform::take(pages.clone()) == pages.len()
}

/// Whether the machine has memory for the stack.
#[cfg(not(target_os = "none"))]
pub(crate) fn secure_stack() -> bool {
    platform::has_pages()
}

/// Gives back what the heap and the stack do not use just now, and connections were not promised. Returns the frames that were freed.
#[cfg(target_os = "none")]
pub(crate) fn return_memory() -> u64 {
    let mut freed = 0;
    let mut give = |pages: Range<usize>| {
        let (Ok(first), Ok(count)) = (u64::try_from(pages.start), u64::try_from(pages.len())) else { return };
        // SAFETY: the heap names pages that lie wholly inside free memory and hold none of its own records;
        // `dead_pages` names pages that lie below everything that is live on the stack.
        freed += unsafe { platform::give_back(first, count) };
    };
    // Connections that somebody has may go on at any time.
    let kept = heap::promised();
    heap::free_pages(kept, &mut give);
    let mut stack = stack::dead_pages();
    if kept != 0 {
        stack.end = stack.end.min(stack::upper_pages(STACK_PAGES).start).max(stack.start);
    }
    if !stack.is_empty() {
        give(stack);
    }
    freed
}

/// On the host, memory is the program's.
#[cfg(not(target_os = "none"))]
pub(crate) fn return_memory() -> u64 {
    0
}

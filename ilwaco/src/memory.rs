//! Memory between this VM and the machine: what must be there, and what is given back.

use crate::platform;
#[cfg(target_os = "none")]
use {crate::heap, crate::stack, core::ops::Range};

/// Has the machine give memory to the stack, as deep as it usually is: idle VMs give it back. False when it has not as much.
#[cfg(target_os = "none")]
pub(crate) fn secure_stack() -> bool {
    platform::take(stack::working_pages())
}

/// Whether the machine has memory for the stack.
#[cfg(not(target_os = "none"))]
pub(crate) fn secure_stack() -> bool {
    platform::has_memory()
}

/// Gives back what the heap and the stack do not use just now. Returns the frames that were freed.
#[cfg(target_os = "none")]
pub(crate) fn return_memory() -> u64 {
    let mut freed = 0;
    let mut give = |pages: Range<usize>| {
        let (Ok(first), Ok(count)) = (u64::try_from(pages.start), u64::try_from(pages.len())) else { return };
        // SAFETY: the heap names pages that lie wholly inside free memory and hold none of its own records;
        // `dead_pages` names pages that lie below everything that is live on the stack.
        freed += unsafe { platform::give_back(first, count) };
    };
    heap::free_pages(&mut give);
    let stack = stack::dead_pages();
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

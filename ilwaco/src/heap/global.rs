//! The guest's one heap, behind `alloc`.

use super::first_fit::Heap;
use crate::cell::global;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use core::ops::Range;

global! {
    static HEAP: RefCell<Heap> = RefCell::new(Heap::empty());
}

/// Code of a VM whose program freed what was not allocated.
const EXIT_FREE: u64 = 105;

struct Global;

#[global_allocator]
static GLOBAL: Global = Global;

// SAFETY: `Heap` gives out disjoint, aligned ranges; nothing in it unwinds (panics end the VM).
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.with(|heap| heap.borrow_mut().allocate(layout))
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same promise to us.
        let freed = HEAP.with(|heap| unsafe { heap.borrow_mut().deallocate(start, layout) });
        if freed.is_err() {
            broken_promise(start, layout);
        }
    }
}

/// Somebody has freed what is not allocated: nothing of the heap can be relied on any more.
#[cold]
fn broken_promise(start: *mut u8, layout: Layout) -> ! {
    let (bytes, at) = (layout.size(), start.addr());
    crate::console::line(format_args!("double free: {bytes} bytes at {at:#x} are not allocated"));
    crate::exit(EXIT_FREE)
}

/// See [`Heap::init`].
///
/// # Safety
/// As [`Heap::init`].
pub(crate) unsafe fn init(start: *mut u8, size: usize) {
    // SAFETY: the caller keeps the same promise to us.
    HEAP.with(|heap| unsafe { heap.borrow_mut().init(start, size) });
}

/// Has the machine give memory, now instead of when it is first touched, when there may be none, for an allocation of `block` bytes and others behind it of
/// `rest` bytes together: see [`Heap::back`]. False when it has none to give, or the heap is full.
pub(crate) fn secure(block: usize, rest: usize) -> bool {
    HEAP.with(|heap| heap.borrow_mut().back(block, rest, &mut crate::platform::take))
}

/// See [`Heap::take_free_pages`].
pub(crate) fn free_pages(kept: usize, give: &mut impl FnMut(Range<usize>)) {
    HEAP.with(|heap| heap.borrow_mut().take_free_pages(kept, give));
}

/// Bytes of the heap that are allocated, and bytes that it can have.
pub fn heap_usage() -> (usize, usize) {
    HEAP.with(|heap| heap.borrow().usage())
}

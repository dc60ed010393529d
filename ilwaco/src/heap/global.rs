//! The guest's one heap, behind `alloc`.

use super::first_fit::Heap;
use crate::cell::global;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use core::ops::Range;

global! {
    static HEAP: RefCell<Heap> = RefCell::new(Heap::empty());
}

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
        HEAP.with(|heap| unsafe { heap.borrow_mut().deallocate(start, layout) });
    }
}

/// See [`Heap::init`].
///
/// # Safety
/// As [`Heap::init`].
pub(crate) unsafe fn init(start: *mut u8, size: usize) {
    // SAFETY: the caller keeps the same promise to us.
    HEAP.with(|heap| unsafe { heap.borrow_mut().init(start, size) });
}

/// See [`Heap::take_free_pages`].
pub(crate) fn free_pages(give: &mut impl FnMut(Range<usize>)) {
    HEAP.with(|heap| heap.borrow_mut().take_free_pages(give));
}

/// Bytes of the heap that are allocated, and bytes that it can have.
pub fn heap_usage() -> (usize, usize) {
    HEAP.with(|heap| heap.borrow().usage())
}

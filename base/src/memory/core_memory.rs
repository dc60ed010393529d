//! Frames that the core shares, or keeps for good, as memory that can be used safely.

use super::frames::{Frames, Owner};
use super::phys::PhysAddr;
use abi::limits::PAGE_SIZE;
use core::mem::MaybeUninit;
use ring::SharedMemory;

/// The `bytes` from `first` on as memory that others (components, guests, devices) may write at any time.
///
/// Every access through it is atomic or volatile, so what others do cannot break the core, only what it reads: which is
/// an allegation anyhow. Callers pass frames of RAM that they allocated, and drop the result before they free them; a
/// later access would read or write another owner's data, which is why it is kept in structures that die with the frames.
pub fn core_memory(first: PhysAddr, bytes: u64) -> SharedMemory {
    let len = usize::try_from(bytes).unwrap_or(0);
    // SAFETY: the direct map shows all RAM for good, readable and writable outside the core's own text and constants, and
    // no Rust reference is ever made to a frame that goes through here.
    unsafe { SharedMemory::new(first.as_ptr(), len) }
}

/// A table of the core's own, for good: `count` copies of `value`. `None` when there is no room.
pub fn core_slice<T: Copy>(frames: &mut Frames, count: usize, value: T) -> Option<&'static mut [T]> {
    core_slice_below(frames, u64::MAX, count, value)
}

/// The same, below a physical address.
pub fn core_slice_below<T: Copy>(frames: &mut Frames, limit: u64, count: usize, value: T) -> Option<&'static mut [T]> {
    let pages = ((count * size_of::<T>()) as u64).div_ceil(PAGE_SIZE).max(1);
    let first: *mut T = frames.alloc_contiguous(pages, 1, limit, Owner::Core)?.as_ptr();
    for index in 0..count {
        // SAFETY: inside the frames that were just allocated for good, which a page's alignment suits.
        unsafe { first.add(index).write(value) };
    }
    // SAFETY: all `count` elements were written, and nobody else knows the frames.
    Some(unsafe { core::slice::from_raw_parts_mut(first, count) })
}

/// Room for one value of the core's own, for good, so that a large one is made where it stays. `None` when there is none.
pub fn core_room<T>(frames: &mut Frames) -> Option<&'static mut MaybeUninit<T>> {
    const { assert!(align_of::<T>() as u64 <= PAGE_SIZE, "a page's alignment suits it") };
    let pages = (size_of::<T>() as u64).div_ceil(PAGE_SIZE).max(1);
    let room: *mut MaybeUninit<T> = frames.alloc_contiguous(pages, 1, u64::MAX, Owner::Core)?.as_ptr();
    // SAFETY: as many bytes as it has were just allocated for good, aligned, and nobody else knows them; what is in them does not matter.
    Some(unsafe { &mut *room })
}

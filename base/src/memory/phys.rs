//! Physical addresses, and how the core reaches what they name.

use abi::limits::{PAGE_SHIFT, PAGE_SIZE};
use core::fmt;

pub use abi::boot::{DIRECT_MAP, DIRECT_MAP_BYTES};

/// Where physical address 0 is reached.
#[cfg(not(any(test, feature = "fake")))]
#[inline(always)]
const fn direct_map() -> u64 {
    DIRECT_MAP
}

/// Where the memory of the fake machine lies that this thread tests.
#[cfg(any(test, feature = "fake"))]
fn direct_map() -> u64 {
    fake::DIRECT_MAP.get()
}

/// `value` as an index. The core is built for 64-bit machines only.
#[inline]
pub const fn index(value: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    // The sizes are equal: nothing is cut.
    #[allow(clippy::cast_possible_truncation)]
    {
        value as usize
    }
}

/// A physical (machine) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// The address as it is; nothing is promised about what is there.
    #[inline]
    pub const fn new(address: u64) -> Self {
        PhysAddr(address)
    }

    /// The first byte of the frame with this number.
    #[inline]
    pub const fn from_frame(number: u64) -> Self {
        PhysAddr(number << PAGE_SHIFT)
    }

    /// The address of what lies in the direct map.
    #[inline]
    pub fn of<T>(pointer: *const T) -> Self {
        PhysAddr((pointer.addr() as u64).wrapping_sub(direct_map()))
    }

    /// As a number.
    #[inline]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Number of the frame that the address lies in.
    #[inline]
    pub const fn frame(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// The address `bytes` further on.
    #[inline]
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        PhysAddr(self.0 + bytes)
    }

    /// True at the first byte of a frame.
    #[inline]
    pub const fn is_page_aligned(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }

    /// Where the core sees it, in the direct map. Whoever reads or writes through the pointer must know that it is RAM
    /// (or the legacy area below 1 MiB) and that nobody else uses it.
    #[inline]
    pub fn as_ptr<T>(self) -> *mut T {
        core::ptr::with_exposed_provenance_mut(index(direct_map() + self.0))
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Fills a frame with zeros.
///
/// # Safety
/// `frame` is RAM in the direct map, page-aligned, and the caller alone uses it.
#[inline]
pub unsafe fn zero_frame(frame: PhysAddr) {
    let to: *mut u64 = frame.as_ptr();
    // SAFETY: by this function's contract the 4096 bytes are the caller's. DF is clear by the calling convention.
    unsafe {
        core::arch::asm!("rep stosq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") to => _, in("rax") 0_u64,
            options(nostack, preserves_flags));
    }
}

/// Copies a frame.
///
/// # Safety
/// Both are RAM in the direct map, page-aligned and different; the caller alone uses `to`, and nobody writes `from`
/// meanwhile.
#[inline]
pub unsafe fn copy_frame(from: PhysAddr, to: PhysAddr) {
    let (source, target): (*mut u64, *mut u64) = (from.as_ptr(), to.as_ptr());
    // SAFETY: by this function's contract. DF is clear by the calling convention.
    unsafe {
        core::arch::asm!("rep movsq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") target => _, inout("rsi") source => _,
            options(nostack, preserves_flags));
    }
}

#[cfg(any(test, feature = "fake"))]
pub mod fake {
    //! Memory of the host in place of a machine's, for tests.

    use super::{PhysAddr, index};
    use abi::limits::PAGE_SIZE;
    use core::cell::Cell;
    use std::thread_local;

    /// What a frame holds that was freed: nobody may write there any more.
    const POISON: u64 = 0xdead_f00d_dead_f00d;

    thread_local! {
        /// Each test has a machine of its own.
        pub static DIRECT_MAP: Cell<u64> = const { Cell::new(super::DIRECT_MAP) };
    }

    /// The words of a frame, where this thread tests a machine that has memory.
    fn words(frame: PhysAddr) -> Option<&'static mut [u64]> {
        let words = index(PAGE_SIZE / 8);
        // SAFETY: the fake machine's memory outlives the test; the frame is free, so nobody refers to it.
        (DIRECT_MAP.get() != super::DIRECT_MAP)
            .then(|| unsafe { core::slice::from_raw_parts_mut(frame.as_ptr(), words) })
    }

    /// The frame is free.
    pub fn poison(frame: PhysAddr) {
        if let Some(words) = words(frame) {
            words.fill(POISON);
        }
    }

    /// The frame is given away: nobody has written to it since it was freed, if ever it was.
    pub fn check_poison(frame: PhysAddr) {
        if let Some(words) = words(frame) {
            let expected = if words[0] == 0 { 0 } else { POISON };
            let changed = words.iter().position(|&word| word != expected);
            assert_eq!(changed, None, "frame {frame} was written to after it had been freed: {words:x?}");
        }
    }
}

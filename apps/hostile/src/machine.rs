//! The machine as a guest finds it, without anything that Ilwaco would keep it from doing.

use abi::guest::{NIC_BASE, REGISTER_PAGE, hypercall};
use core::arch::asm;

/// A hypercall with any number and arguments.
#[inline]
pub fn hypercall(number: u64, first: u64, second: u64) -> u64 {
    let result;
    // SAFETY: the hypercalls that are made through here preserve all registers but RAX; those that take memory away are
    // given none that Rust uses, by whoever commits such a crime.
    unsafe {
        asm!("vmcall", inlateout("rax") number => result, in("rdi") first, in("rsi") second, options(nostack));
    }
    result
}

/// Gives the rest of the turn up: an idle until a time that has gone by.
pub fn yield_turn() {
    hypercall(hypercall::IDLE, 0, 0);
}

/// The time-stamp counter.
#[inline]
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC only writes these two registers.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

macro_rules! access {
    ($peek:ident, $poke:ident, $type:ty, $class:ident, $read:literal, $write:literal) => {
        /// Reads a word anywhere, also where no Rust object may be (address 0). What comes of it is the crime.
        pub fn $peek(address: u64) -> $type {
            let value;
            // SAFETY: a read changes no memory; where nothing can be read, the fault handler of `catch` goes on.
            unsafe { asm!($read, out($class) value, in(reg) address, options(nostack, preserves_flags, readonly)) };
            value
        }

        /// Writes a word anywhere.
        ///
        /// # Safety
        /// No Rust object is there but those that only this function and its counterpart use.
        pub unsafe fn $poke(address: u64, value: $type) {
            // SAFETY: upheld by the caller.
            unsafe { asm!($write, in($class) value, in(reg) address, options(nostack, preserves_flags)) };
        }
    };
}

access!(peek64, poke64, u64, reg, "mov {0}, [{1}]", "mov [{1}], {0}");
access!(peek32, poke32, u32, reg, "mov {0:e}, [{1}]", "mov [{1}], {0:e}");
access!(peek16, poke16, u16, reg, "mov {0:x}, word ptr [{1}]", "mov word ptr [{1}], {0:x}");
access!(peek8, poke8, u8, reg_byte, "mov {0}, [{1}]", "mov [{1}], {0}");

/// Address of a field of the register page.
#[macro_export]
#[doc(hidden)]
macro_rules! register {
    ($name:ident) => {
        abi::guest::REGISTER_PAGE + $crate::machine::offset(core::mem::offset_of!(abi::guest::RegisterPage, $name))
    };
}

/// Address of what lies at this offset in the register page, for assembly.
pub const fn place(offset: usize) -> u64 {
    // Widening only; `u64::from` is not const.
    #[allow(clippy::cast_lossless)]
    let offset = offset as u64;
    REGISTER_PAGE + offset
}

/// An offset, a length or an address as the machine counts.
pub fn offset(offset: usize) -> u64 {
    // No target has a `usize` of more than 64 bits.
    u64::try_from(offset).unwrap_or(u64::MAX)
}

/// Bytes of this VM's memory.
pub fn memory_bytes() -> u64 {
    peek64(register!(memory_bytes))
}

/// Writes a word of the register page or of the NIC's pages, where no Rust object lies.
pub fn set64(address: u64, value: u64) {
    debug_assert!((REGISTER_PAGE..abi::guest::PAGE_TABLES).contains(&address) || address >= NIC_BASE);
    // SAFETY: the virtual architecture puts its pages below the image.
    unsafe { poke64(address, value) }
}

/// See [`set64`].
pub fn set32(address: u64, value: u32) {
    // SAFETY: as above.
    unsafe { poke32(address, value) }
}

/// Memory that is only used by [`poke64`] and the like: pages that are a crime's own. Address of the page number `index`.
///
/// It lies in the image's `.bss`, so untouched pages cost nothing.
pub fn scratch(index: usize) -> u64 {
    offset(SCRATCH.0.get().expose_provenance()) + offset(index % SCRATCH_PAGES) * PAGE
}

/// Pages of [`scratch`].
pub const SCRATCH_PAGES: usize = 8;
/// Bytes of a page.
pub const PAGE: u64 = abi::limits::PAGE_SIZE;

#[repr(C, align(4096))]
struct Scratch(core::cell::UnsafeCell<[u8; SCRATCH_PAGES * 4096]>);

// SAFETY: it is only used through addresses, by assembly.
unsafe impl Sync for Scratch {}

static SCRATCH: Scratch = Scratch(core::cell::UnsafeCell::new([0; SCRATCH_PAGES * 4096]));

/// Numbers without a pattern, the same in every run (xorshift64*, Vigna 2016).
#[derive(Clone, Copy, Debug)]
pub struct Noise(u64);

impl Noise {
    /// From a seed.
    pub const fn new(seed: u64) -> Noise {
        Noise(seed | 1)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

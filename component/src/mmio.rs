//! Device registers.

use core::ptr::NonNull;

/// The registers of one device: 8 to 32 bits wide, bounds-checked, volatile.
#[derive(Debug)]
pub struct Mmio {
    base: NonNull<u32>,
    bytes: usize,
}

// SAFETY: registers have no owning thread; every access is one volatile load or store.
unsafe impl Send for Mmio {}

impl Mmio {
    /// The registers at `base`.
    ///
    /// # Safety
    ///
    /// `base` is 4-byte aligned, and `bytes` from there are mapped device memory (or, in tests, plain memory) for as long
    /// as the value lives, to which no Rust reference exists.
    pub unsafe fn new(base: NonNull<u32>, bytes: usize) -> Self {
        Mmio { base, bytes }
    }

    /// Bytes of registers.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The `bytes` of registers from `offset` on, which is a multiple of four; `None` where they are not all there.
    pub fn sub(&self, offset: usize, bytes: usize) -> Option<Mmio> {
        let fits = offset.is_multiple_of(4) && offset <= self.bytes && bytes <= self.bytes - offset;
        // SAFETY: the offset lies within the registers, or is their end, where there are no bytes.
        fits.then(|| Mmio { base: unsafe { self.base.byte_add(offset) }, bytes })
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> NonNull<T> {
        let width = size_of::<T>();
        if !offset.is_multiple_of(width) || offset >= self.bytes || self.bytes - offset < width {
            outside(8 * width, offset, self.bytes);
        }
        // SAFETY: the register lies within the registers as a whole.
        unsafe { self.base.byte_add(offset).cast() }
    }
}

/// A read and a write of one width, from 8 to 32 bits: the base is aligned to 32.
macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        impl Mmio {
            /// Reads the register at the byte `offset`.
            ///
            /// # Panics
            ///
            /// When `offset` is not a multiple of the register's width or lies outside the registers.
            #[inline]
            pub fn $read(&self, offset: usize) -> $type {
                // SAFETY: `at` gives aligned addresses within what `new` was promised.
                unsafe { self.at::<$type>(offset).read_volatile() }
            }

            /// Writes the register at the byte `offset`.
            ///
            /// # Panics
            ///
            /// When `offset` is not a multiple of the register's width or lies outside the registers.
            #[inline]
            pub fn $write(&self, offset: usize, value: $type) {
                // SAFETY: `at` gives aligned addresses within what `new` was promised.
                unsafe { self.at::<$type>(offset).write_volatile(value) }
            }
        }
    };
}

access!(read8, write8, u8);
access!(read16, write16, u16);
access!(read32, write32, u32);

#[cold]
#[inline(never)]
fn outside(bits: usize, offset: usize, bytes: usize) -> ! {
    panic!("no {bits}-bit register at {offset:#x} of {bytes:#x} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(memory: &mut [u32; 4]) -> Mmio {
        // SAFETY: the array lives in the caller, which uses it only through the window meanwhile.
        unsafe { Mmio::new(NonNull::from(memory).cast(), 16) }
    }

    #[test]
    fn reads_what_was_written() {
        let mut memory = [0; 4];
        let mmio = window(&mut memory);
        mmio.write32(12, 7);
        assert_eq!((mmio.read32(12), mmio.read32(8)), (7, 0));
    }

    #[test]
    #[should_panic(expected = "no 32-bit register at 0x10 of 0x10 bytes")]
    fn the_end_is_outside() {
        window(&mut [0; 4]).read32(16);
    }

    #[test]
    fn parts_and_widths() {
        let mut memory = [0; 4];
        let mmio = window(&mut memory);
        mmio.write8(9, 1);
        mmio.write16(10, 2);
        let part = mmio.sub(8, 8).expect("inside");
        assert_eq!((part.read32(0), part.bytes()), (0x2_0100, 8));
        assert!(mmio.sub(8, 9).is_none() && mmio.sub(2, 4).is_none() && mmio.sub(16, 0).is_some());
    }

    #[test]
    #[should_panic(expected = "no 16-bit register at 0x3 ")]
    fn narrow_registers_are_aligned_too() {
        window(&mut [0; 4]).read16(3);
    }

    #[test]
    #[should_panic(expected = "no 32-bit register at 0x2 ")]
    fn registers_are_aligned() {
        window(&mut [0; 4]).write32(2, 0);
    }
}

//! Device registers.

use core::ptr::NonNull;

/// The registers of one device: 32-bit, bounds-checked, volatile.
#[derive(Debug)]
pub struct Mmio {
    base: NonNull<u32>,
    bytes: usize,
}

// SAFETY: registers have no owning thread; every access is one volatile load or store of 32 bits.
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

    #[inline]
    fn at(&self, offset: usize) -> NonNull<u32> {
        if !offset.is_multiple_of(4) || offset >= self.bytes || self.bytes - offset < 4 {
            outside(offset, self.bytes);
        }
        // SAFETY: the offset is a multiple of four and lies, with the three bytes behind it, within the registers.
        unsafe { self.base.byte_add(offset) }
    }

    /// Reads the register at the byte `offset`.
    ///
    /// # Panics
    ///
    /// When `offset` is not a multiple of four or lies outside the registers.
    #[inline]
    pub fn read32(&self, offset: usize) -> u32 {
        // SAFETY: `at` gives aligned addresses within what `new` was promised.
        unsafe { self.at(offset).read_volatile() }
    }

    /// Writes the register at the byte `offset`.
    ///
    /// # Panics
    ///
    /// When `offset` is not a multiple of four or lies outside the registers.
    #[inline]
    pub fn write32(&self, offset: usize, value: u32) {
        // SAFETY: `at` gives aligned addresses within what `new` was promised.
        unsafe { self.at(offset).write_volatile(value) }
    }
}

#[cold]
#[inline(never)]
fn outside(offset: usize, bytes: usize) -> ! {
    panic!("no 32-bit register at {offset:#x} of {bytes:#x} bytes")
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
    #[should_panic(expected = "no 32-bit register at 0x2 ")]
    fn registers_are_aligned() {
        window(&mut [0; 4]).write32(2, 0);
    }
}

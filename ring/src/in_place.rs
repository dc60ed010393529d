//! What is done with shared memory outside the core only: device registers, which take one access of one width, bytes that are used where they lie,
//! and what guests do with their register pages.

use super::SharedMemory;
use core::sync::atomic::Ordering;

macro_rules! volatile {
    ($read:ident, $write:ident, $type:ty) => {
        /// Volatile load: exactly one access of this width.
        #[inline]
        pub fn $read(&self, offset: usize) -> Option<$type> {
            let at = self.at::<$type>(offset)?;
            // SAFETY: `at` gives aligned addresses within the memory, which `new` promises to be mapped.
            Some(unsafe { at.read_volatile() })
        }

        /// Volatile store: exactly one access of this width.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) -> Option<()> {
            let at = self.at::<$type>(offset)?;
            // SAFETY: `at` gives aligned addresses within the memory, which `new` promises to be mapped.
            unsafe { at.write_volatile(value) };
            Some(())
        }
    };
}

impl SharedMemory {
    volatile!(read8, write8, u8);
    volatile!(read16, write16, u16);
    volatile!(read32, write32, u32);
    volatile!(read64, write64, u64);

    /// Atomic and; returns what was there.
    #[inline]
    pub fn fetch_and64(&self, offset: usize, bits: u64) -> Option<u64> {
        Some(self.atomic64(offset)?.fetch_and(bits, Ordering::AcqRel))
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// While the slice lives, nobody may write to these bytes. A guest that reads a received frame in place relies on the
    /// network demultiplexer for that, which it has to trust with its packets anyway; a program that serves somebody whom it
    /// does not trust must copy instead.
    pub unsafe fn view<'a>(&self, offset: usize, len: usize) -> Option<&'a [u8]> {
        let at = self.range(offset, len)?;
        // SAFETY: mapped by `range` and `new`; not written to, says the caller.
        Some(unsafe { core::slice::from_raw_parts(at, len) })
    }

    /// The bytes in place, to be written.
    ///
    /// # Safety
    /// While the slice lives, nobody else may read or write these bytes.
    pub unsafe fn view_mut<'a>(&self, offset: usize, len: usize) -> Option<&'a mut [u8]> {
        let at = self.range(offset, len)?;
        // SAFETY: mapped by `range` and `new`; exclusive, says the caller.
        Some(unsafe { core::slice::from_raw_parts_mut(at, len) })
    }
}

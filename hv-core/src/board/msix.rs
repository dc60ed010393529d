//! What stands in the table of MSI-X (PCI Local Bus 3.0, section 6.8.2).

use core::ptr::NonNull;

const ENTRY_WORDS: usize = 4;
/// Words of an entry of the table: address, its upper half, data, control. Bit 0 of the control masks.
pub const CONTROL: usize = 3;
/// See [`CONTROL`].
pub const MASKED: u32 = 1;

/// The table of a device with MSI-X.
#[derive(Clone, Copy, Debug)]
pub struct MsixTable {
    registers: NonNull<u32>,
    entries: usize,
}

impl MsixTable {
    /// The table at `registers`.
    ///
    /// # Safety
    /// There are `entries` entries of 16 bytes, mapped uncached as long as the core runs, at an address aligned to 4.
    pub unsafe fn new(registers: NonNull<u32>, entries: usize) -> MsixTable {
        MsixTable { registers, entries }
    }

    /// Writes a word of an entry; beyond the table nothing.
    #[inline]
    pub fn write(self, entry: usize, word: usize, value: u32) {
        if entry < self.entries && word < ENTRY_WORDS {
            let at = self.registers.as_ptr().wrapping_add(entry * ENTRY_WORDS + word);
            // SAFETY: it lies in the table by the check and by what `new` was promised. Only vectors of messages are ever
            // written, for which there are handlers.
            unsafe { at.write_volatile(value) };
        }
    }

    /// Lets entry 0 send this message, once it is unmasked, and no other entry anything.
    pub fn set_up(self, address: u32, data: u32) {
        (0..self.entries).for_each(|entry| self.write(entry, CONTROL, MASKED));
        for (word, value) in [address, 0, data].into_iter().enumerate() {
            self.write(0, word, value);
        }
    }
}

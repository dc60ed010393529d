//! The table of MSI-X: where it is, and what stands in it (PCI Local Bus 3.0, section 6.8.2).

use abi::limits::PAGE_SIZE;
use abi::pci::{CAPABILITY_MSIX, Config};
use core::ops::Range;
use core::ptr::NonNull;

const ENTRY_WORDS: usize = 4;
/// Words of an entry of the table: address, its upper half, data, control. Bit 0 of the control masks.
pub const CONTROL: usize = 3;
/// See [`CONTROL`].
pub const MASKED: u32 = 1;
const MSIX_LAST: u16 = 0x7ff;

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

/// Where the table of MSI-X lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixPlace {
    /// The base address register.
    pub bar: u8,
    /// Offset in its region.
    pub offset: u64,
    /// Entries of 16 bytes.
    pub entries: u16,
}

impl MsixPlace {
    /// Where a device with this configuration has its table; `None` without one.
    pub fn of(config: &Config) -> Option<MsixPlace> {
        let at = config.capabilities(CAPABILITY_MSIX).next()?;
        let table = config.word(at.wrapping_add(4));
        let [low, ..] = table.to_le_bytes();
        let entries = (config.half(at.wrapping_add(2)) & MSIX_LAST) + 1;
        Some(MsixPlace { bar: low & 7, offset: u64::from(table & !7), entries })
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> u64 {
        16 * u64::from(self.entries)
    }

    /// The whole pages of its region in which it lies.
    pub fn pages(&self) -> Range<u64> {
        let end = (self.offset + self.bytes()).next_multiple_of(PAGE_SIZE);
        self.offset & !(PAGE_SIZE - 1)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::pci::CONFIG_BYTES;

    #[test]
    fn tables_of_msix() {
        let mut config = Config([0; CONFIG_BYTES]);
        assert_eq!(MsixPlace::of(&config), None);
        config.0[0x06] = 0x10;
        config.0[0x34] = 0x40;
        // Three entries at 0x800 of region 1, enabled.
        config.0[0x40..0x48].copy_from_slice(&[CAPABILITY_MSIX, 0, 2, 0x80, 0x01, 0x08, 0, 0]);
        let place = MsixPlace { bar: 1, offset: 0x800, entries: 3 };
        assert_eq!((MsixPlace::of(&config), place.bytes(), place.pages()), (Some(place), 48, 0..0x1000));
        // It ends in the page after the one where it starts.
        assert_eq!(MsixPlace { offset: 0x1ff0, entries: 2, ..place }.pages(), 0x1000..0x3000);
    }
}

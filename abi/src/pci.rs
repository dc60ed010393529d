//! The configuration space of a PCI function, as the core shows it to the component that drives the function. Section
//! numbers are those of PCI Local Bus 3.0.

use crate::limits::PAGE_SIZE;
use core::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of configuration space that every function has.
pub const CONFIG_BYTES: usize = 256;
/// Capability: message-signalled interrupts (appendix H).
pub const CAPABILITY_MSI: u8 = 0x05;
/// Capability: what only the device's vendor defines.
pub const CAPABILITY_VENDOR: u8 = 0x09;
/// Capability: message-signalled interrupts by a table.
pub const CAPABILITY_MSIX: u8 = 0x11;
/// Message control of MSI-X (section 6.8.2.3), in the upper half of the capability's first word: on.
pub const MSIX_ENABLE: u16 = 1 << 15;

/// Stands for every subclass in the class that a component drives.
pub const ANY_SUBCLASS: u32 = 0xff;
/// Class and subclass of IDE controllers, whose registers are ports.
pub const CLASS_IDE: u32 = 0x0101;
/// Class, subclass and programming interface of AHCI controllers.
pub const CLASS_AHCI: u32 = 0x01_0601;
/// Likewise, of NVMe controllers.
pub const CLASS_NVME: u32 = 0x01_0802;

/// Whether a function with these class, subclass and programming interface (0x00ccsspp) is one of those that `wanted` (0x0000ccss) means.
pub const fn is_of_class(class: u32, wanted: u32) -> bool {
    class >> 8 == wanted || wanted & 0xff == ANY_SUBCLASS && class >> 16 == wanted >> 8
}

const STATUS: u8 = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CAPABILITIES: u8 = 0x34;
/// Capabilities lie behind the header, four bytes each at least.
const HEADER: u8 = 0x40;
const MAX_CAPABILITIES: u8 = 48;

/// A configuration space. Reads beyond the end go on at the start, so none can fail.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config(pub [u8; CONFIG_BYTES]);

/// Bus, device and function: bits 15..8, 7..3, 2..0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u16);

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 31, self.0 & 7)
    }
}

impl Config {
    /// The byte at this offset.
    pub const fn byte(&self, at: u8) -> u8 {
        self.0[at as usize]
    }

    /// The 16 bits at this offset.
    pub const fn half(&self, at: u8) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at.wrapping_add(1))])
    }

    /// The 32 bits at this offset.
    pub const fn word(&self, at: u8) -> u32 {
        let (low, high) = (self.half(at).to_le_bytes(), self.half(at.wrapping_add(2)).to_le_bytes());
        u32::from_le_bytes([low[0], low[1], high[0], high[1]])
    }

    /// The offsets of the capabilities with this id (section 6.7), in the list's order. A list in a circle ends.
    pub fn capabilities(&self, id: u8) -> impl Iterator<Item = u8> + '_ {
        let listed = self.half(STATUS) & STATUS_CAPABILITIES != 0;
        let mut next = if listed { self.byte(CAPABILITIES) & !3 } else { 0 };
        let all = (0..MAX_CAPABILITIES).map_while(move |_| {
            let at = next;
            next = self.byte(at.wrapping_add(1)) & !3;
            (at >= HEADER).then_some(at)
        });
        all.filter(move |&at| self.byte(at) == id)
    }
}

const MSIX_LAST: u16 = 0x7ff;

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

const _: () = {
    assert!(core::mem::size_of::<Config>() == CONFIG_BYTES);
    assert!(HEADER as usize + 4 * MAX_CAPABILITIES as usize == CONFIG_BYTES);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bytes: &[(u8, u8)]) -> Config {
        let mut config = Config([0; CONFIG_BYTES]);
        bytes.iter().for_each(|&(at, byte)| config.0[usize::from(at)] = byte);
        config
    }

    #[test]
    fn capabilities_are_found_in_order() {
        let list = [(0x06, 0x10), (0x34, 0x9b), (0x98, 9), (0x99, 0x40), (0x40, 0x11), (0x41, 0x50), (0x50, 9)];
        let mut config = config(&list);
        assert!(config.capabilities(CAPABILITY_VENDOR).eq([0x98, 0x50]));
        assert!(config.capabilities(CAPABILITY_MSIX).eq([0x40]));
        assert!(config.capabilities(CAPABILITY_MSI).eq([]));
        // Without the status bit there is no list.
        config.0[0x06] = 0;
        assert_eq!(config.capabilities(CAPABILITY_VENDOR).count(), 0);
    }

    #[test]
    fn lists_in_a_circle_end_and_none_leads_into_the_header() {
        let circle = config(&[(0x06, 0x10), (0x34, 0x40), (0x40, 9), (0x41, 0x40)]);
        assert_eq!(circle.capabilities(CAPABILITY_VENDOR).count(), usize::from(MAX_CAPABILITIES));
        let header = config(&[(0x06, 0x10), (0x34, 0x3c), (0x3c, 9)]);
        assert_eq!(header.capabilities(CAPABILITY_VENDOR).count(), 0);
    }

    #[test]
    fn a_class_may_mean_every_subclass() {
        assert!(is_of_class(0x01_0180, 0x0101) && !is_of_class(0x01_0180, 0x0100) && !is_of_class(0x02_0180, 0x0101));
        assert!(is_of_class(0x01_0180, 0x01ff) && is_of_class(0x01_0802, 0x01ff) && !is_of_class(0x02_0000, 0x01ff));
    }

    #[test]
    fn words_are_little_endian_and_wrap() {
        let config = config(&[(0, 1), (1, 2), (254, 3), (255, 4)]);
        assert_eq!((config.word(254), config.half(255)), (0x0201_0403, 0x0104));
    }

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

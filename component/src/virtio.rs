//! How a virtio device shows itself on PCI and is started: vendor capabilities say in which region which structure lies (section 4.1.4 of
//! "Virtual I/O Device (VIRTIO) Version 1.2", OASIS, as all sections here).

mod start;

pub use self::start::{F_VERSION_1, StartError, reg, status};

use crate::Mmio;
use abi::pci::{CAPABILITY_MSIX, CAPABILITY_VENDOR, Config, MSIX_ENABLE};

/// Kinds of structures (section 4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// Access to registers by their byte offset, in the width that each of them has (section 4.1.3.1).
pub trait Registers: Sized {
    /// Reads 8 bits.
    fn read8(&self, offset: usize) -> u8;
    /// Reads 16 bits.
    fn read16(&self, offset: usize) -> u16;
    /// Reads 32 bits.
    fn read32(&self, offset: usize) -> u32;
    /// Writes 8 bits.
    fn write8(&mut self, offset: usize, value: u8);
    /// Writes 16 bits.
    fn write16(&mut self, offset: usize, value: u16);
    /// Writes 32 bits.
    fn write32(&mut self, offset: usize, value: u32);
    /// The `bytes` from `offset` on; `None` where they are not all there, or the offset is no multiple of four.
    fn part(&self, offset: usize, bytes: usize) -> Option<Self>;
}

impl Registers for Mmio {
    fn read8(&self, offset: usize) -> u8 {
        Mmio::read8(self, offset)
    }

    fn read16(&self, offset: usize) -> u16 {
        Mmio::read16(self, offset)
    }

    fn read32(&self, offset: usize) -> u32 {
        Mmio::read32(self, offset)
    }

    fn write8(&mut self, offset: usize, value: u8) {
        Mmio::write8(self, offset, value);
    }

    #[inline]
    fn write16(&mut self, offset: usize, value: u16) {
        Mmio::write16(self, offset, value);
    }

    fn write32(&mut self, offset: usize, value: u32) {
        Mmio::write32(self, offset, value);
    }

    fn part(&self, offset: usize, bytes: usize) -> Option<Self> {
        self.sub(offset, bytes)
    }
}

/// The structures of a device.
pub struct Structures<R> {
    /// Common configuration (section 4.1.4.3).
    pub common: R,
    /// Notifications (section 4.1.4.4): a queue's lies at its offset times `multiplier`.
    pub notify: R,
    /// See `notify`.
    pub multiplier: usize,
    /// Bytes of `notify`.
    pub notify_bytes: usize,
    /// Interrupt status (section 4.1.4.5).
    pub isr: R,
    /// What only this kind of device has (section 4.1.4.6).
    pub device: R,
    /// Interrupts are messages of a table: the device must be told which.
    pub msix: bool,
}

impl<R: Registers> Structures<R> {
    /// Finds the structures of the device with this configuration space. `region` gives the region of a base address
    /// register, where it is mapped. `None` when one of them is missing: the device speaks virtio 0.9 only.
    pub fn find(config: &Config, region: impl Fn(usize) -> Option<R>) -> Option<Self> {
        // The first of a kind that we can use (section 4.1.4.1).
        let find = |kind: u8, least: usize| {
            config.capabilities(CAPABILITY_VENDOR).filter(|&at| config.byte(at.wrapping_add(3)) == kind).find_map(
                |at| {
                    let offset = usize::try_from(config.word(at.wrapping_add(8))).ok()?;
                    let bytes =
                        usize::try_from(config.word(at.wrapping_add(12))).ok().filter(|&bytes| bytes >= least)?;
                    let part = region(config.byte(at.wrapping_add(4)).into())?.part(offset, bytes)?;
                    Some((part, at, bytes))
                },
            )
        };
        let (common, ..) = find(COMMON, 0x38)?;
        let (notify, notify_at, notify_bytes) = find(NOTIFY, 2)?;
        let (isr, ..) = find(ISR, 1)?;
        let (device, ..) = find(DEVICE, 8)?;
        let multiplier = usize::try_from(config.word(notify_at.wrapping_add(16))).ok()?;
        let mut tables = config.capabilities(CAPABILITY_MSIX);
        let msix = tables.next().is_some_and(|at| config.half(at.wrapping_add(2)) & MSIX_ENABLE != 0);
        Some(Structures { common, notify, multiplier, notify_bytes, isr, device, msix })
    }
}

//! The configuration space of PCI functions, by configuration mechanism 1 (PCI Local Bus 3.0, section 3.2.2.3.2).

use abi::pci::{Address, CONFIG_BYTES, Config};
use core::fmt;
use x86::io::{inl, outl};

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

/// Bus, device, function: bits 15..8, 7..3, 2..0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciAddress(pub u16);

impl PciAddress {
    /// Number of the device on its bus.
    pub const fn device(self) -> u8 {
        // Cut out on purpose.
        #[allow(clippy::cast_possible_truncation)]
        {
            (self.0 >> 3 & 31) as u8
        }
    }

    fn select(self, register: u8) {
        let address = 1 << 31 | u32::from(self.0) << 8 | u32::from(register & 0xfc);
        // SAFETY: selects what the data port shows; the core alone uses the pair.
        unsafe { outl(CONFIG_ADDRESS, address) };
    }

    /// Reads a register.
    pub fn read(self, register: u8) -> u32 {
        self.select(register);
        // SAFETY: reading the configuration space of a function changes nothing.
        unsafe { inl(CONFIG_DATA) }
    }

    /// Writes a register.
    ///
    /// # Safety
    /// The caller answers for what the register does.
    pub unsafe fn write(self, register: u8, value: u32) {
        self.select(register);
        // SAFETY: by this function's contract.
        unsafe { outl(CONFIG_DATA, value) };
    }

    /// The whole space.
    pub fn config(self) -> Config {
        let mut bytes = [0; CONFIG_BYTES];
        for (register, word) in (0_u8..=252).step_by(4).zip(bytes.chunks_mut(4)) {
            word.copy_from_slice(&self.read(register).to_le_bytes());
        }
        Config(bytes)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Address(self.0).fmt(f)
    }
}

//! PCI: what devices there are, where their registers lie, and which interrupt they raise. Configuration mechanism 1
//! (PCI Local Bus 3.0, section 3.2.2.3.2).

use super::acpi::AcpiInfo;
use super::ioapic::{Wire, isa_wire};
use super::msix::{MsixPlace, MsixTable};
use crate::memory::PhysAddr;
use abi::pci::{CAPABILITY_MSI, CAPABILITY_MSIX, CONFIG_BYTES, Config, MSIX_ENABLE};
use core::fmt;
use core::ptr::NonNull;
use x86::io::{inl, outl};

/// Devices that are kept at most.
pub const MAX_DEVICES: usize = 32;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const COMMAND: u8 = 0x04;
const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_MASTER: u32 = 1 << 2;
const COMMAND_NO_INTX: u32 = 1 << 10;

/// Message control of MSI-X (section 6.8.2.3), beside [`MSIX_ENABLE`]: all entries masked, and the last entry's number.
const MSIX_MASK_ALL: u16 = 1 << 14;
/// Message control of MSI (section 6.8.1.3): on, number of messages, addresses of 64 bits.
const MSI_ENABLE: u16 = 1;
const MSI_COUNT: u16 = 7 << 4;
const MSI_WIDE: u16 = 1 << 7;

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

    fn read(self, register: u8) -> u32 {
        self.select(register);
        // SAFETY: reading the configuration space of a function changes nothing.
        unsafe { inl(CONFIG_DATA) }
    }

    /// # Safety
    /// The caller answers for what the register does.
    unsafe fn write(self, register: u8, value: u32) {
        self.select(register);
        // SAFETY: by this function's contract.
        unsafe { outl(CONFIG_DATA, value) };
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.device(), self.0 & 7)
    }
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Which one, 0 to 5.
    pub index: u8,
    /// Ports, else memory.
    pub io: bool,
    /// Physical address, or first port.
    pub address: u64,
    /// Bytes, or ports.
    pub bytes: u64,
}

/// What a component is told of a PCI device.
#[derive(Clone, Debug)]
pub struct PciInfo {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass, programming interface: 0x00ccsspp.
    pub class: u32,
    /// Bus, device, function.
    pub address: PciAddress,
    /// Its memory regions.
    pub bars: heapless::Vec<Bar, 6>,
    /// The table of MSI-X, which is the core's.
    pub msix: Option<MsixPlace>,
    /// Its configuration space.
    pub config: Config,
}

/// A function.
#[derive(Clone, Debug)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass, programming interface: 0x00ccsspp.
    pub class: u32,
    /// Base address registers that are set.
    pub bars: heapless::Vec<Bar, 6>,
    /// Interrupt line as the firmware wrote it: an ISA interrupt, or 0xff.
    pub interrupt_line: u8,
    /// Interrupt pin: 1 for INTA to 4 for INTD, 0 for none.
    pub interrupt_pin: u8,
    /// The table of MSI-X, once [`PciDevices::map_tables`] has mapped it.
    pub msix: Option<MsixTable>,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct PciDevices {
    /// The devices, in the order of their addresses.
    pub devices: heapless::Vec<PciDevice, MAX_DEVICES>,
    /// Devices beyond [`MAX_DEVICES`].
    pub dropped: usize,
}

impl PciDevices {
    /// Looks at every function of every bus.
    pub fn scan() -> PciDevices {
        let mut found = PciDevices::default();
        for bus in 0..=255_u16 {
            for device in 0..32 {
                let first = PciAddress(bus << 8 | device << 3);
                if first.read(0) == u32::MAX {
                    continue;
                }
                // Header type, bit 7: more than one function.
                let functions = if first.read(0x0c) >> 23 & 1 != 0 { 8 } else { 1 };
                for function in 0..functions {
                    let address = PciAddress(first.0 | function);
                    if address.read(0) != u32::MAX && found.devices.push(PciDevice::read(address)).is_err() {
                        found.dropped += 1;
                    }
                }
            }
        }
        found
    }

    /// Maps the tables of all devices with MSI-X. `map` maps registers uncached, for good.
    pub fn map_tables(&mut self, mut map: impl FnMut(PhysAddr, u64) -> Option<NonNull<u8>>) {
        for device in &mut self.devices {
            let Some(place) = MsixPlace::of(&device.config()) else { continue };
            let region = device.bars.iter().find(|bar| bar.index == place.bar && !bar.io);
            let fits = |bar: &&Bar| place.offset <= bar.bytes && place.bytes() <= bar.bytes - place.offset;
            let Some(region) = region.filter(fits) else { continue };
            let table = map(PhysAddr::new(region.address + place.offset), place.bytes());
            // SAFETY: the device says that its table is there, and it was mapped; regions and the offset are aligned.
            device.msix = table.map(|table| unsafe { MsixTable::new(table.cast(), place.entries.into()) });
        }
    }
}

impl PciDevice {
    fn read(address: PciAddress) -> PciDevice {
        let [low, high] = halves(address.read(0));
        let class = address.read(0x08) >> 8;
        let [line, pin, ..] = address.read(0x3c).to_le_bytes();
        let mut device = PciDevice {
            address,
            vendor: low,
            device: high,
            class,
            bars: heapless::Vec::new(),
            interrupt_line: line,
            interrupt_pin: if pin <= 4 { pin } else { 0 },
            msix: None,
        };
        // Header type 0 alone has six base address registers.
        if address.read(0x0c) >> 16 & 0x7f == 0 {
            device.read_bars();
        }
        device
    }

    fn read_bars(&mut self) {
        let command = self.address.read(COMMAND) & 0xffff;
        // SAFETY: decoding is off while the sizes are asked for, so the device answers at no wrong address, and the old
        // state is restored. Upper half: status bits, cleared by ones only.
        unsafe { self.address.write(COMMAND, command & !(COMMAND_IO | COMMAND_MEMORY)) };
        let mut index = 0;
        while index < 6 {
            let register = 0x10 + 4 * index;
            let old = self.address.read(register);
            let (io, wide) = (old & 1 != 0, old & 7 == 4);
            let size = self.ask_size(register, old);
            let (mut address, mut mask) = if io {
                (u64::from(old & !3), u64::from(size & !3 | 0xffff_0000))
            } else {
                (u64::from(old & !15), u64::from(size & !15))
            };
            if wide && !io && index < 5 {
                let upper = self.address.read(register + 4);
                address |= u64::from(upper) << 32;
                mask |= u64::from(self.ask_size(register + 4, upper)) << 32;
            } else {
                mask |= 0xffff_ffff << 32;
            }
            let bytes = mask.wrapping_neg();
            // An unset register, or one without writable bits, is none.
            if address != 0 && size != 0 && bytes.is_power_of_two() {
                // Six at most, as the loop.
                let _ = self.bars.push(Bar { index, io, address, bytes });
            }
            index += if wide { 2 } else { 1 };
        }
        // SAFETY: as above.
        unsafe { self.address.write(COMMAND, command) };
    }

    fn ask_size(&self, register: u8, old: u32) -> u32 {
        // SAFETY: decoding is off; the old value is restored.
        unsafe {
            self.address.write(register, u32::MAX);
            let size = self.address.read(register);
            self.address.write(register, old);
            size
        }
    }

    /// Its configuration space.
    pub fn config(&self) -> Config {
        let mut bytes = [0; CONFIG_BYTES];
        for (register, word) in (0_u8..=252).step_by(4).zip(bytes.chunks_mut(4)) {
            word.copy_from_slice(&self.address.read(register).to_le_bytes());
        }
        Config(bytes)
    }

    /// Has the device send `data` to `address` for all its interrupts, by MSI-X (masked) where its table is mapped, else by
    /// MSI. Returns the table for masking, if there is one; `None` when it knows neither.
    pub fn send_messages(&self, address: u32, data: u32) -> Option<Option<MsixTable>> {
        let config = self.config();
        let control = |at: u8, half: u16| config.word(at) & 0xffff | u32::from(half) << 16;
        if let (Some(table), Some(at)) = (self.msix, config.capabilities(CAPABILITY_MSIX).next()) {
            let old = config.half(at.wrapping_add(2)) & !(MSIX_ENABLE | MSIX_MASK_ALL);
            // SAFETY: the device answers at its registers, where its table is; it sends nothing before the last write, and
            // then only what the table says.
            unsafe {
                self.enable(false);
                self.address.write(at, control(at, old | MSIX_ENABLE | MSIX_MASK_ALL));
                table.set_up(address, data);
                self.address.write(at, control(at, old | MSIX_ENABLE));
            }
            return Some(Some(table));
        }
        let at = config.capabilities(CAPABILITY_MSI).next()?;
        let old = config.half(at.wrapping_add(2));
        let wide = old & MSI_WIDE != 0;
        let data_at = at.wrapping_add(if wide { 12 } else { 8 });
        // SAFETY: message and address are the core's own, and are complete before the device may send.
        unsafe {
            self.address.write(at.wrapping_add(4), address);
            if wide {
                self.address.write(at.wrapping_add(8), 0);
            }
            self.address.write(data_at, config.word(data_at) & 0xffff_0000 | data & 0xffff);
            self.address.write(at, control(at, old & !MSI_COUNT | MSI_ENABLE));
        }
        Some(None)
    }

    /// Lets the device answer at its memory addresses, raise INTx, and, with `master`, read and write memory by itself.
    ///
    /// # Safety
    /// Without an IOMMU a bus master reaches all memory: whoever drives the device is trusted with that.
    pub unsafe fn enable(&self, master: bool) {
        let command = self.address.read(COMMAND) & 0xffff & !COMMAND_NO_INTX;
        let master = if master { COMMAND_MASTER } else { 0 };
        // SAFETY: by this function's contract.
        unsafe { self.address.write(COMMAND, command | COMMAND_MEMORY | master) };
    }

    /// The wire that the device's interrupt pin raises; `None` when it has no pin.
    ///
    /// There is no AML interpreter here, so this is a rule, not a look-up in `_PRT`:
    /// 1. The firmware's interrupt line has an override in the MADT, level-triggered: that wire (QEMU's i440fx, which
    ///    routes its PCI interrupts through ISA interrupts 5, 9, 10 and 11).
    /// 2. `pirq_base` is given, so the machine has a PIIX3 and a PIRQ router wired to pins from there on: pin
    ///    `pirq_base + (device + pin - 2) mod 4` (Bochs, whose `pci2isa` raises `16 + PIRQ` and whose MADT has no such override).
    /// 3. The interrupt line itself, level-triggered, active low.
    ///
    /// Devices behind bridges, and machines other than i440fx whose firmware routes differently with I/O APICs (q35),
    /// need `_PRT` or MSI.
    pub fn wire(&self, acpi: &AcpiInfo, pirq_base: Option<u32>) -> Option<Wire> {
        if self.interrupt_pin == 0 {
            return None;
        }
        let isa = isa_wire(acpi, self.interrupt_line);
        if isa.level {
            return Some(isa);
        }
        if let (Some(base), 0) = (pirq_base, self.address.0 >> 8) {
            let pirq = (u32::from(self.address.device()) + u32::from(self.interrupt_pin) + 2) % 4;
            return Some(Wire { gsi: base + pirq, level: true, low: true });
        }
        (self.interrupt_line != 0xff).then_some(Wire { gsi: self.interrupt_line.into(), level: true, low: true })
    }
}

fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// First pin of the PIRQ router, when the machine has a PIIX3 (8086:7000) and I/O APIC pins beyond the ISA interrupts.
pub fn pirq_base(devices: &PciDevices, pins: u32) -> Option<u32> {
    let piix3 = devices.devices.iter().any(|device| (device.vendor, device.device) == (0x8086, 0x7000));
    (piix3 && pins >= 20).then_some(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::acpi::Override;

    fn nic(slot: u16, line: u8, pin: u8) -> PciDevice {
        let address = PciAddress(slot << 3);
        let bars = heapless::Vec::new();
        PciDevice {
            address,
            vendor: 0x8086,
            device: 0x100e,
            class: 0x02_0000,
            bars,
            interrupt_line: line,
            interrupt_pin: pin,
            msix: None,
        }
    }

    #[test]
    fn wires() {
        // Bochs: slot 1 is device 2; no override.
        let mut acpi = AcpiInfo::default();
        let low = |gsi| Some(Wire { gsi, level: true, low: true });
        assert_eq!(nic(2, 9, 1).wire(&acpi, Some(16)), low(17));
        assert_eq!(nic(3, 11, 1).wire(&acpi, Some(16)), low(18));
        assert_eq!(nic(5, 9, 2).wire(&acpi, Some(16)), low(17));
        assert_eq!(nic(2, 9, 0).wire(&acpi, Some(16)), None);
        // Neither override nor router.
        assert_eq!(nic(2, 10, 1).wire(&acpi, None), low(10));
        assert_eq!(nic(2, 0xff, 1).wire(&acpi, None), None);
        // QEMU: level-triggered, active high.
        acpi.overrides.push(Override { irq: 11, gsi: 11, flags: 0b1101 }).expect("room");
        assert_eq!(nic(3, 11, 1).wire(&acpi, Some(16)), Some(Wire { gsi: 11, level: true, low: false }));
    }
}

//! PCI functions that boot has found: bus mastering, messages, and which interrupt they raise (PCI Local Bus 3.0).

use super::ioapic::{Wire, isa_wire};
use super::msix::MsixTable;
use abi::boot::{self, BARS, Bar, Override};
use abi::pci::{CAPABILITY_MSI, CAPABILITY_MSIX, Config, MSIX_ENABLE, MsixPlace};
use base::pci::PciAddress;
use core::ptr::NonNull;

const COMMAND: u8 = 0x04;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_MASTER: u32 = 1 << 2;
const COMMAND_NO_INTX: u32 = 1 << 10;

/// Message control of MSI-X (section 6.8.2.3), beside [`MSIX_ENABLE`]: all entries masked, and the last entry's number.
const MSIX_MASK_ALL: u16 = 1 << 14;
/// Message control of MSI (section 6.8.1.3): on, number of messages, addresses of 64 bits.
const MSI_ENABLE: u16 = 1;
const MSI_COUNT: u16 = 7 << 4;
const MSI_WIDE: u16 = 1 << 7;

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
    pub bars: heapless::Vec<Bar, BARS>,
    /// Its ports.
    pub ports: heapless::Vec<Bar, BARS>,
    /// The table of MSI-X, which is the core's.
    pub msix: Option<MsixPlace>,
    /// Its configuration space.
    pub config: Config,
}

/// A function.
#[derive(Clone, Debug)]
pub struct PciDevice {
    /// What boot has found.
    pub found: boot::PciDevice,
    /// The table of MSI-X, where it is mapped.
    pub msix: Option<MsixTable>,
}

impl PciDevice {
    /// The function that boot has found.
    ///
    /// # Safety
    /// Its table of MSI-X, if it has one, is mapped where `found` says, uncached, as long as the core runs.
    pub unsafe fn new(found: &boot::PciDevice) -> PciDevice {
        let table = core::ptr::with_exposed_provenance_mut(crate::memory::phys::index(found.msix_table));
        // SAFETY: upheld by the caller.
        let msix = NonNull::new(table).map(|table| unsafe { MsixTable::new(table, found.msix_entries as usize) });
        PciDevice { found: *found, msix }
    }

    /// Where it is.
    pub fn address(&self) -> PciAddress {
        PciAddress(self.found.address)
    }

    /// Has the device send `data` to `address` for all its interrupts, by MSI-X (masked) where its table is mapped, else by
    /// MSI. Returns the table for masking, if there is one; `None` when it knows neither.
    pub fn send_messages(&self, address: u32, data: u32) -> Option<Option<MsixTable>> {
        let config = self.address().config();
        let control = |at: u8, half: u16| config.word(at) & 0xffff | u32::from(half) << 16;
        if let (Some(table), Some(at)) = (self.msix, config.capabilities(CAPABILITY_MSIX).next()) {
            let old = config.half(at.wrapping_add(2)) & !(MSIX_ENABLE | MSIX_MASK_ALL);
            // SAFETY: the device answers at its registers, where its table is; it sends nothing before the last write, and
            // then only what the table says.
            unsafe {
                self.enable(false);
                self.address().write(at, control(at, old | MSIX_ENABLE | MSIX_MASK_ALL));
                table.set_up(address, data);
                self.address().write(at, control(at, old | MSIX_ENABLE));
            }
            return Some(Some(table));
        }
        let at = config.capabilities(CAPABILITY_MSI).next()?;
        let old = config.half(at.wrapping_add(2));
        let wide = old & MSI_WIDE != 0;
        let data_at = at.wrapping_add(if wide { 12 } else { 8 });
        // SAFETY: message and address are the core's own, and are complete before the device may send.
        unsafe {
            self.address().write(at.wrapping_add(4), address);
            if wide {
                self.address().write(at.wrapping_add(8), 0);
            }
            self.address().write(data_at, config.word(data_at) & 0xffff_0000 | data & 0xffff);
            self.address().write(at, control(at, old & !MSI_COUNT | MSI_ENABLE));
        }
        Some(None)
    }

    /// Lets the device answer at its memory addresses, raise INTx, and, with `master`, read and write memory by itself.
    ///
    /// # Safety
    /// Without an IOMMU a bus master reaches all memory: whoever drives the device is trusted with that.
    pub unsafe fn enable(&self, master: bool) {
        let command = self.address().read(COMMAND) & 0xffff & !COMMAND_NO_INTX;
        let master = if master { COMMAND_MASTER } else { 0 };
        // SAFETY: by this function's contract.
        unsafe { self.address().write(COMMAND, command | COMMAND_MEMORY | master) };
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
    pub fn wire(&self, overrides: &[Override], pirq_base: Option<u32>) -> Option<Wire> {
        let boot::PciDevice { interrupt_pin, interrupt_line, .. } = self.found;
        if interrupt_pin == 0 {
            return None;
        }
        let isa = isa_wire(overrides, interrupt_line);
        if isa.level {
            return Some(isa);
        }
        if let (Some(base), 0) = (pirq_base, self.found.address >> 8) {
            let pirq = (u32::from(self.address().device()) + u32::from(interrupt_pin) + 2) % 4;
            return Some(Wire { gsi: base + pirq, level: true, low: true });
        }
        (interrupt_line != 0xff).then_some(Wire { gsi: interrupt_line.into(), level: true, low: true })
    }
}

/// First pin of the PIRQ router, when the machine has a PIIX3 (8086:7000) and I/O APIC pins beyond the ISA interrupts.
pub fn pirq_base(devices: &[boot::PciDevice], pins: u32) -> Option<u32> {
    let piix3 = devices.iter().any(|device| (device.vendor, device.device) == (0x8086, 0x7000));
    (piix3 && pins >= 20).then_some(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(slot: u16, interrupt_line: u8, interrupt_pin: u8) -> PciDevice {
        let found = boot::PciDevice { address: slot << 3, interrupt_line, interrupt_pin, ..boot::PciDevice::default() };
        PciDevice { found, msix: None }
    }

    #[test]
    fn wires() {
        // Bochs: slot 1 is device 2; no override.
        let mut acpi: Vec<Override> = Vec::new();
        let low = |gsi| Some(Wire { gsi, level: true, low: true });
        assert_eq!(nic(2, 9, 1).wire(&acpi, Some(16)), low(17));
        assert_eq!(nic(3, 11, 1).wire(&acpi, Some(16)), low(18));
        assert_eq!(nic(5, 9, 2).wire(&acpi, Some(16)), low(17));
        assert_eq!(nic(2, 9, 0).wire(&acpi, Some(16)), None);
        // Neither override nor router.
        assert_eq!(nic(2, 10, 1).wire(&acpi, None), low(10));
        assert_eq!(nic(2, 0xff, 1).wire(&acpi, None), None);
        // QEMU: level-triggered, active high.
        acpi.push(Override { irq: 11, gsi: 11, flags: 0b1101, reserved: 0 });
        assert_eq!(nic(3, 11, 1).wire(&acpi, Some(16)), Some(Wire { gsi: 11, level: true, low: false }));
    }
}

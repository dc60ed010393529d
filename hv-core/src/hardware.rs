//! The devices that the core itself uses, as the rest of the core sees them: timer, interrupt controllers, clock, PCI.

use crate::cpu;
use crate::platform::acpi::AcpiInfo;
use crate::platform::apic::LocalApic;
use crate::platform::ioapic::{IoApics, isa_wire};
use crate::platform::msi::Messages;
use crate::platform::pci::{Bar, MsixPlace, PciAddress, PciDevices};
use crate::platform::{power, vectors};
use abi::pci::Config;

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

/// The core's devices.
pub struct Hardware {
    /// Timer and end of interrupts.
    pub apic: LocalApic,
    /// Routing of interrupts.
    pub io_apics: IoApics,
    /// Interrupts that come as messages.
    pub messages: Messages,
    /// What ACPI says.
    pub acpi: AcpiInfo,
    /// Every PCI device.
    pub pci: PciDevices,
    /// For [`crate::platform::pci::PciDevice::wire`].
    pub pirq_base: Option<u32>,
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// Unix time in nanoseconds when the TSC was `started_tsc`.
    pub started_unix_ns: u64,
    /// See `started_unix_ns`.
    pub started_tsc: u64,
    /// The CPU has RDRAND.
    pub rdrand: bool,
}

impl Hardware {
    /// Ticks of the TSC in a second.
    #[inline]
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// Nanoseconds per tick, 32.32 fixed point.
    pub fn ns_per_tick(&self) -> u64 {
        u64::try_from((1_000_000_000_u128 << 32) / u128::from(self.tsc_hz.max(1))).unwrap_or(u64::MAX)
    }

    /// Unix time in nanoseconds at a TSC.
    pub fn unix_ns_at(&self, tsc: u64) -> u64 {
        let ticks = u128::from(tsc.saturating_sub(self.started_tsc));
        let ns = (ticks * u128::from(self.ns_per_tick())) >> 32;
        self.started_unix_ns.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Set the timer.
    #[inline]
    pub fn set_timer(&mut self, deadline: u64) {
        self.apic.timer_set(deadline);
    }

    /// End of the interrupt that is being served.
    #[inline]
    pub fn end_of_interrupt(&mut self) {
        self.apic.eoi();
    }

    /// Hold an interrupt back, by the number that it was routed with.
    pub fn mask(&mut self, gsi: u32) {
        if is_message(gsi) { self.messages.mask(gsi) } else { self.io_apics.mask(gsi) }
    }

    /// Let an interrupt come.
    pub fn unmask(&mut self, gsi: u32) {
        if is_message(gsi) { self.messages.unmask(gsi) } else { self.io_apics.unmask(gsi) }
    }

    /// PCI devices.
    pub fn pci_count(&self) -> usize {
        self.pci.devices.len()
    }

    /// A PCI device with registers in memory.
    pub fn pci_device(&self, index: usize) -> Option<PciInfo> {
        let device = self.pci.devices.get(index)?;
        let bars: heapless::Vec<Bar, 6> = device.bars.iter().filter(|bar| !bar.io).copied().collect();
        let config = device.config();
        (!bars.is_empty()).then(|| PciInfo {
            vendor: device.vendor,
            device: device.device,
            class: device.class,
            address: device.address,
            bars,
            msix: MsixPlace::of(&config),
            config,
        })
    }

    /// Route the interrupt of a PCI device: by messages where it can send them, else by its pin; masked until it is asked
    /// for. `None` without one.
    pub fn route_pci(&mut self, index: usize) -> Option<u32> {
        if let Some(number) = self.messages.route(self.pci.devices.get(index)?, self.apic.id()) {
            return Some(number);
        }
        let wire = self.pci.devices.get(index)?.wire(&self.acpi, self.pirq_base)?;
        self.io_apics.route(wire, self.apic.id())?;
        Some(wire.gsi)
    }

    /// How an interrupt comes, by the number that it was routed with: for the log.
    pub fn way_of(&self, gsi: Option<u32>) -> &'static str {
        match gsi {
            None => "no interrupt",
            Some(gsi) if !is_message(gsi) => "INTx",
            Some(gsi) if self.messages.can_mask(gsi) => "MSI-X",
            Some(_) => "MSI",
        }
    }

    /// Route an ISA interrupt; masked until it is asked for.
    pub fn route_isa(&mut self, irq: u32) -> Option<u32> {
        let wire = isa_wire(&self.acpi, u8::try_from(irq).ok()?);
        self.io_apics.route(wire, self.apic.id())?;
        Some(wire.gsi)
    }

    /// Let a device reach memory, or stop it.
    pub fn set_bus_master(&mut self, index: usize, on: bool) {
        if let Some(device) = self.pci.devices.get(index) {
            // SAFETY: the device belongs to one component, whose DMA memory is its own for good; what a device writes
            // beyond that cannot be helped without an IOMMU (docs/safety.md).
            unsafe { device.enable(on) };
        }
    }

    /// Read a port, or write it. `width` is 1, 2 or 4. Returns the value read, or 0.
    pub fn port(&mut self, port: u16, width: u64, value: Option<u64>) -> u64 {
        let value = value.map(u64::to_le_bytes);
        // SAFETY: the manifest gives the port to the component that asks; ports of what the core uses itself are not in it.
        unsafe {
            match (width, value) {
                (1, None) => x86::io::inb(port).into(),
                (2, None) => x86::io::inw(port).into(),
                (_, None) => x86::io::inl(port).into(),
                (1, Some([a, ..])) => {
                    x86::io::outb(port, a);
                    0
                }
                (2, Some([a, b, ..])) => {
                    x86::io::outw(port, u16::from_le_bytes([a, b]));
                    0
                }
                (_, Some([a, b, c, d, ..])) => {
                    x86::io::outl(port, u32::from_le_bytes([a, b, c, d]));
                    0
                }
            }
        }
    }

    /// Sixteen bytes that nobody can guess where the CPU has RDRAND, and that differ each time where it has not.
    pub fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (i, chunk) in bytes.chunks_mut(8).enumerate() {
            let word = if self.rdrand { rdrand() } else { None };
            let word = word.unwrap_or_else(|| mix(cpu::tsc().wrapping_add(i as u64) ^ self.started_unix_ns));
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Switch the machine off.
    pub fn power_off(&self) -> ! {
        log::info!(target: "foraker", "powered off");
        crate::log::flush();
        power::off(self.acpi.soft_off)
    }
}

/// The interrupt of this number comes as a message, not through an I/O APIC.
#[inline]
fn is_message(gsi: u32) -> bool {
    gsi >= u32::from(vectors::GSI_COUNT)
}

/// One word of RDRAND; it may fail, but not ten times in a row (SDM vol. 1, section 7.3.17.1).
fn rdrand() -> Option<u64> {
    (0..10).find_map(|_| {
        let (word, good): (u64, u8);
        // SAFETY: only asked where CPUID offers the instruction.
        unsafe { core::arch::asm!("rdrand {}", "setc {}", out(reg) word, out(reg_byte) good, options(nomem, nostack)) };
        (good != 0).then_some(word)
    })
}

/// SplitMix64's finaliser: spreads the few bits that differ over the word.
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

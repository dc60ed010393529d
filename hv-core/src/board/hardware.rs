//! The machine's own devices: timer, interrupt controllers, PCI.

use super::apic::LocalApic;
use super::ioapic::{IoApics, isa_wire};
use super::msi::Messages;
use super::pci::{PciDevice, PciInfo};
use super::{Board, Devices, vectors};
use crate::log::say;
use crate::trap::{self, Errors, Make, Trap, UserContext};
use abi::boot::{BARS, Bar, MAX_OVERRIDES, MAX_PCI_DEVICES, Override, SoftOff};
use abi::log::{Delivery, Record};
use abi::pci::{CLASS_IDE, MsixPlace};
use base::power;

/// The core's devices.
pub struct Hardware {
    /// Timer and end of interrupts.
    pub apic: LocalApic,
    /// Routing of interrupts.
    pub io_apics: IoApics,
    /// Interrupts that come as messages.
    pub messages: Messages,
    /// ISA interrupts that are wired otherwise.
    pub overrides: heapless::Vec<Override, MAX_OVERRIDES>,
    /// How to power the machine off.
    pub soft_off: Option<SoftOff>,
    /// Every PCI device.
    pub pci: heapless::Vec<PciDevice, MAX_PCI_DEVICES>,
    /// For [`super::pci::PciDevice::wire`].
    pub pirq_base: Option<u32>,
    /// The CPU has RDRAND.
    pub rdrand: bool,
    /// Where it has not: something that differs from boot to boot.
    pub seed: u64,
}

impl Board for Hardware {
    #[inline(always)]
    fn now(&self) -> u64 {
        trap::tsc()
    }

    #[inline]
    fn set_timer(&mut self, deadline: u64) {
        self.apic.timer_set(deadline);
    }

    #[inline]
    fn end_of_interrupt(&mut self) {
        self.apic.eoi();
    }

    fn mask(&mut self, gsi: u32) {
        if is_message(gsi) { self.messages.mask(gsi) } else { self.io_apics.mask(gsi) }
    }

    fn unmask(&mut self, gsi: u32) {
        if is_message(gsi) { self.messages.unmask(gsi) } else { self.io_apics.unmask(gsi) }
    }

    fn port(&mut self, port: u16, width: u64, value: Option<u64>) -> u64 {
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

    fn set_bus_master(&mut self, device: usize, on: bool) {
        if let Some(device) = self.pci.get(device) {
            // SAFETY: the device belongs to one component, whose DMA memory is its own for good; what a device writes
            // beyond that cannot be helped without an IOMMU (docs/safety.md).
            unsafe { device.enable(on) };
        }
    }

    fn random(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (i, chunk) in bytes.chunks_mut(8).enumerate() {
            let word = if self.rdrand { rdrand() } else { None };
            let word = word.unwrap_or_else(|| mix(trap::tsc().wrapping_add(i as u64) ^ self.seed));
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[inline]
    fn idle(&mut self) -> Option<u8> {
        trap::idle()
    }

    #[inline]
    fn take_interrupt(&mut self) -> Option<u8> {
        trap::take_interrupt()
    }

    #[inline]
    fn nmi_count(&self) -> u64 {
        trap::nmi_count()
    }

    fn machine_checks(&self) -> u64 {
        trap::machine_checks()
    }

    fn has_error_banks(&self) -> bool {
        trap::has_error_banks()
    }

    fn make(&self) -> Make {
        trap::make()
    }

    fn take_errors(&mut self) -> (Errors, bool) {
        trap::take_errors()
    }

    #[inline]
    unsafe fn load_space(&mut self, cr3: u64) {
        // SAFETY: upheld by the caller: the core goes on running in the new space.
        unsafe { x86::controlregs::cr3_write(cr3) };
    }

    #[inline]
    unsafe fn enter(&mut self, context: &mut UserContext) -> Trap {
        // SAFETY: upheld by the caller.
        unsafe { trap::enter(context) }
    }

    fn power_off(&mut self) {
        say(Record::PoweredOff);
        crate::log::flush();
        power::off(self.soft_off)
    }
}

impl Devices for Hardware {
    fn pci_count(&self) -> usize {
        self.pci.len()
    }

    fn pci_device(&self, index: usize) -> Option<PciInfo> {
        let device = self.pci.get(index)?;
        let regions = |io| device.found.bars().iter().filter(move |bar| (bar.io != 0) == io).copied();
        let bars: heapless::Vec<Bar, BARS> = regions(false).collect();
        let ports: heapless::Vec<Bar, BARS> = regions(true).collect();
        let is_ide = device.found.class >> 8 == CLASS_IDE;
        let config = device.address().config();
        (!bars.is_empty() || is_ide && !ports.is_empty()).then(|| PciInfo {
            vendor: device.found.vendor,
            device: device.found.device,
            class: device.found.class,
            address: device.address(),
            bars,
            ports,
            msix: MsixPlace::of(&config),
            config,
        })
    }

    fn route_pci(&mut self, index: usize) -> Option<u32> {
        if let Some(number) = self.messages.route(self.pci.get(index)?, self.apic.id()) {
            return Some(number);
        }
        let wire = self.pci.get(index)?.wire(&self.overrides, self.pirq_base)?;
        self.io_apics.route(wire, self.apic.id())?;
        Some(wire.gsi)
    }

    fn route_isa(&mut self, irq: u32) -> Option<u32> {
        let wire = isa_wire(&self.overrides, u8::try_from(irq).ok()?);
        self.io_apics.route(wire, self.apic.id())?;
        Some(wire.gsi)
    }

    fn delivery(&self, gsi: Option<u32>) -> Delivery {
        match gsi {
            None => Delivery::None,
            Some(gsi) if !is_message(gsi) => Delivery::Intx,
            Some(gsi) if self.messages.can_mask(gsi) => Delivery::MsiX,
            Some(_) => Delivery::Msi,
        }
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

//! The I/O APICs (Intel 82093AA), the wiring of interrupts to them, and the legacy controllers, which are masked for good.

use super::vectors;
use abi::boot::{self, MAX_IO_APICS, Override};
use core::ptr::NonNull;
use x86::io::outb;

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The global system interrupt.
    pub gsi: u32,
    /// Level-triggered, else edge-triggered.
    pub level: bool,
    /// Active low, else active high.
    pub low: bool,
}

/// The wire of an ISA interrupt (ACPI 6.5, section 5.2.12.5).
pub fn isa_wire(overrides: &[Override], irq: u8) -> Wire {
    let entry = overrides.iter().find(|entry| entry.irq == irq);
    entry.map_or(Wire { gsi: irq.into(), level: false, low: false }, |entry| Wire {
        gsi: entry.gsi,
        low: entry.flags & 3 == 3,
        level: entry.flags >> 2 & 3 == 3,
    })
}

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const LOW: u32 = 1 << 13;
/// Pins of one I/O APIC that are used at most.
const MAX_PINS: usize = 64;

#[derive(Debug)]
struct IoApic {
    registers: NonNull<u32>,
    gsi_base: u32,
    pins: u32,
    /// Lower word of each pin's entry, so that masking is one write.
    low: [u32; MAX_PINS],
}

impl IoApic {
    fn select(&mut self, register: u32) -> *mut u32 {
        // SAFETY: `registers` are the I/O APIC's, mapped uncached as long as the core runs; select is the first.
        unsafe { self.registers.as_ptr().write_volatile(register) };
        // The window is at byte 16.
        self.registers.as_ptr().wrapping_add(4)
    }

    fn read(&mut self, register: u32) -> u32 {
        let window = self.select(register);
        // SAFETY: as in `select`.
        unsafe { window.read_volatile() }
    }

    fn write(&mut self, register: u32, value: u32) {
        let window = self.select(register);
        // SAFETY: as in `select`; an entry only decides which vector which CPU gets, and all vectors have handlers.
        unsafe { window.write_volatile(value) };
    }
}

/// All I/O APICs.
#[derive(Debug)]
pub struct IoApics {
    controllers: heapless::Vec<IoApic, MAX_IO_APICS>,
}

// SAFETY: the registers are the machine's, not a thread's.
unsafe impl Send for IoApics {}

impl IoApics {
    /// Masks every pin of every I/O APIC, and the legacy controllers. `None` when there is no I/O APIC.
    ///
    /// # Safety
    /// The registers of each are mapped where `list` says, 4 KiB uncached, as long as the core runs.
    pub unsafe fn init(list: &[boot::IoApic]) -> Option<IoApics> {
        mask_legacy();
        let mut controllers = heapless::Vec::new();
        for info in list {
            let registers = core::ptr::with_exposed_provenance_mut(crate::memory::phys::index(info.registers));
            let Some(registers) = NonNull::new(registers) else { continue };
            let mut controller = IoApic { registers, gsi_base: info.gsi_base, pins: 0, low: [MASKED; MAX_PINS] };
            // Version register: bits 23..16 are the number of the last pin.
            let pins = (controller.read(1) >> 16 & 0xff) + 1;
            controller.pins = pins.min(u32::try_from(MAX_PINS).unwrap_or(0));
            for pin in 0..pins {
                controller.write(0x10 + 2 * pin, MASKED);
                controller.write(0x11 + 2 * pin, 0);
            }
            // As many as the array that they come from.
            let _ = controllers.push(controller);
        }
        (!controllers.is_empty()).then_some(IoApics { controllers })
    }

    fn find(&mut self, gsi: u32) -> Option<(&mut IoApic, u32)> {
        let controller = self.controllers.iter_mut().find(|io| gsi >= io.gsi_base && gsi - io.gsi_base < io.pins)?;
        let pin = gsi - controller.gsi_base;
        Some((controller, pin))
    }

    /// Pins of the I/O APIC that has this global system interrupt, 0 for none.
    pub fn pins(&mut self, gsi: u32) -> u32 {
        self.find(gsi).map_or(0, |(controller, _)| controller.pins)
    }

    /// Routes the interrupt to the vector [`vectors::GSI`] + gsi of the CPU with this APIC id, and leaves it masked.
    /// Returns the vector, or `None` when no I/O APIC has the interrupt or there is no vector for it.
    pub fn route(&mut self, wire: Wire, apic_id: u32) -> Option<u8> {
        let number = u8::try_from(wire.gsi).ok().filter(|&gsi| gsi < vectors::GSI_COUNT)?;
        let destination = u8::try_from(apic_id).ok()?;
        let (controller, pin) = self.find(wire.gsi)?;
        let vector = vectors::GSI + number;
        let low = u32::from(vector) | if wire.level { LEVEL } else { 0 } | if wire.low { LOW } else { 0 };
        controller.low[pin as usize] = low;
        controller.write(0x11 + 2 * pin, u32::from(destination) << 24);
        controller.write(0x10 + 2 * pin, low | MASKED);
        Some(vector)
    }

    /// Holds the interrupt back. What comes meanwhile on a level-triggered wire comes after [`IoApics::unmask`].
    #[inline]
    pub fn mask(&mut self, gsi: u32) {
        if let Some((controller, pin)) = self.find(gsi) {
            let low = controller.low[pin as usize];
            controller.write(0x10 + 2 * pin, low | MASKED);
        }
    }

    /// Lets a routed interrupt come.
    #[inline]
    pub fn unmask(&mut self, gsi: u32) {
        if let Some((controller, pin)) = self.find(gsi) {
            let low = controller.low[pin as usize];
            controller.write(0x10 + 2 * pin, low);
        }
    }
}

/// Moves the two 8259s away from the exceptions' vectors and masks them.
fn mask_legacy() {
    const FIRST: u16 = 0x20;
    const SECOND: u16 = 0xa0;
    let second_base = vectors::LEGACY + 8;
    for (port, value) in [
        (FIRST, 0x11),
        (SECOND, 0x11),
        (FIRST + 1, vectors::LEGACY),
        (SECOND + 1, second_base),
        (FIRST + 1, 4),
        (SECOND + 1, 2),
        (FIRST + 1, 1),
        (SECOND + 1, 1),
        (FIRST + 1, 0xff),
        (SECOND + 1, 0xff),
    ] {
        // SAFETY: the 8259s' ports; their interrupts are masked from here on.
        unsafe { outb(port, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isa_wires() {
        let of = |irq, gsi, flags| Override { irq, gsi, flags, reserved: 0 };
        let overrides = [of(0, 2, 0), of(9, 9, 0b1101), of(11, 20, 0b1111)];
        assert_eq!(isa_wire(&overrides, 0), Wire { gsi: 2, level: false, low: false });
        assert_eq!(isa_wire(&overrides, 4), Wire { gsi: 4, level: false, low: false });
        assert_eq!(isa_wire(&overrides, 9), Wire { gsi: 9, level: true, low: false });
        assert_eq!(isa_wire(&overrides, 11), Wire { gsi: 20, level: true, low: true });
    }
}

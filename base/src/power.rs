//! The end: power-off and standstill.

use abi::boot::SoftOff;
use x86::io::{outb, outw};

/// Bochs and QEMU's isa-debug port for power-off: these bytes, one after the other.
const SHUTDOWN_PORT: u16 = 0x8900;

/// Powers the machine off: by ACPI where the tables say how, and by the emulators' port. Stands still when neither works.
pub fn off(soft_off: Option<SoftOff>) -> ! {
    crate::log::flush();
    for byte in *b"Shutdown" {
        // SAFETY: on the machines that have this port it does nothing but power off; on others nobody answers.
        unsafe { outb(SHUTDOWN_PORT, byte) };
    }
    if let Some(SoftOff { port, sleep_type }) = soft_off {
        // PM1 control: SLP_TYP in bits 12..10, SLP_EN is bit 13, SCI_EN bit 0 (ACPI 6.5, table 4.16).
        // SAFETY: the port is PM1a_CNT by the ACPI tables; powering off is what is wanted.
        unsafe { outw(port, sleep_type << 10 | 1 << 13 | 1) };
    }
    halt()
}

/// Stands still for good.
pub fn halt() -> ! {
    crate::log::flush();
    loop {
        // SAFETY: with interrupts off the CPU stays here until it is reset.
        unsafe { x86::irq::disable() };
        // SAFETY: as above.
        unsafe { x86::halt() };
    }
}

//! The hardware that the loop uses, as a trait: the machine's own ([`super::Hardware`]), or a fake one in tests.

use super::pci::PciInfo;
use crate::trap::{Errors, Make, Trap, UserContext};
use abi::log::Delivery;

/// What the loop asks of the hardware of its CPU. Interrupts are off, but inside of [`Board::idle`], [`Board::take_interrupt`]
/// and [`Board::enter`].
pub trait Board {
    /// The time-stamp counter.
    fn now(&self) -> u64;
    /// Have the timer interrupt when the TSC reaches `deadline`; `u64::MAX` for never.
    fn set_timer(&mut self, deadline: u64);
    /// End of the interrupt that is being served.
    fn end_of_interrupt(&mut self);
    /// Hold an interrupt back, by the number that it was routed with.
    fn mask(&mut self, gsi: u32);
    /// Let an interrupt come.
    fn unmask(&mut self, gsi: u32);
    /// Read a port, or write it. `width` is 1, 2 or 4 bytes. Returns the value read, or 0.
    fn port(&mut self, port: u16, width: u64, value: Option<u64>) -> u64;
    /// Let the PCI device of this index reach memory, or stop it.
    fn set_bus_master(&mut self, device: usize, on: bool);
    /// Sixteen bytes that nobody can guess where the CPU has RDRAND, and that differ each time where it has not.
    fn random(&mut self) -> [u8; 16];
    /// Wait for an interrupt; its vector, or `None` when the CPU woke without one.
    fn idle(&mut self) -> Option<u8>;
    /// Take an interrupt that waits; its vector, or `None` when none does.
    fn take_interrupt(&mut self) -> Option<u8>;
    /// Non-maskable interrupts since boot.
    fn nmi_count(&self) -> u64;
    /// Machine checks since boot that interrupted the core or a component, and were survived.
    fn machine_checks(&self) -> u64;
    /// Whether the processor notes errors of the hardware in banks.
    fn has_error_banks(&self) -> bool;
    /// How the banks are read.
    fn make(&self) -> Make;
    /// What the banks hold, taken out; and whether what the last machine check interrupted can go on.
    fn take_errors(&mut self) -> (Errors, bool);
    /// Make the tables that CR3's value `cr3` names the current address space.
    ///
    /// # Safety
    /// The tables map the core's half as all others do, and stay as long as they are loaded.
    unsafe fn load_space(&mut self, cr3: u64);
    /// Let the component whose address space is loaded go on at `context` until its next trap.
    ///
    /// # Safety
    /// As [`crate::trap::enter`].
    unsafe fn enter(&mut self, context: &mut UserContext) -> Trap;
    /// Switch the machine off. Where that cannot be, the machine stands still and this does not return; a fake one returns.
    fn power_off(&mut self);
}

/// The devices that components drive, as they are handed out at boot.
pub trait Devices {
    /// PCI devices.
    fn pci_count(&self) -> usize;
    /// A PCI device with registers in memory.
    fn pci_device(&self, index: usize) -> Option<PciInfo>;
    /// Route the interrupt of a PCI device: by messages where it can send them, else by its pin; masked until it is asked
    /// for. `None` without one.
    fn route_pci(&mut self, index: usize) -> Option<u32>;
    /// Route an ISA interrupt; masked until it is asked for.
    fn route_isa(&mut self, irq: u32) -> Option<u32>;
    /// How an interrupt comes, by the number that it was routed with: for the log.
    fn delivery(&self, gsi: Option<u32>) -> Delivery;
}

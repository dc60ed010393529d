//! The machine around the processor: features, ACPI, interrupt controllers, clocks, PCI, power.

pub mod apic;
#[allow(clippy::module_inception)]
mod board;
pub mod features;
mod hardware;
pub mod ioapic;
pub mod msi;
mod msix;
pub mod pci;
mod time_base;
mod unix_clock;

pub use board::{Board, Devices};
pub use hardware::Hardware;
pub use time_base::TimeBase;
pub use unix_clock::{Reading, UnixClock};

/// Vectors of the core's interrupt table that are not exceptions.
pub mod vectors {
    /// The legacy interrupt controllers are masked, but can still raise spurious interrupts: `LEGACY..LEGACY + 16`.
    pub const LEGACY: u8 = 0x20;
    /// Global system interrupt `i` is routed to `GSI + i`, for `i` below [`GSI_COUNT`].
    pub const GSI: u8 = 0x30;
    /// See [`GSI`].
    pub const GSI_COUNT: u8 = 0x80;
    /// Message `i` of a device comes at `MESSAGE + i`, for `i` below [`MESSAGE_COUNT`]: right behind the others, as their
    /// numbers are.
    pub const MESSAGE: u8 = GSI + GSI_COUNT;
    /// See [`MESSAGE`].
    pub const MESSAGE_COUNT: u8 = 16;
    /// The local APIC's timer.
    pub const TIMER: u8 = 0xf0;
    /// The local APIC's error interrupt.
    pub const ERROR: u8 = 0xfe;
    /// Spurious interrupts of the local APIC: no end-of-interrupt.
    pub const SPURIOUS: u8 = 0xff;
}

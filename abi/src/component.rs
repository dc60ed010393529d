//! What a component sees: its address space, its information page, and its system calls.

use crate::limits::{MAX_DEVICES_PER_COMPONENT, MAX_RINGS_PER_COMPONENT, Name, PAGE_SIZE};
use crate::pci::{CONFIG_BYTES, Config};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where things lie in a component's address space. Between any two of them lies unmapped space.
pub mod layout {
    /// Lowest address of the image's segments.
    pub const IMAGE_BASE: u64 = 0x40_0000;
    /// First address beyond which no segment of the image may reach.
    pub const IMAGE_END: u64 = 0x1000_0000;
    /// The information page ([`super::ComponentInfo`]), read-only.
    pub const INFO: u64 = 0x1000_0000;
    /// First address above the stack, which grows down from here. Below it lies an unmapped page.
    pub const STACK_TOP: u64 = 0x1800_0000;
    /// Ring `i` of the component is at `RINGS + i * RING_STRIDE`: header, then slots; then the request page, where requests go to the
    /// core in it ([`crate::request_page`]), or its pages of data.
    pub const RINGS: u64 = 0x2000_0000;
    /// See [`RINGS`].
    pub const RING_STRIDE: u64 = 0x8_0000;
    /// The kick bits ([`super::kicks`]).
    pub const KICKS: u64 = 0x3000_0000;
    /// What outlives a restart: memory that is zero at boot, and that the core then neither clears nor reads.
    pub const KEEP: u64 = 0x3800_0000;
    /// First address behind it, whatever its size.
    pub const KEEP_END: u64 = 0x4000_0000;
    /// Registers of device `i` from `MMIO + i * MMIO_STRIDE` on, uncached, as its [`super::BarInfo`] say.
    pub const MMIO: u64 = 0x4000_0000;
    /// See [`MMIO`].
    pub const MMIO_STRIDE: u64 = 0x100_0000;
    /// DMA memory, physically contiguous.
    pub const DMA: u64 = 0x5000_0000;
    /// Memory for the program's tables ([`crate::note::TablesNote`]), which is not cleared at a restart.
    pub const TABLES: u64 = 0x6000_0000;
    /// First address beyond which it may not reach.
    pub const TABLES_END: u64 = 0xf000_0000;
    /// The NIC pages of the VM in seat `i` at `VM_WINDOW + i * crate::nic::WINDOW_STRIDE`, while the VM is attached; of the pages
    /// behind the first those that the component has asked for ([`super::syscall::RING_PAGE`]).
    pub const VM_WINDOW: u64 = 0x1_0000_0000;
    /// How long VMs have idled ([`super::idles`]), read-only.
    pub const IDLES: u64 = 0xf000_0000;
    /// The [`crate::swap::Sheet`] of window `i` at `SWAP_SHEETS + i * crate::swap::SHEET_STRIDE`.
    pub const SWAP_SHEETS: u64 = 0xf800_0000;
    /// The frames of window `i` at `SWAP_WINDOW + i * crate::swap::WINDOW_BYTES`.
    pub const SWAP_WINDOW: u64 = 0x3_0000_0000;
    /// The pool: memory for the bundles of VMs that are out, [`super::ComponentInfo::pool_bytes`] of it, zero at boot, which the core then neither
    /// clears nor reads.
    pub const POOL: u64 = 0x10_0000_0000;
}

/// Who has kicked its NIC: bits by seat, and above them bits that say where bits are set, so that nobody looks for them.
///
/// Three levels of 64-bit words: bit `s` of level 0 is that of seat `s`; bit `i` of level 1 says that word `i` of level 0 may hold a bit, and
/// bit `i` of the one word of level 2 that word `i` of level 1 may. The core sets bits from level 0 upwards; the component takes words with
/// atomic exchanges from level 2 downwards, so that no bit is lost.
pub mod kicks {
    use crate::limits::{MAX_SEATS, PAGE_SIZE};

    /// Where the word of level 2 is.
    pub const TOP: usize = 0;
    /// Where level 1 begins.
    pub const MIDDLE: usize = 64;
    /// Where level 0 begins.
    pub const SEATS: usize = 1024;

    /// Pages that all levels take on a machine with that many seats.
    pub const fn pages(seats: usize) -> u64 {
        // Widening only.
        #[allow(clippy::cast_lossless)]
        {
            (SEATS as u64 + (seats as u64).div_ceil(64) * 8).div_ceil(PAGE_SIZE)
        }
    }

    const _: () = {
        assert!(MAX_SEATS.div_ceil(64).div_ceil(64) <= 64);
        assert!(MIDDLE + MAX_SEATS.div_ceil(64).div_ceil(64) * 8 <= SEATS);
    };
}

/// Since when VMs idle: a 64-bit word for each seat, which the core alone writes. It is the TSC at which the VM began to idle, and 0 while it does
/// anything else or nobody has the seat. So whoever has looked before sees by another word that the VM has done something since.
pub mod idles {
    use crate::limits::{MAX_SEATS, PAGE_SIZE};

    /// Pages that the words take on a machine with that many seats.
    pub const fn pages(seats: usize) -> u64 {
        // Widening only.
        #[allow(clippy::cast_lossless)]
        {
            (8 * seats as u64).div_ceil(PAGE_SIZE)
        }
    }

    const _: () = assert!(super::layout::IDLES + pages(MAX_SEATS) * PAGE_SIZE <= super::layout::SWAP_SHEETS);
}

const _: () = {
    use crate::swap::{SHEET_STRIDE, WINDOW_BYTES, WINDOWS};
    assert!(layout::SWAP_SHEETS + WINDOWS as u64 * SHEET_STRIDE <= layout::VM_WINDOW);
    assert!(
        layout::VM_WINDOW + crate::limits::MAX_SEATS as u64 * crate::nic::WINDOW_STRIDE <= layout::SWAP_WINDOW
            && layout::SWAP_WINDOW + WINDOWS as u64 * WINDOW_BYTES <= layout::POOL
    );
    // The leaf table of a window is its own.
    assert!(layout::SWAP_WINDOW.is_multiple_of(WINDOW_BYTES) && WINDOW_BYTES == 0x20_0000);
};

/// System calls: `syscall` with the number in RAX and arguments in RDI, RSI, RDX. The result comes back in RAX. RCX and
/// R11 are overwritten, every other register is preserved. A result of [`ERROR_MIN`] or more is an error.
pub mod syscall {
    /// Does nothing. Returns [`crate::ABI_VERSION`].
    pub const NOP: u64 = 0;
    /// Ring the doorbells RDX (as `NOTIFY`), then sleep until a bit of the mask RDI is set or the TSC reaches RSI
    /// (`u64::MAX`: no deadline). Returns those bits of the mask that were set, and clears them; 0 at the deadline.
    pub const WAIT: u64 = 1;
    /// Ring doorbells: for each bit `i` of RDI the other end of this component's ring `i`. Returns 0.
    pub const NOTIFY: u64 = 2;
    /// Write a line to the log: level RDI (1 error … 5 trace), address RSI, length RDX in bytes (cut to [`crate::limits::LOG_LINE_BYTES`]).
    /// Returns 0, or [`super::ERROR_BUSY`] while the serial line is too far behind.
    pub const LOG: u64 = 3;
    /// The interrupt of device RDI is served and may come again. Returns 0.
    pub const IRQ_ACK: u64 = 4;
    /// Make the bits RSI ([`crate::guest::pending`]) pending for the VM whose raw id is RDI. Needs [`super::authority::RAISE`]. Returns 0.
    pub const RAISE: u64 = 5;
    /// Read RSI (1, 2 or 4) bytes from the port RDI. Needs the port in the manifest. Returns the value.
    pub const PORT_IN: u64 = 6;
    /// Write RSI bytes of the value RDX to the port RDI. Needs the port in the manifest. Returns 0.
    pub const PORT_OUT: u64 = 7;
    /// This component gives up: code RDI. It is restarted as after a fault. Does not return.
    pub const EXIT: u64 = 8;
    /// Show page RSI of the NIC (from 1: the NIC page itself always is) of the attached VM whose raw id is RDI in the window,
    /// with a frame that the guest sees, too; a new one of zeros where the guest has none. Needs [`super::authority::VM_WINDOW`].
    /// Returns 0, or [`super::ERROR_BUSY`] when there is no frame for it.
    pub const RING_PAGE: u64 = 9;
    /// Free the pages of the NIC whose bits are set in RSI (bit `i`: page `i`, from 1) of the attached VM whose raw id is RDI:
    /// neither the window nor the guest has them after that. Needs [`super::authority::VM_WINDOW`]. Returns 0, or
    /// [`super::ERROR_BUSY`], and nothing is done, while the VM does not idle: it may have stored there what it has not shown yet.
    pub const RING_RETURN: u64 = 10;
}

/// Bits of the notification word that `WAIT` takes and returns. Bit `i` below [`MAX_RINGS_PER_COMPONENT`] is the doorbell of ring `i`.
pub mod bits {
    /// Interrupt of device `i`: bit `IRQ_SHIFT + i`.
    pub const IRQ_SHIFT: u32 = 32;
    /// A bit in the kick bitmap was set.
    pub const KICK: u64 = 1 << 48;
    /// Input has arrived at the ports' interrupt (serial line).
    pub const PORT_IRQ: u64 = 1 << 49;
}

/// Bits of [`ComponentInfo::authority`], which follow from the services that the component is a party to ([`crate::service`]).
pub mod authority {
    /// May make guests' interrupts pending.
    pub const RAISE: u32 = 1 << 0;
    /// Shares the NIC pages of admitted VMs and receives their kicks.
    pub const VM_WINDOW: u32 = 1 << 1;
    /// Sees how long VMs have idled.
    pub const IDLES: u32 = 1 << 2;
    /// Sees VMs that go out and come in through windows, and has the pool.
    pub const SWAP_WINDOW: u32 = 1 << 3;
    /// The pool is only the way to the disks ([`crate::swap::PASSAGE_BYTES`]): what lies there moves on at once, and what cannot is refused.
    pub const SWAP_PASSES: u32 = 1 << 4;
}

/// Results from here on are errors.
pub const ERROR_MIN: u64 = u64::MAX - 15;
/// There is no system call of that number.
pub const ERROR_UNKNOWN: u64 = u64::MAX;
/// An argument is out of range.
pub const ERROR_ARGUMENT: u64 = u64::MAX - 1;
/// The manifest does not give this component what it asked for.
pub const ERROR_AUTHORITY: u64 = u64::MAX - 2;

/// There is no room for it now (`LOG`, `RING_PAGE`), or it is not the time for it (`RING_RETURN`): say it again later.
pub const ERROR_BUSY: u64 = u64::MAX - 3;

/// [`ComponentInfo::magic`].
pub const INFO_MAGIC: u64 = u64::from_le_bytes(*b"FKRINFO1");

/// One ring that the component is an end of.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RingInfo {
    /// Its name in the manifest.
    pub name: Name,
    /// Slots, a power of two.
    pub slots: u32,
    /// 1 when this component produces, 0 when it consumes.
    pub producer: u32,
    /// The service ([`crate::service::Service`]) of a ring with the core, 0 for any other.
    pub service: u32,
    /// Pages of data behind its slots, which both ends can write.
    pub data_pages: u32,
}

/// A memory region of a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BarInfo {
    /// Where it is mapped, from the device's [`layout::MMIO`] on.
    pub offset: u32,
    /// How many bytes of it are mapped; 0 for ports, for what is smaller than a page and shares it with another device, and where there is no region.
    pub bytes: u32,
}

/// Base address registers of a device.
pub const BARS: usize = 6;

/// One device that the component drives.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DeviceInfo {
    /// PCI vendor.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// PCI class, subclass and programming interface: 0x00ccsspp.
    pub class: u32,
    /// Bus, device, function: bits 15..8, 7..3, 2..0.
    pub address: u32,
    /// Must be zero.
    pub reserved: u32,
    /// Its memory regions, by base address register. Pages with the table of MSI-X are left out: it is the core's.
    pub bars: [BarInfo; BARS],
    /// Its configuration space as it was when the core had set its interrupt up.
    pub config: Config,
}

/// The information page of a component.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ComponentInfo {
    /// [`INFO_MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// How often this component has been started, from 1.
    pub incarnation: u32,
    /// Its role: `netmux`, `pager`, …
    pub name: Name,
    /// The policy that fills the role.
    pub policy: Name,
    /// [`authority`].
    pub authority: u32,
    /// Rings in use of `rings`.
    pub ring_count: u32,
    /// Devices in use of `devices`.
    pub device_count: u32,
    /// Slots for VMs on this machine, [`crate::limits::MAX_SLOTS`] at most.
    pub vm_slots: u32,
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// Physical (bus) address of the DMA memory.
    pub dma_physical: u64,
    /// Bytes of DMA memory at [`layout::DMA`].
    pub dma_bytes: u64,
    /// Frames of the machine that VMs can have.
    pub vm_frames: u64,
    /// Default quantum in ticks of the TSC.
    pub quantum_ticks: u64,
    /// Seats for VMs on this machine, [`crate::limits::MAX_SEATS`] at most.
    pub vm_seats: u32,
    /// Pages at [`layout::KEEP`].
    pub keep_pages: u32,
    /// Bytes of memory at [`layout::TABLES`].
    pub tables_bytes: u64,
    /// Bytes of memory at [`layout::POOL`].
    pub pool_bytes: u64,
    /// The rings.
    pub rings: [RingInfo; MAX_RINGS_PER_COMPONENT],
    /// The devices.
    pub devices: [DeviceInfo; MAX_DEVICES_PER_COMPONENT],
    /// The key with which VMs that are out are sealed: made at boot, and never again. Zeros without [`authority::SWAP_WINDOW`].
    pub seal_key: [u8; 32],
}

const _: () = {
    assert!(core::mem::size_of::<RingInfo>() == 32);
    assert!(core::mem::size_of::<BarInfo>() == 8);
    assert!(core::mem::size_of::<DeviceInfo>() == 16 + 8 * BARS + CONFIG_BYTES);
    assert!(core::mem::offset_of!(DeviceInfo, bars) == 16);
    assert!(core::mem::offset_of!(DeviceInfo, config) == 64);
    assert!(core::mem::size_of::<ComponentInfo>() as u64 <= PAGE_SIZE);
    assert!(core::mem::offset_of!(ComponentInfo, rings) == 128);
};

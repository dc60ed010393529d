//! The compiled manifest: what xtask makes of `system.toml` and the core reads as the boot module `manifest`.
//!
//! Layout: [`Header`], then the components, rings, images, digests of modules and quotas of tenants as arrays without gaps.

use crate::attachment::Attachment;
use crate::claim::Claim;
use crate::limits::{MAX_POLICIES, Name};
use crate::share::Share;
use crate::tenant::Tenant;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Index that means the core where a component index is expected.
pub const CORE: u32 = u32::MAX;
/// Value of a `u32` field that means "none".
pub const NONE: u32 = u32::MAX;
/// "The most important one" where an image could name the component that serves its VMs.
pub const ANY: u16 = u16::MAX;
/// Bytes of an image's boot arguments.
pub const IMAGE_ARGS_BYTES: usize = 128;

/// One policy that can fill a component's role.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Policy {
    /// What the boot option names: `round-robin`.
    pub name: Name,
    /// The boot module: `sched-rr`.
    pub module: Name,
}

/// One component role.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Component {
    /// The role: `sched`. The boot option of this name chooses the policy.
    pub name: Name,
    /// The policies; the first is the default.
    pub policies: [Policy; MAX_POLICIES],
    /// Policies in use.
    pub policy_count: u32,
    /// Priority, 0 the most important; no two are equal.
    pub priority: u32,
    /// Microseconds that it may run between two waits.
    pub budget_us: u32,
    /// Pages of stack.
    pub stack_pages: u32,
    /// Pages that its image may take in memory at most.
    pub memory_pages: u32,
    /// Pages of DMA memory.
    pub dma_pages: u32,
    /// PCI class of the devices that it drives, 0x0000ccss ([`crate::pci::is_of_class`]), or [`NONE`].
    pub pci_class: u32,
    /// First port that it may use, and
    pub port_first: u16,
    /// how many from there.
    pub port_count: u16,
    /// ISA interrupt of these ports, or [`NONE`].
    pub port_irq: u32,
    /// Pages that outlive a restart ([`crate::component::layout::KEEP`]).
    pub keep_pages: u32,
    /// [`component_flags`].
    pub flags: u32,
    /// Must be zero.
    pub reserved: u32,
}

/// One ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Ring {
    /// Its name: `core-pager`.
    pub name: Name,
    /// Index of the producing component, or [`CORE`].
    pub producer: u32,
    /// Index of the consuming component, or [`CORE`].
    pub consumer: u32,
    /// Slots, a power of two.
    pub slots: u32,
    /// What a ring with the core is about ([`crate::service::Service`]); 0 for any other.
    pub service: u32,
    /// Pages of data behind the slots of one between components, which both ends can write.
    pub data_pages: u32,
    /// Must be zero.
    pub reserved: u32,
}

impl Ring {
    /// Bytes that it takes with its data: at most [`crate::component::layout::RING_STRIDE`].
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        // Widening only.
        #[allow(clippy::cast_lossless)]
        let data = self.data_pages as u64 * crate::limits::PAGE_SIZE;
        crate::ring::ring_bytes(self.slots) + data
    }
}

/// One guest image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Image {
    /// What `vms=` names: `httpd`.
    pub name: Name,
    /// The boot module.
    pub module: Name,
    /// Memory of its VMs in bytes, whole pages.
    pub memory_bytes: u64,
    /// Slots of the receive ring, a power of two; 0 for a VM without a NIC.
    pub rx_slots: u32,
    /// Slots of the transmit ring, a power of two; 0 for a VM without a NIC.
    pub tx_slots: u32,
    /// Boot arguments, zero-padded.
    pub args: [u8; IMAGE_ARGS_BYTES],
    /// Bytes in a second that each of its VMs may send, or [`crate::share::UNLIMITED`].
    pub rate: u32,
    /// Bytes that each of its VMs may send at once.
    pub burst: u32,
    /// Weight of each of its VMs.
    pub weight: u16,
    /// Index of the component that serves the NICs of its VMs, or [`ANY`].
    pub net: u16,
    /// Index of the component that serves the page faults of its VMs, or [`ANY`].
    pub pager: u16,
    /// [`image_flags`].
    pub flags: u16,
    /// Frames that are kept for each of its VMs: of memory, page tables and metadata.
    pub reserve_frames: u32,
    /// Frames that each of its VMs may hold.
    pub limit_frames: u32,
    /// Whose its VMs are: [`Tenant::raw`].
    pub tenant: u32,
    /// Must be zero.
    pub reserved: u32,
    /// The virtual disk that its VMs have.
    pub disk: Attachment,
    /// Must be zero.
    pub reserved2: u32,
}

/// Bits of [`Image::flags`]. All others must be zero.
pub mod image_flags {
    /// Its VMs control the machine: they have a control ring ([`crate::guest_control`]).
    pub const CONTROL: u16 = 1 << 0;
    /// Its VMs start with the first packet for them, and are a record until then. Only for a VM with a NIC that does not control the machine.
    pub const LAZY: u16 = 1 << 1;
    /// Its VMs, which control the machine, may read virtual disks that no VM writes.
    pub const READS_DISKS: u16 = 1 << 2;
    /// All of them.
    pub const ALL: u16 = CONTROL | LAZY | READS_DISKS;
}

impl Image {
    /// Whether its VMs control the machine.
    #[must_use]
    pub const fn controls(&self) -> bool {
        self.flags & image_flags::CONTROL != 0
    }

    /// Whether its VMs may read virtual disks that no VM writes.
    #[must_use]
    pub const fn reads_disks(&self) -> bool {
        self.flags & image_flags::READS_DISKS != 0
    }

    /// Whether its flags can be together. Virtual disks are read by the control ring.
    #[must_use]
    pub const fn has_good_flags(&self) -> bool {
        self.flags & !image_flags::ALL == 0
            && (!self.starts_lazily() || self.can_start_lazily())
            && (!self.reads_disks() || self.controls())
    }

    /// Whether its VMs start with the first packet for them.
    #[must_use]
    pub const fn starts_lazily(&self) -> bool {
        self.flags & image_flags::LAZY != 0
    }

    /// Whether its VMs could: somebody can send them a packet, and nobody waits for what they do by themselves.
    #[must_use]
    pub const fn can_start_lazily(&self) -> bool {
        self.rx_slots != 0 && self.tx_slots != 0 && !self.controls()
    }

    /// Whose its VMs are. What is no name's number is nobody's.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        Tenant::from_raw(self.tenant).unwrap_or_default()
    }

    /// What its VMs may claim of the machine's memory.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        Claim { reserve: self.reserve_frames, limit: self.limit_frames }
    }

    /// The share of its VMs.
    #[must_use]
    pub const fn share(&self) -> Share {
        Share { weight: self.weight, rate: self.rate, burst: self.burst }
    }
}

const _: () = {
    // Entries of one kind follow those of another, however many there are.
    let sizes = [core::mem::size_of::<Component>(), core::mem::size_of::<Ring>()];
    assert!((sizes[0] | sizes[1]).is_multiple_of(core::mem::align_of::<Image>()));
    assert!(core::mem::size_of::<Component>() == 16 + 32 * MAX_POLICIES + 48);
    assert!(core::mem::size_of::<Ring>() == 40);
    assert!(core::mem::size_of::<Image>() == 232);
};

#[cfg(any(test, feature = "beyond-core"))]
#[path = "manifest_file.rs"]
mod file;
#[cfg(any(test, feature = "beyond-core"))]
pub use file::{
    DEFAULTS_BYTES, DIGEST_BYTES, Header, MAGIC, ModuleDigest, RESERVE_DEFAULT, all_frames, checksum, component_flags,
    digest,
};

//! What the loader leaves for the core: one record of fixed size, in binary, and nothing else.
//!
//! The loader reads whatever boot left (multiboot2, options, manifest, ELF, ACPI, PCI), places it and writes a [`BootRecord`]; the
//! core holds no parser. To the core the record is an allegation like any other: it is checked before it is used, and a bad one
//! is refused with a field and a value. All addresses are physical unless they say otherwise; all ranges are whole pages.

pub use crate::addresses::Net;
use crate::barriers::BarrierPlan;
use crate::limits::{MAX_COMPONENTS, MAX_IMAGES, MAX_POLICIES, MAX_RINGS, MAX_SEGMENTS, MAX_TENANTS};
use crate::manifest;
use crate::nic::Node;
use crate::note::TableBytes;
use crate::quota::TenantQuota;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`BootRecord::magic`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"FKRBOOT\0");
/// [`BootRecord::version`]: loader and core are made together, so another one is refused.
pub const VERSION: u32 = 6;
/// Value of a `u32` field that means "none".
pub const NONE: u32 = u32::MAX;

/// Ranges of frames with one owner at most.
pub const MAX_RANGES: usize = 320;
/// PCI functions that are kept at most.
pub const MAX_PCI_DEVICES: usize = 32;
/// Base address registers of a function.
pub const BARS: usize = 6;
/// I/O APICs that are used at most.
pub const MAX_IO_APICS: usize = 4;
/// ISA interrupts that are wired otherwise at most: there are sixteen.
pub const MAX_OVERRIDES: usize = 16;
/// Failures that the core itself can end with.
pub const MAX_FAILURES: usize = 6;

/// Device registers of the core, mapped uncached from here upwards, each with an unmapped page behind it.
pub const MMIO_WINDOW: u64 = 0xffff_fe00_0000_0000;
/// See [`MMIO_WINDOW`].
pub const MMIO_WINDOW_END: u64 = 0xffff_fe80_0000_0000;

/// Where physical address 0 is seen in the core's half of every address space: the direct map of all RAM.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// The direct map ends here at the latest (one entry of the topmost table): RAM beyond is not used.
pub const DIRECT_MAP_BYTES: u64 = 1 << 39;
/// Where the core's image is seen, wherever it lies.
pub const CORE_BASE: u64 = 0xffff_ffff_8000_0000;
/// What the core's first byte is aligned to.
pub const CORE_ALIGN: u64 = 2 << 20;
/// Bytes that the core's image takes at most.
pub const CORE_BYTES_MAX: u64 = 16 << 20;

/// [`BootRecord::backend`].
pub mod backend {
    /// VT-x.
    pub const VMX: u32 = 1;
    /// AMD SVM.
    pub const SVM: u32 = 2;
}

/// Bits of [`BootRecord::features`]: what the processor has of what the core uses.
pub mod features {
    /// x2APIC mode.
    pub const X2APIC: u32 = 1 << 0;
    /// The APIC timer takes a TSC deadline.
    pub const TSC_DEADLINE: u32 = 1 << 1;
    /// XSAVE.
    pub const XSAVE: u32 = 1 << 2;
    /// PCID.
    pub const PCID: u32 = 1 << 3;
    /// RDFSBASE and the like.
    pub const FSGSBASE: u32 = 1 << 4;
    /// SMEP.
    pub const SMEP: u32 = 1 << 5;
    /// UMIP.
    pub const UMIP: u32 = 1 << 6;
    /// RDRAND.
    pub const RDRAND: u32 = 1 << 7;
    /// Machine checks and their architecture.
    pub const MACHINE_CHECKS: u32 = 1 << 8;
    /// The machine-check banks are AMD's, else Intel's.
    pub const AMD_BANKS: u32 = 1 << 9;
    /// All of them.
    pub const ALL: u32 = (1 << 10) - 1;
}

/// [`Range::owner`].
pub mod owner {
    /// Nobody.
    pub const FREE: u32 = 0;
    /// The core: its image, its page tables, its frame table.
    pub const CORE: u32 = 1;
    /// A boot module that is kept, or a copy of parts of one.
    pub const MODULE: u32 = 2;
    /// The loader: free as soon as the core has read the record.
    pub const LOADER: u32 = 3;
    /// A golden frame of a guest image.
    pub const GOLDEN: u32 = 4;
}

/// Frames with one owner. What no range names is not RAM, or is the firmware's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct Range {
    pub start: u64,
    pub end: u64,
    /// [`owner`].
    pub owner: u32,
    /// The image that a golden frame is of; else 0.
    pub id: u32,
}

/// Memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct Extent {
    pub start: u64,
    pub bytes: u64,
}

/// Bits of [`Segment::flags`].
pub mod segment {
    /// May be written.
    pub const WRITE: u32 = 1 << 0;
    /// May be executed; never together with [`WRITE`].
    pub const EXECUTE: u32 = 1 << 1;
    /// May not be touched at all.
    pub const HOLE: u32 = 1 << 2;
}

/// A segment of a program, and what it holds at the start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Segment {
    /// Where the program sees it, page-aligned.
    pub address: u64,
    /// Its first bytes, page-aligned. What a component only reads is mapped from here, whole; what it writes is copied from here.
    pub pristine: u64,
    /// Bytes from there; what follows in memory is zero.
    pub bytes: u64,
    /// A frame with the last of these bytes and zeros behind them, for a guest image whose bytes end within a page; else 0.
    pub tail: u64,
    /// Pages in memory.
    pub pages: u32,
    /// [`segment`].
    pub flags: u32,
}

/// [`Program::state`].
pub mod program {
    /// It can run.
    pub const GOOD: u32 = 0;
    /// Its module was not loaded.
    pub const NO_MODULE: u32 = 1;
    /// Its module was refused.
    pub const REFUSED: u32 = 2;
}

/// A program: a component's policy, or a guest image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct Program {
    /// [`program`]; unless it is good, the rest says nothing.
    pub state: u32,
    pub segment_count: u32,
    /// Address of the first instruction.
    pub entry: u64,
    /// What a component's tables take.
    pub tables: TableBytes,
    pub segments: [Segment; MAX_SEGMENTS],
}

/// A component and its policies.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Component {
    /// As the manifest has it.
    pub entry: manifest::Component,
    /// The policy that was chosen; it is good.
    pub chosen: u32,
    /// Must be zero.
    pub reserved: u32,
    /// As many as the entry has policies.
    pub programs: [Program; MAX_POLICIES],
}

/// A guest image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Image {
    /// As the manifest has it.
    pub entry: manifest::Image,
    /// What its VMs start with.
    pub program: Program,
}

/// An I/O APIC.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IoApic {
    /// Linear address of its registers.
    pub registers: u64,
    /// The global system interrupt of its first pin.
    pub gsi_base: u32,
    /// Must be zero.
    pub reserved: u32,
}

/// An ISA interrupt that is not wired to the global system interrupt of the same number, active high, edge-triggered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Override {
    /// The global system interrupt.
    pub gsi: u32,
    /// Polarity in bits 1..0, trigger mode in bits 3..2 (ACPI 6.5, table 5.26).
    pub flags: u16,
    /// The ISA interrupt.
    pub irq: u8,
    /// Must be zero.
    pub reserved: u8,
}

/// Registers that power the machine off; all zero where nobody knows how.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SoftOff {
    /// Port of PM1a_CNT.
    pub port: u16,
    /// SLP_TYPa of the state S5.
    pub sleep_type: u16,
}

/// A base address register that is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Bar {
    /// Physical address, or first port.
    pub address: u64,
    /// Bytes, or ports.
    pub bytes: u64,
    /// Which one, 0 to 5.
    pub index: u8,
    /// 1 for ports, 0 for memory.
    pub io: u8,
    /// 1 for memory that is smaller than a page and has nothing of another device or of the machine beside it there, else 0.
    pub alone: u8,
    /// Must be zero.
    pub reserved: [u8; 5],
}

/// A PCI function.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct PciDevice {
    /// Bus, device, function: bits 15..8, 7..3, 2..0.
    pub address: u16,
    pub vendor: u16,
    pub device: u16,
    /// Interrupt line as the firmware wrote it: an ISA interrupt, or 0xff.
    pub interrupt_line: u8,
    /// Interrupt pin: 1 for INTA to 4 for INTD, 0 for none.
    pub interrupt_pin: u8,
    /// Class, subclass, programming interface: 0x00ccsspp.
    pub class: u32,
    pub bar_count: u32,
    /// Linear address of its table of MSI-X; 0 without one.
    pub msix_table: u64,
    /// Entries of that table.
    pub msix_entries: u32,
    /// Must be zero.
    pub reserved: u32,
    pub bars: [Bar; BARS],
}

/// What the screen is.
pub mod screen {
    /// There is none, or none that the core can use.
    pub const NONE: u32 = 0;
    /// EGA text.
    pub const TEXT: u32 = 1;
    /// Pixels.
    pub const PIXELS: u32 = 2;
    /// Characters in a row that are kept, and rows; the rest of a larger screen stays dark.
    pub const COLUMNS: usize = 160;
    /// See [`COLUMNS`].
    pub const ROWS: usize = 64;
    /// Pixels of a character.
    pub const GLYPH_WIDTH: usize = 7;
    /// See [`GLYPH_WIDTH`].
    pub const GLYPH_HEIGHT: usize = 16;
    /// Characters: those from the blank to the tilde, and behind them the box that stands for any other.
    pub const GLYPHS: usize = 96;
    /// A character's pixels, row by row: how bright each is.
    pub type Glyph = [u8; GLYPH_WIDTH * GLYPH_HEIGHT];
}

/// The screen, and what it shows.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Screen {
    /// [`screen`].
    pub kind: u32,
    /// Bytes from one row of pixels to the next.
    pub pitch: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Linear address of the pixels; 0 when they are mapped nowhere.
    pub pixels: u64,
    /// Lowest bit of red, green and blue in a pixel; each has eight bits.
    pub colors: [u8; 3],
    /// Must be zero.
    pub reserved: [u8; 5],
    /// What the pixels show, row by row from the top; 0 is a blank.
    pub text: [[u8; screen::COLUMNS]; screen::ROWS],
}

/// The last of what the loader has logged.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Said {
    /// How many bytes it is.
    pub bytes: u32,
    /// Must be zero.
    pub reserved: u32,
    /// Lines that end with a newline; the first one may be torn.
    pub text: [u8; 8184],
}

impl Said {
    /// Its text; nothing when it is longer than can be.
    pub fn text(&self) -> &[u8] {
        some(&self.text, self.bytes)
    }
}

/// A check of the core by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// A page that is writable and executable is made, and the audit must find it.
    Wx,
    /// A VM is entered with a corrupt state, and the entry must fail cleanly.
    EntryFailure,
}

/// Room for VMs, and those that live from the start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Vms {
    /// The core's table of [`crate::record::Record`]s, one for each slot.
    pub records: Extent,
    /// The core's table of [`crate::record::Cell`]s, one for each slot at least.
    pub cells: Extent,
    /// VMs that can live.
    pub slots: u32,
    /// VMs that can be admitted; not more than slots.
    pub seats: u32,
    /// Slots from 0 on in which the loader has written VMs; the other records say nothing.
    pub written: u32,
    /// Cells from 0 on that hold their boot arguments: one VM's behind the other's, without a gap. The other cells say nothing.
    pub written_cells: u32,
}

/// [`Options::pool_bytes`] where nobody has said it: a third of memory where VMs that boot asks for do not all fit, else nothing.
pub const POOL_UNSAID: u64 = u64::MAX;

/// The boot options that the core acts on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Options {
    /// `quantum=`
    pub quantum_ns: u64,
    /// `memory-wait=`: how long a VM waits for memory beyond what is kept for it.
    pub memory_wait_ns: u64,
    /// `residence=`: how long a VM is in before it may go out again.
    pub residence_ns: u64,
    /// `pool=`: bytes for VMs that are out, whole pages; [`POOL_UNSAID`]: the core decides.
    pub pool_bytes: u64,
    /// `node=`: what tells its VMs from those of others on the same LAN; [`NONE`]: by the NIC.
    pub node: u32,
    /// `log=`: 0 for off, 1 for errors, up to 5 for traces.
    pub log: u32,
    /// `on-fatal=`: 1 powers the machine off, 0 halts it.
    pub power_off: u32,
    /// `selftest=`: 0 for none, 1 for [`SelfTest::Wx`], 2 for [`SelfTest::EntryFailure`].
    pub selftest: u32,
    /// `net=`: the address of VM 0; 0: each asks by DHCP.
    pub address: u32,
    /// Bits of the network prefix.
    pub prefix: u32,
    /// The router; 0: none.
    pub gateway: u32,
    /// `gatekeeper=`: [`Admission::number`](crate::sched::Admission::number).
    pub gatekeeper: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            quantum_ns: 10_000_000,
            memory_wait_ns: 1_000_000_000,
            residence_ns: 100_000_000,
            pool_bytes: POOL_UNSAID,
            node: NONE,
            log: 3,
            power_off: 0,
            selftest: 0,
            address: 0,
            prefix: 0,
            gateway: 0,
            gatekeeper: 0,
        }
    }
}

impl Options {
    /// How VMs come by their addresses.
    pub fn net(&self) -> Net {
        match u8::try_from(self.prefix) {
            Ok(prefix) if self.address != 0 => {
                Net::Static { address: self.address, prefix, gateway: Some(self.gateway).filter(|&at| at != 0) }
            }
            _ => Net::Dhcp,
        }
    }

    /// Sets how VMs come by their addresses.
    pub fn set_net(&mut self, net: Net) {
        (self.address, self.prefix, self.gateway) = match net {
            Net::Dhcp => (0, 0, 0),
            Net::Static { address, prefix, gateway } => (address, prefix.into(), gateway.unwrap_or(0)),
        };
    }

    /// Which node this is, if somebody has said so.
    pub fn node(&self) -> Option<Node> {
        (self.node != NONE).then(|| Node::new(self.node))
    }

    /// The check that is asked for.
    pub fn selftest(&self) -> Option<SelfTest> {
        match self.selftest {
            1 => Some(SelfTest::Wx),
            2 => Some(SelfTest::EntryFailure),
            _ => None,
        }
    }
}

/// What was decided about VT-x: `vmx::Plan` in binary.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct VmxPlan {
    pub pin_based: u32,
    pub primary: u32,
    pub secondary: u32,
    pub exit: u32,
    pub entry: u32,
    /// Revision identifier of VMCS regions.
    pub revision: u32,
    /// IA32_FEATURE_CONTROL has to be written with this value unless it is 0.
    pub feature_control: u64,
    /// A unit of the preemption timer is 2^this ticks of the TSC.
    pub timer_shift: u32,
    /// 1 where EPT entries have accessed and dirty bits.
    pub ept_accessed_dirty: u32,
    /// Type of INVEPT.
    pub invept: u64,
    pub xcr0: u64,
    /// 1 where there is XSAVEOPT.
    pub xsaveopt: u64,
    pub guest_cr0: u64,
    pub guest_cr4: u64,
    pub guest_efer: u64,
    pub host_cr0: [u64; 2],
    pub host_cr4: [u64; 2],
    /// 1 where the preemption timer counts at another rate than `timer_shift` says.
    pub timer_wrong: u64,
}

/// What was decided about SVM: `svm::Plan` in binary.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct SvmPlan {
    /// The intercept words, as they lie in the VMCB.
    pub intercepts: [u32; 6],
    /// Highest address space tag.
    pub last_tag: u32,
    /// Bits of [`svm_plan`].
    pub flags: u32,
    pub xcr0: u64,
    pub guest_cr0: u64,
    pub guest_cr4: u64,
    pub guest_efer: u64,
}

/// [`SvmPlan::flags`]; the names are those of `svm::Plan`.
#[allow(missing_docs)]
pub mod svm_plan {
    pub const NEXT_RIP: u32 = 1 << 0;
    pub const CLEAN_BITS: u32 = 1 << 1;
    pub const TSC_AUX: u32 = 1 << 2;
    pub const KEEPS_POINTERS: u32 = 1 << 3;
    pub const XSAVEOPT: u32 = 1 << 4;
}

/// Failures that the core can end with by itself, as the `F0NN` of their messages. The loader knows the rest.
#[allow(missing_docs)]
pub mod failure {
    pub const NOT_ENOUGH_MEMORY: u32 = 4;
    pub const VMX_FEATURE: u32 = 14;
    pub const NO_IO_APIC: u32 = 7;
    pub const SELF_TEST: u32 = 23;
    pub const PANIC: u32 = 24;
    /// The record itself is refused: without words, since they stand in it.
    pub const BOOT_RECORD: u32 = 28;
    /// All for which the record has words.
    pub const WITH_WORDS: [u32; super::MAX_FAILURES - 1] =
        [NOT_ENOUGH_MEMORY, VMX_FEATURE, NO_IO_APIC, SELF_TEST, PANIC];
}

/// The words of a failure, padded with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FailureWords {
    /// The number in `F0NN`; 0 for an entry that is not used.
    pub code: u32,
    /// What is wrong.
    pub cause: [u8; 92],
    /// What to do about it.
    pub remedy: [u8; 192],
}

impl FailureWords {
    /// Not used.
    pub const NONE: FailureWords = FailureWords { code: 0, cause: [0; 92], remedy: [0; 192] };
}

/// All that the loader has to say.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct BootRecord {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Bytes of the record.
    pub bytes: u32,
    /// [`backend`].
    pub backend: u32,
    /// [`features`].
    pub features: u32,
    /// The record's own memory, the loader's.
    pub own: Extent,
    /// The core's image: a multiple of [`CORE_ALIGN`].
    pub core: Extent,
    /// The topmost page table of the core's half.
    pub root: u64,
    /// Room for the frame table: eight bytes for each frame from address 0 on.
    pub frame_table: Extent,
    /// Free frames in all ranges together.
    pub free_frames: u64,
    /// The characters' pixels: [`screen::GLYPHS`] of [`screen::Glyph`].
    pub glyphs: Extent,
    /// TSC at the loader's first line, which the log's times count from.
    pub start_tsc: u64,
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// A TSC value, and
    pub clock_tsc: u64,
    /// the Unix time in nanoseconds at that moment; 0 where nobody knows.
    pub clock_unix_ns: u64,
    /// Linear address of the local APIC's registers; 0 in x2APIC mode.
    pub local_apic: u64,
    pub processors: u32,
    pub io_apic_count: u32,
    pub override_count: u32,
    pub pci_count: u32,
    pub range_count: u32,
    pub component_count: u32,
    pub ring_count: u32,
    pub image_count: u32,
    pub soft_off: SoftOff,
    pub tenant_count: u32,
    pub io_apics: [IoApic; MAX_IO_APICS],
    pub overrides: [Override; MAX_OVERRIDES],
    pub vmx: VmxPlan,
    pub svm: SvmPlan,
    pub barriers: BarrierPlan,
    pub options: Options,
    pub vms: Vms,
    pub failures: [FailureWords; MAX_FAILURES],
    /// In ascending order, without overlaps.
    pub ranges: [Range; MAX_RANGES],
    pub pci: [PciDevice; MAX_PCI_DEVICES],
    pub rings: [manifest::Ring; MAX_RINGS],
    pub components: [Component; MAX_COMPONENTS],
    pub images: [Image; MAX_IMAGES],
    pub tenants: [TenantQuota; MAX_TENANTS],
    pub screen: Screen,
    pub said: Said,
}

impl BootRecord {
    /// Bytes of a record.
    pub const BYTES: u32 = {
        let bytes = size_of::<BootRecord>();
        assert!(bytes < 1 << 20);
        // Just seen.
        #[allow(clippy::cast_possible_truncation)]
        {
            bytes as u32
        }
    };

    /// The I/O APICs; none when the count is beyond them.
    pub fn io_apics(&self) -> &[IoApic] {
        some(&self.io_apics, self.io_apic_count)
    }

    /// The ISA interrupts that are wired otherwise.
    pub fn overrides(&self) -> &[Override] {
        some(&self.overrides, self.override_count)
    }

    /// The PCI functions.
    pub fn pci(&self) -> &[PciDevice] {
        some(&self.pci, self.pci_count)
    }

    /// The ranges of frames.
    pub fn ranges(&self) -> &[Range] {
        some(&self.ranges, self.range_count)
    }

    /// The components.
    pub fn components(&self) -> &[Component] {
        some(&self.components, self.component_count)
    }

    /// The rings.
    pub fn rings(&self) -> &[manifest::Ring] {
        some(&self.rings, self.ring_count)
    }

    /// The quotas of tenants.
    pub fn tenants(&self) -> &[TenantQuota] {
        some(&self.tenants, self.tenant_count)
    }

    /// The guest images.
    pub fn images(&self) -> &[Image] {
        some(&self.images, self.image_count)
    }
}

impl PciDevice {
    /// Its base address registers; none when the count is beyond them.
    pub fn bars(&self) -> &[Bar] {
        some(&self.bars, self.bar_count)
    }
}

impl Program {
    /// Its segments; none when the count is beyond them.
    pub fn segments(&self) -> &[Segment] {
        some(&self.segments, self.segment_count)
    }
}

/// The first `count` of `all`, none when there are fewer: the count is an allegation.
fn some<T>(all: &[T], count: u32) -> &[T] {
    usize::try_from(count).ok().and_then(|count| all.get(..count)).unwrap_or(&[])
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Range>() == 24);
    assert!(size_of::<Segment>() == 40 && offset_of!(Segment, flags) == 36);
    assert!(size_of::<Program>() == 32 + 40 * MAX_SEGMENTS && offset_of!(Program, segments) == 32);
    assert!(size_of::<Component>() == size_of::<manifest::Component>() + 8 + size_of::<Program>() * MAX_POLICIES);
    assert!(size_of::<Image>() == size_of::<manifest::Image>() + size_of::<Program>());
    assert!(size_of::<IoApic>() == 16 && size_of::<Override>() == 8 && size_of::<Bar>() == 24);
    assert!(size_of::<PciDevice>() == 32 + 24 * BARS && offset_of!(PciDevice, bars) == 32);
    assert!(size_of::<Said>() == 8192);
    assert!(size_of::<Screen>() == 32 + screen::COLUMNS * screen::ROWS && offset_of!(Screen, pixels) == 16);
    assert!(size_of::<Options>() == 64 && offset_of!(Options, address) == 48);
    assert!(size_of::<Vms>() == 48 && offset_of!(Vms, slots) == 32);
    assert!(size_of::<VmxPlan>() == 128 && offset_of!(VmxPlan, feature_control) == 24);
    assert!(size_of::<SvmPlan>() == 64 && offset_of!(SvmPlan, xcr0) == 32);
    assert!(size_of::<FailureWords>() == 288);
    assert!(offset_of!(BootRecord, own) == 24 && offset_of!(BootRecord, core) == 40);
    assert!(offset_of!(BootRecord, root) == 56 && offset_of!(BootRecord, frame_table) == 64);
    assert!(offset_of!(BootRecord, glyphs) == 88 && offset_of!(BootRecord, start_tsc) == 104);
    assert!(offset_of!(BootRecord, local_apic) == 136 && offset_of!(BootRecord, io_apics) == 184);
};

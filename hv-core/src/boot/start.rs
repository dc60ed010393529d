//! The order of the boot.

use super::failure::Failure;
use super::fatal::{fatal, set_on_fatal};
use super::information::{self, Information, Refused};
use super::layout::CoreImage;
use super::manifest::Manifest;
use super::modules::Modules;
use super::options::{Known, Options, SelfTest};
use super::virtualization::Virtualization;
use crate::board::acpi::AcpiInfo;
use crate::board::apic::LocalApic;
use crate::board::clock;
use crate::board::features::{CpuFeatures, set_control_registers};
use crate::board::ioapic::IoApics;
use crate::board::pci::{PciDevices, pirq_base};
use crate::memory::map::{self, Areas};
use crate::memory::paging::Piece;
use crate::memory::phys::IMAGE_OFFSET;
use crate::memory::{AddressSpace, Frames, KernelSpace, Owner};
use abi::limits::PAGE_SIZE;

/// RAM below which the core does not start.
pub const MIN_MEMORY: u64 = 56 << 20;

/// What the boot found out, for the run loop.
pub struct Boot {
    /// Every frame and its owner.
    pub frames: Frames,
    /// The core's half of every address space.
    pub kernel: KernelSpace,
    /// The boot modules; their frames belong to [`Owner::Module`].
    pub modules: Modules,
    /// The manifest, in the frames of its module.
    pub manifest: Manifest<'static>,
    /// The boot options.
    pub options: Options,
    /// The processor's features.
    pub features: CpuFeatures,
    /// How guests are run.
    pub virtualization: Virtualization,
    /// Interrupt wiring and timers.
    pub acpi: AcpiInfo,
    /// This CPU's local APIC, on.
    pub apic: LocalApic,
    /// The I/O APICs, all pins masked.
    pub ioapics: IoApics,
    /// The PCI devices.
    pub pci: PciDevices,
    /// For [`crate::board::pci::PciDevice::wire`].
    pub pirq_base: Option<u32>,
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// A TSC value, and
    pub boot_tsc: u64,
    /// the Unix time in nanoseconds at that moment; 0 when the real-time clock makes no sense.
    pub boot_unix_ns: u64,
}

/// Where `main.rs` goes, on the early page tables: `magic` and `address` are what the boot loader left.
pub fn start(magic: u32, address: u32, image: CoreImage) -> ! {
    // SAFETY: these are what the boot loader left; the early page tables are loaded.
    let opened = unsafe { information::open(magic, address) };
    crate::log::init(opened.as_ref().map_or(crate::log::Screen::Text, information::screen));
    let opened = or_fatal(opened);
    set_on_fatal(Options::early_on_fatal(information::line(&opened).unwrap_or("")));
    log::info!("Foraker {}, ABI {}", env!("CARGO_PKG_VERSION"), abi::ABI_VERSION);
    let information = or_fatal(information::read(&opened, address));

    let (features, virtualization) = check_processor();
    // The tables are read while everything below 4 GiB is mapped.
    let Some((revision, root)) = information.rsdp else {
        fatal(Failure::NoAcpi, format_args!("the boot loader found none"));
    };
    // SAFETY: the early page tables are loaded, and the root is what the boot loader found.
    let acpi = match unsafe { AcpiInfo::read(revision, root) } {
        Ok(acpi) => acpi,
        Err(why) => fatal(Failure::NoAcpi, format_args!("{why}")),
    };
    let mut frames = make_frames(&information, &image);
    let (manifest, options) = read_manifest(&information);
    log::set_max_level(options.log);
    set_on_fatal(options.on_fatal);

    let mut kernel = make_tables(&mut frames, image, &information.areas, &features);
    let mut map = |at, bytes| kernel.map_mmio(&mut frames, at, bytes);
    let hpet = |at| map(crate::memory::PhysAddr::new(at), 1024);
    let Some(rate) = clock::calibrate(&acpi, hpet) else { fatal(Failure::NoTimer, format_args!("")) };
    crate::log::set_tsc_hz(rate.hz);
    let (boot_unix_ns, boot_tsc) = (clock::unix_ns(acpi.century), clock::tsc());
    log::info!("TSC: {} Hz by the {}; Unix time {} s", rate.hz, rate.against, boot_unix_ns / 1_000_000_000);
    if !features.invariant_tsc {
        log::warn!("the TSC's rate may change when the processor saves power: times will be wrong then");
    }
    let registers = crate::memory::PhysAddr::new(acpi.local_apic);
    // SAFETY: interrupts are off since the entry; the mapping is the one that the MADT names.
    let Some(mut apic) = (unsafe { LocalApic::enable(&features, || map(registers, PAGE_SIZE)) }) else {
        fatal(Failure::NoLocalApic, format_args!("its registers cannot be mapped"));
    };
    apic.calibrate(rate.hz);
    let Some(mut ioapics) = IoApics::init(&acpi, |at| map(at, PAGE_SIZE)) else {
        fatal(Failure::NoIoApic, format_args!("the MADT names none"));
    };
    let (processors, controllers) = (acpi.processors, acpi.io_apics.len());
    log::info!("{processors} processors, 1 used; {}; {controllers} I/O APICs", apic.mode());
    let mut pci = PciDevices::scan();
    pci.map_tables(&mut map);
    for device in &pci.devices {
        let (vendor, id, class) = (device.vendor, device.device, device.class);
        log::info!("PCI {}: {vendor:04x}:{id:04x} class {class:06x}", device.address);
    }
    if pci.dropped > 0 {
        log::warn!("{} PCI devices are left out: there is room for {}", pci.dropped, pci.devices.len());
    }
    check_tables(&mut frames, &kernel, &options);
    let pirq_base = pirq_base(&pci, ioapics.pins(16));
    let modules = information.modules;
    let tsc_hz = rate.hz;
    crate::kernel::run(Boot {
        frames,
        kernel,
        modules,
        manifest,
        options,
        features,
        virtualization,
        acpi,
        apic,
        ioapics,
        pci,
        pirq_base,
        tsc_hz,
        boot_tsc,
        boot_unix_ns,
    })
}

fn or_fatal<T>(result: Result<T, Refused>) -> T {
    match result {
        Ok(value) => value,
        Err(refused) => fatal(refused.failure, format_args!("{refused}")),
    }
}

/// The features of a processor that has all that the core needs, and its way to run guests.
fn check_processor() -> (CpuFeatures, Virtualization) {
    let features = CpuFeatures::detect();
    log::info!("processor: {}, {} bits of physical address", features.vendor(), features.physical_bits);
    // This first: old processors lack other things as well, but this is what their owners look for.
    // SAFETY: ring 0.
    let virtualization = match unsafe { Virtualization::detect() } {
        Ok(found) => found,
        Err(refusal) => fatal(Failure::from(&refusal), format_args!("{refusal}")),
    };
    log::info!("virtualization: {}", virtualization.name());
    if let Some(name) = features.missing() {
        fatal(if features.apic { Failure::NoCpuFeature } else { Failure::NoLocalApic }, format_args!("{name}"));
    }
    (features, virtualization)
}

/// The frame table, with everything that is in use protected from the allocator.
fn make_frames(information: &Information, image: &CoreImage) -> Frames {
    let usable = information.areas.usable_bytes();
    if usable < MIN_MEMORY {
        fatal(Failure::LittleMemory, format_args!("{} MiB are usable", usable >> 20));
    }
    let mut in_use: heapless::Vec<(Piece, Owner), 60> = heapless::Vec::new();
    let core = Piece { start: image.load_start, end: image.end - IMAGE_OFFSET };
    let own = Piece { start: information.own.start, end: information.own.end };
    let modules = information.modules.iter();
    let modules = modules.map(|module| (Piece { start: module.start.as_u64(), end: module.end() }, Owner::Module));
    in_use.extend([(core, Owner::Core), (own, Owner::Core)].into_iter().chain(modules));
    // SAFETY: the map is the boot loader's, the early page tables are loaded, and besides the core, its information and
    // its modules nothing is in use (multiboot2, section 3.3: the boot loader's own memory is free now).
    let frames = unsafe { map::make_frames(&information.areas, &in_use) };
    let Some(frames) = frames else { fatal(Failure::LittleMemory, format_args!("no room for the frame table")) };
    log::info!("memory: {} MiB, {} MiB free", usable >> 20, (frames.free_frames() * PAGE_SIZE) >> 20);
    frames
}

fn read_manifest(information: &Information) -> (Manifest<'static>, Options) {
    let Some(module) = information.modules.get("manifest") else {
        fatal(Failure::NoManifest, format_args!(""));
    };
    // SAFETY: the frames belong to the module, and nobody writes or frees those of the manifest.
    let manifest = match Manifest::parse(unsafe { module.bytes() }) {
        Ok(manifest) => manifest,
        Err(error) => fatal(Failure::BadManifest, format_args!("{error}")),
    };
    let known = Known { components: manifest.components, rings: manifest.rings, images: manifest.images };
    match Options::parse(manifest.defaults, information.line, known) {
        Ok(options) => (manifest, options),
        Err(error) => fatal(Failure::BadOptions, format_args!("{error}")),
    }
}

/// Builds the final page tables and switches to them.
fn make_tables(frames: &mut Frames, image: CoreImage, areas: &Areas, features: &CpuFeatures) -> KernelSpace {
    let mut kernel = match KernelSpace::new(frames, image, &areas.direct_map(), features.huge_pages) {
        Ok(kernel) => kernel,
        Err(error) => fatal(Failure::PageTables, format_args!("{error}")),
    };
    let screen = crate::log::framebuffer();
    let window = screen.and_then(|(at, bytes, _)| kernel.map_mmio(frames, at, bytes));
    // The early page tables show the framebuffer where the final ones do not.
    // SAFETY: nothing is mapped.
    unsafe { crate::log::framebuffer_at(None) };
    // SAFETY: code, data and stack lie in the image; the boot information, modules and the frame table are RAM that the
    // direct map shows; the text screen lies below 1 MiB, which it shows as well. No user pages exist.
    unsafe {
        kernel.activate();
        set_control_registers(features);
    }
    if let Some((_, _, (columns, rows))) = screen {
        // SAFETY: the final tables, which every other space shares, map all of it there for good.
        unsafe { crate::log::framebuffer_at(window) };
        match window {
            Some(_) => log::info!("screen: a framebuffer with room for {columns} x {rows} characters"),
            None => log::warn!("the framebuffer cannot be mapped: the screen shows nothing from here on"),
        }
    }
    kernel
}

/// W^X: walks the tables, and on request shows that the walk finds what it looks for.
fn check_tables(frames: &mut Frames, kernel: &KernelSpace, options: &Options) {
    let report = kernel.audit();
    log::info!("{report}");
    if !report.is_clean() {
        fatal(Failure::SelfTest, format_args!("{report}"));
    }
    if options.selftest == Some(SelfTest::Wx) {
        match find_bad_page(frames, kernel) {
            Some(found) => log::info!("selftest wx: passed; with a bad page the audit says: {found}"),
            None => fatal(Failure::SelfTest, format_args!("the W^X audit did not find a bad page")),
        }
    }
}

fn find_bad_page(frames: &mut Frames, kernel: &KernelSpace) -> Option<crate::memory::WxReport> {
    const AT: u64 = 0x40_0000;
    let mut scratch = AddressSpace::new(frames, kernel, Owner::Core)?;
    let frame = frames.alloc_zeroed(Owner::Core, 0)?;
    let mapped = scratch.map_bad_for_selftest(frames, AT, frame);
    let report = scratch.audit();
    scratch.destroy(frames);
    // Allocated above by this name, so it cannot be refused.
    frames.free(frame, Owner::Core);
    let found = mapped.is_ok() && report.writable_executable == 1 && report.first_bad == Some(AT);
    found.then_some(report)
}

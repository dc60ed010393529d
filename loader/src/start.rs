//! The order of the boot.

use crate::acpi::AcpiInfo;
use crate::barriers::{self, Identity, Lines};
use crate::clock::{self, TscRate};
use crate::digests::{self, Damage};
use crate::failure::{Failure, fatal};
use crate::features::CpuFeatures;
use crate::glyphs;
use crate::information::{self, Information, Refused};
use crate::manifest::Manifest;
use crate::map::{self, EARLY_END, Piece};
use crate::memory::tables::Table;
use crate::memory::{Frames, Owner, PhysAddr};
use crate::options::{Known, OnFatal, Options};
use crate::pci::Ports;
use crate::prepare::{Clock, Found, Processor, prepare};
use crate::quotas;
use crate::virtualization::Virtualization;
use crate::vm_list::{self, VmList};
use abi::barriers::BarrierPlan;
use abi::boot::DIRECT_MAP;
use abi::limits::PAGE_SIZE;
use base::log::Screen;

/// RAM below which the core does not start.
const MIN_MEMORY: u64 = 40 << 20;
/// The entry of the topmost table through which the core's image is seen.
const CORE_ENTRY: usize = 511;

/// Where the loader itself lies, in physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct LoaderImage {
    /// First byte, the 32-bit entry.
    pub start: u64,
    /// First byte behind everything.
    pub end: u64,
}

/// Where `main.rs` goes, on the early page tables: `magic` and `address` are what the boot loader left.
pub fn start(magic: u32, address: u32, image: LoaderImage) -> ! {
    base::log::init();
    // SAFETY: these are what the boot loader left; the early page tables are loaded.
    let opened = unsafe { information::open(magic, address) };
    open_screen(opened.as_ref().map_or(Screen::Text, information::screen));
    let opened = or_fatal(opened);
    set_on_fatal(Options::early_on_fatal(information::line(&opened).unwrap_or("")));
    log::info!("Foraker {}, ABI {}", env!("CARGO_PKG_VERSION"), abi::ABI_VERSION);
    let information = or_fatal(information::read(&opened, address));

    let (features, virtualization) = check_processor();
    let acpi = read_acpi(&information);
    let mut frames = make_frames(&information, image);
    let (manifest, options) = read_manifest(&information);
    log::set_max_level(options.log);
    set_on_fatal(options.on_fatal);
    let barriers = plan_barriers(&options);
    let (rate, tsc, unix_ns) = read_clocks(&acpi, &features);

    let vms = read_vms(&information, &manifest, &options);
    let found = Found { information: &information, manifest: &manifest, options: &options, acpi: &acpi, vms };
    let processor = Processor { features: &features, virtualization: &virtualization, barriers };
    let prepared = prepare(&found, &processor, &Clock { rate, tsc, unix_ns }, &mut Ports, &mut frames);
    base::log::flush();
    base::log::save_screen(&mut prepared.record.screen, prepared.pixels);
    base::log::save_history(&mut prepared.record.said);
    // SAFETY: interrupts are off, and the loader does nothing any more.
    unsafe { jump(prepared.entry, prepared.record.own.start, prepared.root) }
}

fn open_screen(screen: Screen) {
    base::log::open_screen(screen, glyphs::all());
    let Screen::Pixels(mode) = screen else { return };
    let end = mode.bytes().map(|bytes| mode.address.as_u64().saturating_add(bytes));
    // Beyond what the early page tables show it waits for the core.
    if end.is_some_and(|end| end <= EARLY_END) {
        let pixels = core::ptr::NonNull::new(mode.address.as_ptr::<u8>());
        // SAFETY: the early page tables show all of it, as long as the loader runs.
        unsafe { base::log::framebuffer_at(pixels) };
    }
}

fn set_on_fatal(what: OnFatal) {
    base::fatal::set_power_off(what == OnFatal::PowerOff);
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

/// What is done against side channels of this processor.
fn plan_barriers(options: &Options) -> BarrierPlan {
    // SAFETY: ring 0.
    let plan = barriers::plan(&unsafe { Identity::read() }, options.barriers);
    let lines = Lines(plan);
    log::info!("{}", lines.exposed());
    log::info!("{}", lines.done());
    plan
}

fn read_acpi(information: &Information) -> AcpiInfo {
    let Some((revision, root)) = information.rsdp else {
        fatal(Failure::NoAcpi, format_args!("the boot loader found none"));
    };
    // SAFETY: the early page tables are loaded, and the root is what the boot loader found.
    match unsafe { AcpiInfo::read(revision, root) } {
        Ok(acpi) => acpi,
        Err(why) => fatal(Failure::NoAcpi, format_args!("{why}")),
    }
}

/// The frame table, with everything that is in use protected from the allocator.
fn make_frames(information: &Information, image: LoaderImage) -> Frames {
    let usable = information.areas.usable_bytes();
    if usable < MIN_MEMORY {
        fatal(Failure::NotEnoughMemory, format_args!("{} MiB are usable", usable >> 20));
    }
    let mut in_use: heapless::Vec<(Piece, Owner), 60> = heapless::Vec::new();
    let loader = Piece { start: image.start, end: image.end };
    let own = Piece { start: information.own.start, end: information.own.end };
    let modules = information.modules.iter();
    let modules = modules.map(|module| (Piece { start: module.start.as_u64(), end: module.end() }, Owner::Module));
    in_use.extend([(loader, Owner::Loader), (own, Owner::Loader)].into_iter().chain(modules));
    // SAFETY: the map is the boot loader's, the early page tables are loaded, and besides the loader, its information and
    // its modules nothing is in use (multiboot2, section 3.3: the boot loader's own memory is free now).
    let frames = unsafe { map::make_frames(&information.areas, &in_use) };
    let Some(frames) = frames else { fatal(Failure::NotEnoughMemory, format_args!("no room for the frame table")) };
    log::info!("memory: {} MiB, {} MiB free", usable >> 20, (frames.free_frames() * PAGE_SIZE) >> 20);
    frames
}

fn read_manifest(information: &Information) -> (Manifest<'static>, Options) {
    let Some(module) = information.modules.get("manifest") else {
        fatal(Failure::NoManifest, format_args!(""));
    };
    // SAFETY: the frames belong to the module, and nobody writes those of the manifest while the loader runs.
    let manifest = match Manifest::parse(unsafe { module.bytes() }) {
        Ok(manifest) => manifest,
        Err(error) => fatal(Failure::BadManifest, format_args!("{error}")),
    };
    match Options::parse(manifest.defaults, information.line, known(&manifest)) {
        Ok(options) => (manifest, options),
        Err(error) => fatal(Failure::BadOptions, format_args!("{error}")),
    }
}

fn known<'m>(manifest: &Manifest<'m>) -> Known<'m> {
    Known { components: manifest.components, rings: manifest.rings, images: manifest.images }
}

/// The VMs that the machine starts with.
fn read_vms<'o>(information: &Information, manifest: &Manifest<'o>, options: &'o Options) -> VmList<'o> {
    let list = find_vms(information, manifest, options);
    if let Err(error) = list.check_reachable(options, manifest.images) {
        fatal(Failure::BadOptions, format_args!("{error}"));
    }
    if let Err(error) = quotas::check(manifest.tenants, manifest.images, list.requests()) {
        fatal(Failure::BadOptions, format_args!("{error}"));
    }
    list
}

fn find_vms<'o>(information: &Information, manifest: &Manifest<'o>, options: &'o Options) -> VmList<'o> {
    let Some(module) = information.modules.get(vm_list::MODULE) else { return options.into() };
    if !VmList::is_in_module(information.line) {
        log::info!("the module '{}' is not read: the command line says vms=", vm_list::MODULE);
        return options.into();
    }
    // SAFETY: the frames belong to the module, and nobody writes them while the loader runs.
    let file = unsafe { module.bytes() };
    // One that was written by hand has no digest, and needs none: all of it is judged.
    match digests::check(manifest.modules, module, file) {
        Ok(()) | Err(Damage::Unknown) => {}
        Err(damage) => fatal(Failure::DamagedModule, format_args!("'{}': {damage}", vm_list::MODULE)),
    }
    match VmList::read(file, known(manifest)) {
        Ok(list) => list,
        Err(error) => fatal(Failure::BadOptions, format_args!("{error}")),
    }
}

/// The rate of the TSC, one of its values, and the Unix time then.
fn read_clocks(acpi: &AcpiInfo, features: &CpuFeatures) -> (TscRate, u64, u64) {
    // Device registers below 4 GiB are seen on the early page tables, uncached as the firmware's memory types say.
    let hpet = |at: u64| {
        let reachable = at.checked_add(1024).is_some_and(|end| end <= EARLY_END);
        if reachable { core::ptr::NonNull::new(PhysAddr::new(at).as_ptr()) } else { None }
    };
    let Some(rate) = clock::calibrate(acpi, hpet) else { fatal(Failure::NoTimer, format_args!("")) };
    base::log::set_tsc_hz(rate.hz);
    let (unix_ns, tsc) = (clock::unix_ns(acpi.century), base::tsc());
    log::info!("TSC: {} Hz by the {}; Unix time {} s", rate.hz, rate.against, unix_ns / 1_000_000_000);
    if !features.invariant_tsc {
        log::warn!("the TSC's rate may change when the processor saves power: times will be wrong then");
    }
    (rate, tsc, unix_ns)
}

/// Goes to the core's entry.
///
/// # Safety
/// `root` is the topmost table of the core's half, where the record, too, is seen in the direct map; `entry` is the core's.
unsafe fn jump(entry: u64, record: u64, root: PhysAddr) -> ! {
    let early = PhysAddr::new(x86_cr3() & !(PAGE_SIZE - 1));
    // SAFETY: both are topmost tables that the direct map shows. From here on the early tables show the core where the final ones do, so
    // that its entry can change over.
    unsafe { (*early.as_ptr::<Table>())[CORE_ENTRY] = (*root.as_ptr::<Table>())[CORE_ENTRY] };
    // SAFETY: by this function's contract; the entry was not mapped before, so nothing is remembered of it.
    unsafe {
        core::arch::asm!(
            "jmp {entry}",
            entry = in(reg) entry,
            in("rdi") DIRECT_MAP + record,
            in("rsi") root.as_u64(),
            options(noreturn)
        )
    }
}

fn x86_cr3() -> u64 {
    // SAFETY: ring 0; reading it changes nothing.
    unsafe { x86::controlregs::cr3() }
}

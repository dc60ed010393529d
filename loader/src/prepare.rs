//! Everything that the loader does but for finding out and going over: the core in its place, the page tables of its half, programs
//! placed, the boot record written. What it works on is data and memory, so it runs on the host as well.

use crate::acpi::AcpiInfo;
use crate::clock::TscRate;
use crate::core_place::{CorePlace, NoCore};
use crate::failure::{Failure, fatal};
use crate::features::CpuFeatures;
use crate::information::Information;
use crate::kernel_tables::KernelTables;
use crate::manifest::Manifest;
use crate::map::Areas;
use crate::memory::{Frames, Owner, PhysAddr};
use crate::options::Options;
use crate::pci::{ConfigSpace, PciDevices};
use crate::record::{self, Kept};
use crate::virtualization::Virtualization;
use crate::vm_list::VmList;
use crate::vms;
use crate::{digests, pool, ranges};
use abi::barriers::BarrierPlan;
use abi::boot::BootRecord;
use abi::limits::PAGE_SIZE;
use core::ops::Range;
use core::ptr::NonNull;

/// What boot left.
pub struct Found<'f> {
    pub information: &'f Information,
    pub manifest: &'f Manifest<'f>,
    pub options: &'f Options,
    pub acpi: &'f AcpiInfo,
    /// The VMs that it starts with.
    pub vms: VmList<'f>,
}

/// What the processor has, and what was decided about it.
pub struct Processor<'f> {
    pub features: &'f CpuFeatures,
    pub virtualization: &'f Virtualization,
    pub barriers: BarrierPlan,
}

/// The rate of the TSC, one of its values, and the Unix time in nanoseconds then.
pub struct Clock {
    pub rate: TscRate,
    pub tsc: u64,
    pub unix_ns: u64,
}

/// What the core is started with.
pub struct Prepared {
    pub record: &'static mut BootRecord,
    /// The core's first instruction.
    pub entry: u64,
    /// The topmost table of its half.
    pub root: PhysAddr,
    /// Where it sees the framebuffer.
    pub pixels: Option<NonNull<u8>>,
}

/// Places everything and writes the record. What it lacks ends the boot.
pub fn prepare(
    found: &Found<'_>,
    processor: &Processor<'_>,
    clock: &Clock,
    pci_space: &mut impl ConfigSpace,
    frames: &mut Frames,
) -> Prepared {
    let Found { information, manifest, options, acpi, vms } = *found;
    let Processor { features, virtualization, barriers } = *processor;
    let record = record::make(frames);
    let core = place_core(information, manifest, virtualization, frames);
    if options.selftest.is_some() && !core.selftest {
        fatal(
            Failure::BadOptions,
            format_args!(
                "'selftest=' is for the test image, which 'cargo xtask test' makes: this core has no hooks for it"
            ),
        );
    }
    let mut tables = make_tables(frames, &core, &information.areas, features);
    record.core.start = core.start.as_u64();
    record.core.bytes = core.bytes;
    record.root = tables.root().as_u64();
    record.options = options.to_record();
    record::write_processor(record, features, virtualization);
    record.barriers = barriers;
    record::write_time(record, &clock.rate, clock.tsc, clock.unix_ns);
    record::write_acpi(record, acpi, features, &mut tables, frames);
    let pci = scan_pci(&information.areas, pci_space, &mut tables, frames);
    record::write_pci(record, &pci);
    record::write_glyphs(record, frames);
    let out = pool::out(options, vms.requests(), manifest.images, frames.free_frames());
    let kept = record::write_manifest(record, manifest, options, &information.modules, &pci, out, frames);
    let pixels = map_screen(&mut tables, frames);
    leave_modules(information, &kept, frames);
    place_vms(record, options, vms, frames);
    write_owners(record, frames);
    Prepared { record, entry: core.elf.entry, root: tables.root(), pixels }
}

/// The core that was built for this processor, in its place.
fn place_core(
    information: &Information,
    manifest: &Manifest<'_>,
    virtualization: &Virtualization,
    frames: &mut Frames,
) -> CorePlace {
    let (name, kind) = virtualization.core();
    let Some(module) = information.modules.get(name) else {
        fatal(Failure::NoModule, format_args!("'{name}', the core for this processor, is not among the boot modules"));
    };
    // SAFETY: the frames belong to the module, and nobody writes those of a core while the loader runs.
    let file = unsafe { module.bytes() };
    if let Err(damage) = digests::check(manifest.modules, module, file) {
        fatal(Failure::DamagedModule, format_args!("'{name}': {damage}"));
    }
    match CorePlace::new(frames, module, file, kind) {
        Ok(core) => core,
        Err(NoCore::NoMemory) => fatal(Failure::NotEnoughMemory, format_args!("no room for the core")),
        Err(why) => fatal(Failure::BadModule, format_args!("'{name}': {why}")),
    }
}

fn make_tables(frames: &mut Frames, core: &CorePlace, areas: &Areas, features: &CpuFeatures) -> KernelTables {
    match KernelTables::new(frames, core, &areas.direct_map(), features.huge_pages) {
        Ok(tables) => tables,
        Err(error) => fatal(Failure::PageTables, format_args!("{error}")),
    }
}

/// Where the machine itself has registers: APICs, timers, a TPM and the firmware's flash (Intel's and AMD's manuals agree about it).
const MACHINE: Range<u64> = 0xfec0_0000..1 << 32;

fn scan_pci(areas: &Areas, space: &mut impl ConfigSpace, tables: &mut KernelTables, frames: &mut Frames) -> PciDevices {
    let mut pci = PciDevices::scan(space);
    let left_out = pci.leave_out(|start, end| areas.have_memory(start, end));
    if left_out > 0 {
        log::warn!(
            "{left_out} register blocks of PCI devices lie in memory and are not used: the firmware has not placed them"
        );
    }
    let screen = base::log::framebuffer().map(|(at, bytes, _)| at.as_u64()..at.as_u64().saturating_add(bytes));
    pci.find_alone(|start, end| {
        let is_there = |range: &Range<u64>| range.start < end && start < range.end;
        areas.have_memory(start, end) || is_there(&MACHINE) || screen.as_ref().is_some_and(is_there)
    });
    pci.map_tables(space, |at, bytes| tables.map_mmio(frames, at, bytes));
    for device in &pci.devices {
        let (vendor, id, class) = (device.vendor, device.device, device.class);
        log::info!("PCI {}: {vendor:04x}:{id:04x} class {class:06x}", base::pci::PciAddress(device.address));
    }
    if pci.dropped > 0 {
        log::warn!("{} PCI devices are left out: there is room for {}", pci.dropped, pci.devices.len());
    }
    pci
}

/// Maps a framebuffer where the core sees it.
fn map_screen(tables: &mut KernelTables, frames: &mut Frames) -> Option<NonNull<u8>> {
    let (at, bytes, (columns, rows)) = base::log::framebuffer()?;
    let pixels = tables.map_mmio(frames, at, bytes);
    match pixels {
        Some(_) => log::info!("screen: a framebuffer with room for {columns} x {rows} characters"),
        None => log::warn!("the framebuffer cannot be mapped: the screen shows nothing from here on"),
    }
    pixels
}

/// Gives the modules that are not needed any more to the loader, whose frames the core frees.
fn leave_modules(information: &Information, kept: &Kept, frames: &mut Frames) {
    for module in information.modules.iter().filter(|module| !kept.contains(module)) {
        let (first, end) = (module.start.frame(), module.end() / PAGE_SIZE);
        frames.hand_over(first, end, Owner::Module, Owner::Loader);
    }
}

/// Room for VMs, and those that the machine starts with.
fn place_vms(record: &mut BootRecord, options: &Options, list: VmList<'_>, frames: &mut Frames) {
    let missing = |missing| log::error!(target: "core", "{missing}");
    if let Err(no_room) = vms::place(record, options, list, frames, missing) {
        fatal(Failure::NotEnoughMemory, format_args!("{no_room}"));
    }
}

/// Writes down who owns what. Nothing is allocated after this.
fn write_owners(record: &mut BootRecord, frames: &mut Frames) {
    record.frame_table.start = frames.place().as_u64();
    record.frame_table.bytes = (frames.len() * size_of::<crate::memory::frames::Entry>()) as u64;
    record.free_frames = frames.free_frames();
    record.range_count = match ranges::write(frames, &mut record.ranges) {
        Ok(count) => count,
        Err(ranges::TooMany) => fatal(Failure::BootRecord, format_args!("memory is in too many pieces")),
    };
}

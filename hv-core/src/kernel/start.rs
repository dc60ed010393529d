//! From what boot found to a running machine.

use super::{Kernel, Parts, Places, Tables, enable};
use crate::board::msi::Messages;
use crate::board::{Board, Hardware, TimeBase};
use crate::boot::{Accept, Boot, Elf, ElfError, Failure, Manifest, Modules, Virtualization, fatal, vms};
use crate::component::{LoadError, Loaded, Sources, load_all};
use crate::memory::Frames;
use crate::vm::{Image, Images};
use abi::guest::IMAGE_BASE;
use abi::manifest;
use abi::note::KIND_GUEST;
use abi::vm::{ImageId, Slot};
use backend::{Backend, Corruption, Vcpu};

/// Runs the machine that boot has prepared. Does not return.
pub fn run(mut boot: Boot) -> ! {
    enable::bring_up_cpu(&mut boot.frames);
    enable::machine_checks(&boot.features);
    match boot.virtualization {
        Virtualization::Vtx(plan) => {
            let vtx = enable::vtx(&plan, &mut boot.frames, boot.kernel.root().as_u64());
            run_with(boot, vtx)
        }
        Virtualization::Svm(plan) => {
            let svm = enable::svm(&plan, &mut boot.frames);
            run_with(boot, svm)
        }
    }
}

fn run_with<B: Backend>(boot: Boot, backend: B) -> ! {
    let Boot { mut frames, kernel, modules, options, manifest, features, .. } = boot;
    let mut hardware = Hardware {
        apic: boot.apic,
        io_apics: boot.ioapics,
        messages: Messages::default(),
        acpi: boot.acpi,
        pci: boot.pci,
        pirq_base: boot.pirq_base,
        rdrand: features.rdrand,
        seed: boot.boot_unix_ns,
    };
    let time = TimeBase::new(boot.tsc_hz, boot.boot_tsc, boot.boot_unix_ns);
    let places = Places::new(&options, frames.free_frames());
    let more_cells = vms::more_cells(&options.vms, manifest.images, &options.net);
    let Some(mut tables) = Tables::new(&mut frames, places, more_cells) else {
        let Places { slots, seats } = places;
        fatal(
            Failure::LittleMemory,
            format_args!("no room for {slots} slots and {seats} seats of VMs; ask for fewer (slots=, seats=)"),
        );
    };
    // SAFETY: the frames of modules are never written and never freed.
    let module = |name: &str| modules.get(name).map(|module| unsafe { module.bytes() });
    let sources = Sources {
        manifest,
        policies: &options.policies,
        module: &module,
        kernel: &kernel,
        pcid: features.pcid,
        vm_slots: places.slots,
        vm_seats: places.seats,
        tsc_hz: time.tsc_hz(),
    };
    let mut loaded = Loaded::new();
    if let Err(error) = load_all(&sources, &mut frames, &mut hardware, &mut loaded) {
        fatal_load(&error);
    }
    for component in &loaded.components.list {
        let report = component.space.tables().audit();
        log::info!("{}: {report}", component.entry.name);
        if !report.is_clean() {
            fatal(Failure::SelfTest, format_args!("the address space of {}: {report}", component.entry.name));
        }
    }
    let images = load_images(&manifest, &modules, &mut frames);
    tables.write_vms(&options, &images);
    let parts = Parts { backend, board: hardware, time, frames, loaded, images };
    let selftest = options.selftest;
    let mut kernel = Kernel::new(parts, tables, options);
    kernel.start_components();
    if selftest == Some(crate::boot::options::SelfTest::EntryFailure) {
        kernel.create_requested();
        kernel.force_entry_failures();
    }
    crate::log::set_buffered(true);
    kernel.run()
}

fn fatal_load(error: &LoadError) -> ! {
    let failure = match error {
        LoadError::NoModule(_) => Failure::NoModule,
        LoadError::BadModule(..) => Failure::BadModule,
        LoadError::NoDevice(..) => Failure::NoDevice,
        LoadError::NoMemory(_) => Failure::LittleMemory,
        LoadError::NoPair(..) => Failure::BadManifest,
    };
    fatal(failure, format_args!("{error}"))
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Spoil the first VMs, one in each way, so that the next entry of each fails: the entry path's own test.
    fn force_entry_failures(&mut self) {
        let ways = [Corruption::GuestState, Corruption::Controls, Corruption::HostState];
        let Self { vms, cpu, .. } = self;
        for (slot, way) in (0_u32..).zip(ways) {
            let Some(seed) = vms.waiting_in(Slot::new(slot)) else { break };
            cpu.admit(vms, seed.id);
            if let Some(vm) = vms.by_id(seed.id).filter(|vm| vm.life.is_ready()) {
                vm.vcpu.corrupt(&mut cpu.backend, way);
                log::info!(target: "core", "selftest: {} is spoilt: {way:?}", vm.id);
            }
        }
    }
}

/// The guest images that the manifest names. One that is missing or refused is said so, and the rest go on.
fn load_images(manifest: &Manifest<'_>, modules: &Modules, frames: &mut Frames) -> Images {
    let mut list = heapless::Vec::new();
    for (index, entry) in (0_u32..).zip(manifest.images) {
        let image = load_image(entry, ImageId::new(index), modules, frames);
        if let Err(why) = &image {
            log::error!(
                "image {}: {why}; its VMs cannot be created; rebuild it and add it to the boot entry",
                entry.name
            );
        }
        // The manifest has no more images than fit.
        let _ = list.push(image.ok());
    }
    Images::new(list)
}

fn load_image(entry: &manifest::Image, id: ImageId, modules: &Modules, frames: &mut Frames) -> Result<Image, BadImage> {
    let module = modules.get(entry.module.as_str()).ok_or(BadImage::NoModule)?;
    let accept = Accept { low: IMAGE_BASE, high: entry.memory_bytes, kind: KIND_GUEST };
    // SAFETY: the frames of modules are never written and never freed.
    let elf = Elf::parse(unsafe { module.bytes() }, accept).map_err(BadImage::Elf)?;
    Image::new(*entry, id, module.start, &elf, frames).ok_or(BadImage::NoMemory)
}

/// Why a guest image cannot be used.
#[derive(Debug)]
enum BadImage {
    NoModule,
    Elf(ElfError),
    NoMemory,
}

impl core::fmt::Display for BadImage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BadImage::NoModule => f.write_str("its module was not loaded"),
            BadImage::Elf(error) => write!(f, "its module is refused: {error}"),
            BadImage::NoMemory => f.write_str("there is no memory for its golden frames"),
        }
    }
}

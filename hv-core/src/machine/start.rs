//! From what boot found to a running machine.

use super::lifecycle::End;
use super::ready::{EMPTY_LINK, ReadyList};
use super::timers::{EMPTY_CELL, NEVER, Timers};
use super::{Counters, Machine, enable};
use crate::boot::{Accept, Boot, Elf, ElfError, Failure, Manifest, Modules, Virtualization, fatal};
use crate::components::{Components, LoadError, Sources, load_all};
use crate::cpu;
use crate::hardware::Hardware;
use crate::log::RateLimit;
use crate::memory::{Frames, core_slice};
use crate::platform::msi::Messages;
use crate::vms::{EMPTY_SLOT, Image, Images, Table};
use abi::guest::IMAGE_BASE;
use abi::limits::MAX_VMS;
use abi::manifest;
use abi::note::KIND_GUEST;
use backend::{Backend, Corruption, Vcpu};

/// Frames per VM slot: a machine has as many slots as it could have VMs that are small and share nearly everything.
const FRAMES_PER_SLOT: u64 = 16;
/// VMs of the boot options that are created before components come to their turn.
const CREATE_BATCH: usize = 32;
/// Lines a second, and at once, by which guests that end make themselves heard; and components with bad messages.
const LOG_RATE: (u32, u32) = (20, 100);

/// Runs the machine that boot has prepared. Does not return.
pub fn run(mut boot: Boot) -> ! {
    enable::bring_up_cpu(&mut boot.frames);
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
        tsc_hz: boot.tsc_hz,
        started_unix_ns: boot.boot_unix_ns,
        started_tsc: boot.boot_tsc,
        rdrand: features.rdrand,
    };

    let vm_slots = usize::try_from(frames.free_frames() / FRAMES_PER_SLOT).map_or(MAX_VMS, |slots| slots.min(MAX_VMS));
    let slots = core_slice(&mut frames, vm_slots, EMPTY_SLOT);
    let cells = core_slice(&mut frames, vm_slots, EMPTY_CELL);
    let links = core_slice(&mut frames, vm_slots, EMPTY_LINK);
    let waiting = core_slice(&mut frames, vm_slots, EMPTY_LINK);
    let (Some(slots), Some(cells), Some(links), Some(waiting)) = (slots, cells, links, waiting) else {
        fatal(Failure::LittleMemory, format_args!("no room for {vm_slots} VM slots"));
    };

    // SAFETY: the frames of modules are never written and never freed.
    let module = |name: &str| modules.get(name).map(|module| unsafe { module.bytes() });
    let sources = Sources {
        manifest,
        policies: &options.policies,
        module: &module,
        kernel: &kernel,
        pcid: features.pcid,
        vm_slots,
    };
    let list = load_all(&sources, &mut frames, &mut hardware).unwrap_or_else(|error| {
        let failure = match error {
            LoadError::NoModule(_) => Failure::NoModule,
            LoadError::BadModule(..) => Failure::BadModule,
            LoadError::NoDevice(..) => Failure::NoDevice,
            LoadError::NoMemory(_) => Failure::LittleMemory,
        };
        fatal(failure, format_args!("{error}"))
    });
    for component in &list {
        let report = component.space.tables().audit();
        log::info!("{}: {report}", component.entry.name);
        if !report.is_clean() {
            fatal(Failure::SelfTest, format_args!("the address space of {}: {report}", component.entry.name));
        }
    }
    let images = load_images(&manifest, &modules, &mut frames);
    let mut requests = options.vms.clone();
    requests.reverse();
    let selftest = options.selftest;
    let quantum_ticks = ticks(options.quantum_ns, hardware.tsc_hz);
    let mut machine = Machine {
        vm_frames: frames.free_frames(),
        backend,
        frames,
        least_quantum_ticks: hardware.tsc_hz / 100_000,
        hardware,
        options,
        components: Components::new(list),
        images,
        requests,
        vms: Table::new(slots),
        timers: Timers::new(cells),
        ready: ReadyList::new(links),
        waiting: ReadyList::new(waiting),
        admit_at: NEVER,
        turn: None,
        planned: None,
        asked_scheduler: false,
        counters: Counters::default(),
        armed: u64::MAX,
        timer_fired: false,
        mark: cpu::tsc(),
        loaded: None,
        quantum_ticks,
        guest_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
        component_log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
        nmis: 0,
    };
    for rank in 0..machine.components.list.len() {
        machine.restart(rank);
        let component = &machine.components.list[rank];
        log::info!(target: "core", "component {} started with policy {}", component.entry.name, component.policy);
    }
    machine.create_requested();
    if selftest == Some(crate::boot::options::SelfTest::EntryFailure) {
        machine.force_entry_failures();
    }
    crate::log::set_buffered(true);
    machine.run()
}

impl<B: Backend> Machine<B> {
    /// Create some of the VMs that the boot options ask for: no more than components can be told of before they run.
    pub(super) fn create_requested(&mut self) {
        for _ in 0..CREATE_BATCH {
            let Some(request) = self.requests.last_mut() else { return };
            if request.count == 0 {
                self.requests.pop();
                continue;
            }
            request.count -= 1;
            let left = request.count;
            // The manifest's images are fewer than 2^16.
            let image = u16::try_from(request.image).unwrap_or(u16::MAX);
            if let Err(status) = self.create(image, [0; abi::control::CREATE_ARGS_BYTES]) {
                log::error!(target: "core", "{} VMs of image {image} are not created (status {status}): too little memory, or the image was refused", left + 1);
                self.requests.pop();
            }
        }
    }

    /// Spoil the first VMs, one in each way, so that the next entry of each fails: the entry path's own test.
    fn force_entry_failures(&mut self) {
        let ways = [Corruption::GuestState, Corruption::Controls, Corruption::HostState];
        for (slot, way) in (0_u16..).zip(ways) {
            let Some(vm) = self.vms.get(slot) else { break };
            let id = vm.id;
            self.admit(id);
            if let Some(vm) = self.vms.by_id(id).filter(|vm| vm.running) {
                vm.vcpu.corrupt(&mut self.backend, way);
                log::info!(target: "core", "selftest: {id} is spoilt: {way:?}");
            } else {
                let _ = self.end_vm(slot, End::new(abi::end::EndReason::BadImage, 0));
            }
        }
    }
}

/// The guest images that the manifest names. One that is missing or refused is said so, and the rest go on.
fn load_images(manifest: &Manifest<'_>, modules: &Modules, frames: &mut Frames) -> Images {
    let mut list = heapless::Vec::new();
    for (index, entry) in (0_u16..).zip(manifest.images) {
        let image = load_image(entry, index, modules, frames);
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

fn load_image(entry: &manifest::Image, index: u16, modules: &Modules, frames: &mut Frames) -> Result<Image, BadImage> {
    let module = modules.get(entry.module.as_str()).ok_or(BadImage::NoModule)?;
    let accept = Accept { low: IMAGE_BASE, high: entry.memory_bytes, kind: KIND_GUEST };
    // SAFETY: the frames of modules are never written and never freed.
    let elf = Elf::parse(unsafe { module.bytes() }, accept).map_err(BadImage::Elf)?;
    Image::new(*entry, index, module.start, &elf, frames).ok_or(BadImage::NoMemory)
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

/// `ns` in ticks.
fn ticks(ns: u64, hz: u64) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(hz) / 1_000_000_000).unwrap_or(u64::MAX)
}

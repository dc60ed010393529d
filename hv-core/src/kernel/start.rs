//! From what boot found to a running machine.

use super::{Kernel, Parts, Tables, enable};
use crate::board::TimeBase;
#[cfg(feature = "selftest")]
use crate::boot::selftest;
use crate::boot::{Boot, Field, Spoil, Virtualization, fatal, give_back, refuse};
use crate::component::{LoadError, Loaded, Sources, load_all};
use crate::memory::OwnerClass;
use crate::vm::{Image, Images};
use abi::boot::{BootRecord, failure, features};
use backend::Backend;

/// Runs the machine that boot has prepared. Does not return.
pub fn run<V: Virtualization>(mut boot: Boot<'_>) -> ! {
    enable::bring_up_cpu(&mut boot.frames);
    enable::machine_checks(boot.record.features);
    enable::barriers(&boot.record.barriers);
    let backend = enable::virtualization::<V>(boot.record, &mut boot.frames, boot.kernel.root().as_u64());
    run_with(boot, backend)
}

fn run_with<B: Backend<Vcpu: Spoil>>(boot: Boot<'_>, backend: B) -> ! {
    let Boot { record, mut frames, kernel, mut hardware, vms } = boot;
    let (options, barriers) = (record.options, record.barriers);
    let time = TimeBase::new(record.tsc_hz, record.clock_tsc, record.clock_unix_ns);
    let (slots, seats) = (vms.records.len(), vms.seats);
    let Some(tables) = Tables::new(&mut frames, vms) else {
        fatal(
            failure::LITTLE_MEMORY,
            format_args!("no room for {slots} slots and {seats} seats of VMs; ask for fewer (slots=, seats=)"),
        );
    };
    let sources = Sources {
        components: record.components(),
        rings: record.rings(),
        kernel: &kernel,
        pcid: record.features & features::PCID != 0,
        vm_slots: slots,
        vm_seats: seats,
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
            fatal(failure::SELF_TEST, format_args!("the address space of {}: {report}", component.entry.name));
        }
    }
    let images = load_images(record);
    // Nothing of the record is used from here on: what boot took is for VMs, before the first of them runs.
    let given_back = give_back(record, &mut frames);
    let left = frames.count_of(OwnerClass::Loader);
    if left != 0 {
        fatal(failure::SELF_TEST, format_args!("boot code still owns {left} frames"));
    }
    log::info!("boot: {given_back} frames given back, {left} left");
    let parts = Parts { backend, board: hardware, time, frames, loaded, images, barriers };
    let mut kernel = Kernel::new(parts, tables, &options);
    kernel.start_components();
    #[cfg(feature = "selftest")]
    selftest::entry_failures(&mut kernel, &options);
    crate::log::set_buffered(true);
    kernel.run()
}

fn fatal_load(error: &LoadError) -> ! {
    match error {
        LoadError::Memory(name) => {
            fatal(failure::LITTLE_MEMORY, format_args!("no memory for component '{name}'"));
        }
        LoadError::Device(class) => refuse(Field::Device, (*class).into()),
        LoadError::Pair(service) => refuse(Field::Service, service.raw().into()),
    }
}

/// The guest images; one that was refused has nothing.
fn load_images(record: &BootRecord) -> Images {
    Images::new(record.images().iter().map(|image| Image::new(image.entry, &image.program)).collect())
}

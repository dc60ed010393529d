//! From what boot found to a running machine.

use super::{Cpu, Kernel, Parts, Tables, enable};
use crate::board::{Board, Hardware, TimeBase, UnixClock};
#[cfg(feature = "selftest")]
use crate::boot::selftest;
use crate::boot::{Boot, Field, Spoil, Virtualization, VmTables, fatal, give_back, refuse};
use crate::component::{LoadError, Sources, load_all};
use crate::log::say;
use crate::memory::{Frames, KernelSpace, OwnerClass, core_room};
use crate::vm::Image;
use abi::boot::{BootRecord, Options, POOL_UNSAID, failure, features};
use abi::limits::PAGE_SIZE;
use abi::log::Record;
use abi::net::NO_ACCOUNT;
use abi::service::Service;
use abi::swap::PASSAGE_BYTES;
use backend::Backend;

/// Runs the machine that boot has prepared. Does not return.
pub fn run<V: Virtualization>(mut boot: Boot<'_>) -> ! {
    enable::bring_up_cpu(&mut boot.frames);
    enable::machine_checks(boot.record.features);
    enable::barriers(&boot.record.barriers);
    let backend = enable::virtualization::<V>(boot.record, &mut boot.frames, boot.kernel.root().as_u64());
    run_with(boot, backend)
}

fn run_with<B: Backend<Vcpu: Spoil> + 'static>(boot: Boot<'_>, backend: B) -> ! {
    let (record, space) = (boot.record, boot.kernel);
    let kernel = make(boot.frames, boot.hardware, boot.vms, record, backend);
    load(kernel, record, &space);
    // Nothing of the record is used from here on: what boot took is for VMs, before the first of them runs.
    #[cfg(feature = "selftest")]
    let options = record.options;
    let frames = &mut kernel.cpu.frames;
    let given_back = give_back(record, frames);
    let left = frames.count_of(OwnerClass::Loader);
    if left != 0 {
        fatal(failure::SELF_TEST, format_args!("boot code still owns {left} frames"));
    }
    say(Record::BootEnded { given_back, left });
    kernel.start_components();
    #[cfg(feature = "selftest")]
    selftest::entry_failures(kernel, &options);
    crate::log::set_buffered(true);
    kernel.run()
}

/// The kernel, in the place where it stays. Its size is on the stack here, and so nowhere else.
#[inline(never)]
fn make<B: Backend + 'static>(
    mut frames: Frames,
    board: Hardware,
    vms: VmTables,
    record: &BootRecord,
    backend: B,
) -> &'static mut Kernel<B, Hardware> {
    let (slots, seats) = (vms.records.len(), vms.seats);
    let (Some(room), Some(tables)) = (core_room(&mut frames), Tables::new(&mut frames, vms)) else {
        fatal(
            failure::NOT_ENOUGH_MEMORY,
            format_args!("no room for {slots} slots and {seats} seats of VMs; ask for fewer (slots=, seats=)"),
        );
    };
    let time = TimeBase::new(record.tsc_hz, record.clock_tsc);
    let clock = UnixClock::new(record.clock_tsc, record.clock_unix_ns, time.ns_per_tick());
    let parts = Parts { backend, board, time, clock, frames, barriers: record.barriers };
    room.write(Kernel::new(parts, tables, &record.options))
}

/// Makes the components and images that the record names.
fn load<B: Backend>(kernel: &mut Kernel<B, Hardware>, record: &BootRecord, space: &KernelSpace) {
    // Made once: it outlives swap, and not the machine's run.
    let (mut seal_key, board) = ([0; 32], &mut kernel.cpu.board);
    seal_key.as_chunks_mut().0.iter_mut().for_each(|half| *half = board.random());
    // Where the loader has left out who would keep VMs, none go out.
    let kept = record.rings().iter().any(|ring| ring.service == Service::Swap.raw());
    let (wanted, free) = (kernel.vms.written_reserves(), kernel.cpu.frames.free_frames());
    let sources = Sources {
        components: record.components(),
        rings: record.rings(),
        kernel: space,
        pcid: record.features & features::PCID != 0,
        vm_slots: record.vms.slots as usize,
        vm_seats: record.vms.seats as usize,
        tsc_hz: record.tsc_hz,
        pool_bytes: if kept { pool_bytes(&record.options, wanted, free) } else { 0 },
        pool_passes: record.options.pool_bytes == 0,
        seal_key,
    };
    let Cpu { frames, board, components, endpoints, images, .. } = &mut kernel.cpu;
    if let Err(error) = load_all(&sources, frames, board, components, endpoints) {
        fatal_load(&error);
    }
    for component in &components.list {
        let report = component.space.tables().audit();
        say(Record::ComponentAudit { name: component.entry.name, found: report });
        if !report.is_clean() {
            fatal(failure::SELF_TEST, format_args!("the address space of {}: {report}", component.entry.name));
        }
    }
    for image in record.images() {
        images.add(Image::new(image.entry, &image.program));
    }
    for told in record.tenants() {
        // The check has found the name good, and there are more accounts than those that boot can fill.
        let Some(tenant) = told.tenant() else { continue };
        let set = kernel.vms.tenants_mut().set(tenant, told.quota(), told.flow());
        debug_assert!(set);
        let account = kernel.vms.tenants().get(tenant).map_or(NO_ACCOUNT, |(account, _)| account);
        if let Some(rate) = kernel.cpu.rates.get_mut(account as usize) {
            *rate = told.rate;
        }
    }
}

/// Bytes of the pool for VMs that are out, where VMs with `wanted` frames of reserves are to live at once and so many frames are free. Where it is to have none, somebody keeps VMs
/// only if there are disks for them.
fn pool_bytes(options: &Options, wanted: u64, free: u64) -> u64 {
    match options.pool_bytes {
        POOL_UNSAID if wanted > free => free / 3 * PAGE_SIZE,
        POOL_UNSAID => 0,
        0 => PASSAGE_BYTES,
        said => said & !(PAGE_SIZE - 1),
    }
}

fn fatal_load(error: &LoadError) -> ! {
    match error {
        LoadError::Memory(name) => {
            fatal(failure::NOT_ENOUGH_MEMORY, format_args!("no memory for component '{name}'"));
        }
        LoadError::Device(class) => refuse(Field::Device, (*class).into()),
        LoadError::Pair(service) => refuse(Field::Service, service.raw().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_there_where_not_all_fit_or_somebody_says_so() {
        let unsaid = Options::default();
        assert_eq!(
            [(10, 10), (11, 10), (300, 10)].map(|(wanted, free)| pool_bytes(&unsaid, wanted, free) / PAGE_SIZE),
            [0, 3, 3]
        );
        let said = |pool_bytes| Options { pool_bytes, ..unsaid };
        assert_eq!([0, 0x1fff].map(|bytes| pool_bytes(&said(bytes), 300, 10)), [PASSAGE_BYTES, 0x1000]);
    }
}

//! How VMs come into being, and that nothing is left of those that cannot.

use super::machine::{GUEST_PAGES, HZ, Machine, REFUSED, WITH_NIC, WITHOUT_NIC};
use super::vm_memory;
use crate::component::Death;
use crate::kernel::Kernel;
use crate::log::capture::{heard_of, listen};
use crate::memory::{Owner, OwnerClass, Reservation, core_memory};
use crate::vm::{BootArgs, CreateError, Devices, Images, METADATA_FRAMES, Queue, State};
use abi::claim::RESERVE_LEAST;
use abi::component::layout;
use abi::end::EndReason;
use abi::guest::{
    BOOT_ARGS, CONSOLE_INPUT_SLOTS, CONSOLE_SLOTS, Interrupted, MAGIC, NIC_BASE, PAGE_TABLES, REGISTER_PAGE,
    RegisterPage,
};
use abi::limits::PAGE_SIZE;
use abi::nic::{self, NicPage};
use abi::service::Service;
use abi::vm::{ImageId, Slot, VmId};
use core::mem::offset_of;
use zerocopy::{FromBytes, IntoBytes};

const FIRST: VmId = VmId::new(0, 1);
/// Frames that a VM with a NIC has when it has been admitted, beside its metadata.
const ALL: u64 = 8;
/// Frames of its metadata.
const METADATA: u64 = METADATA_FRAMES as u64;

/// Build what the VM in slot 0 gets at its admission. What went wrong: the reason for its end, and the text.
fn build(machine: &mut Machine<true>) -> Result<(), (EndReason, String)> {
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let mut args = BootArgs::new();
    vms.take_luggage(FIRST.slot, &mut args);
    let reservation = Reservation::open(&mut cpu.frames, 0, 300).expect("nothing is kept");
    let (vm, reservation) = match vms.waiting(FIRST) {
        Some(seed) => cpu.seat(vms, seed, reservation).expect("there are frames"),
        None => (vms.by_id(FIRST).expect("it was created"), reservation),
    };
    cpu.build(vm, reservation, &args)
        .map(|(memory, registers)| vm.life.admit(memory, registers))
        .map_err(|why| (why.reason(), why.to_string()))
}

/// Give the VM in slot 0 its metadata.
fn seat(machine: &mut Machine<true>) {
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let seed = vms.waiting(FIRST).expect("it waits");
    let reservation = Reservation::open(&mut cpu.frames, 0, 300).expect("nothing is kept");
    let (_, reservation) = cpu.seat(vms, seed, reservation).expect("there are frames");
    reservation.close(&mut cpu.frames);
}

/// The machine's only image of VMs is this from now on.
fn only_image(machine: &mut Machine<true>, memory_pages: u64, slots: u32) {
    only_image_with(machine, memory_pages, slots, RESERVE_LEAST);
}

/// The same, and so many frames are kept for each of its VMs.
fn only_image_with(machine: &mut Machine<true>, memory_pages: u64, slots: u32, reserve_frames: u32) {
    let mut image = vm_memory::image(&mut machine.kernel.cpu.frames, memory_pages * PAGE_SIZE, slots);
    image.entry.reserve_frames = reserve_frames;
    machine.kernel.cpu.images = Images::new();
    machine.kernel.cpu.images.add(Some(image));
}

#[test]
fn a_vm_that_is_created_waits_and_has_no_frame() {
    let mut machine = Machine::<true>::new(1024);
    let before = machine.frames_by_owner();
    assert_eq!(machine.create_with(WITH_NIC, b"last"), Ok(FIRST));
    assert!(machine.kernel.cpu.queues.contains(Queue::Waiting, FIRST.slot));
    let seed = machine.kernel.vms.waiting(FIRST).expect("it waits");
    assert_eq!((seed.id, seed.image, seed.ipv4), (FIRST, WITH_NIC, 0x0a00_0210));
    assert_eq!(machine.create(WITH_NIC), VmId::new(1, 1));
    assert_eq!(machine.kernel.vms.waiting_in(Slot::new(1)).map(|seed| seed.ipv4), Some(0x0a00_0211));
    assert_eq!(machine.frames_by_owner(), before);
    let mut args = BootArgs::new();
    assert_eq!(machine.kernel.vms.take_luggage(FIRST.slot, &mut args), 0);
    assert_eq!(&args, b"ip=10.0.2.16/24 last");
    machine.audit_lives();
    machine.audit_frames();
}

#[test]
fn a_vm_of_an_image_that_is_not_there_is_not_created() {
    let mut machine = Machine::<true>::new(1024);
    let before = machine.frames_by_owner();
    for image in [REFUSED, ImageId::new(3), ImageId::new(u32::MAX)] {
        assert_eq!(machine.create_with(image, b""), Err(CreateError::UnknownImage));
    }
    assert_eq!((machine.frames_by_owner(), machine.kernel.vms.living()), (before, 0));
}

#[test]
fn no_vm_is_created_when_every_slot_is_taken() {
    let mut machine = Machine::<true>::new(1024);
    let slots = machine.kernel.vms.capacity();
    for _ in 0..slots {
        machine.create(WITHOUT_NIC);
    }
    let before = machine.frames_by_owner();
    assert_eq!(machine.create_with(WITHOUT_NIC, b""), Err(CreateError::SlotsTaken));
    assert_eq!((machine.frames_by_owner(), machine.kernel.vms.living()), (before, slots));
}

#[test]
fn a_vm_that_finds_no_frames_for_its_metadata_ends_and_nothing_has_changed() {
    for left in 0..2 {
        let mut machine = Machine::<true>::new(1024);
        only_image_with(&mut machine, 256, 0, 0);
        machine.create(ImageId::new(0));
        machine.hoard(left);
        let before = machine.frames_by_owner();
        listen();
        machine.admit(FIRST);
        let said = heard_of("vm0.1");
        assert_eq!(said[0], "core: vm0.1 cannot be started: no frame is free for its metadata");
        assert!(said[1].starts_with("core: vm0.1 ended: out of memory (detail 0x0, rip 0x0; "), "{said:?}");
        assert_eq!((machine.frames_by_owner(), machine.kernel.vms.living()), (before, 0));
        assert_eq!(machine.kernel.vms.next_id(), Some(VmId::new(0, 2)));
        machine.audit_lives();
    }
}

/// What is said with so many free frames, from none on, until the VM can be built.
fn shortages(image: ImageId) -> Vec<String> {
    let mut machine = Machine::<true>::new(1024);
    machine.create(image);
    seat(&mut machine);
    let mut said = Vec::new();
    for left in 0.. {
        let hoard = machine.hoard(left);
        let before = machine.frames_by_owner();
        match build(&mut machine) {
            Ok(()) => return said,
            Err((reason, text)) => {
                assert_eq!(reason, EndReason::OutOfMemory, "{left} frames");
                said.push(text);
            }
        }
        assert_eq!(machine.frames_by_owner(), before, "{left} frames");
        machine.unhoard(hoard);
    }
    unreachable!("there are not so many frames")
}

#[test]
fn whatever_a_vm_has_got_when_frames_run_out_is_free_again() {
    let with_nic = shortages(WITH_NIC);
    let expected = [("nested page tables", 1), ("register page", 4), ("first page tables", 2), ("NIC", 1)]
        .map(|(what, times)| vec![format!("no frame is free for its {what}"); times]);
    assert_eq!(with_nic, expected.concat());
    assert_eq!(with_nic.len() as u64, ALL);
    assert_eq!(shortages(WITHOUT_NIC), expected[..3].concat());
}

#[test]
fn a_vm_that_finds_no_frames_at_its_admission_ends_and_is_gone() {
    for left in 0..METADATA + ALL {
        let mut machine = Machine::<true>::new(1024);
        only_image_with(&mut machine, 256, 32, 0);
        let free = machine.kernel.cpu.frames.free_frames();
        machine.create(ImageId::new(0));
        let hoard = machine.hoard(left);
        listen();
        machine.admit(FIRST);
        let said = heard_of("vm0.1");
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("core: vm0.1 cannot be started: no frame is free for its "), "{said:?}");
        assert!(said[1].starts_with("core: vm0.1 ended: out of memory (detail 0x0, rip 0x0; "), "{said:?}");
        machine.audit_lives();
        machine.audit_frames();
        machine.unhoard(hoard);
        machine.settle(1000);
        assert_eq!((machine.vms(), machine.kernel.cpu.frames.free_frames()), (vec![], free));
    }
}

#[test]
fn a_vm_for_which_its_reserve_is_not_free_goes_on_waiting() {
    let mut machine = Machine::<true>::new(1024);
    machine.create(WITH_NIC);
    let hoard = machine.hoard(u64::from(RESERVE_LEAST) - 1);
    let before = machine.frames_by_owner();
    listen();
    machine.admit(FIRST);
    assert_eq!(heard_of("vm0.1"), [""; 0], "nothing is wrong with it");
    assert_eq!((machine.frames_by_owner(), machine.kernel.vms.waiting(FIRST).is_some()), (before, true));
    machine.unhoard(hoard);
    machine.admit(FIRST);
    assert!(machine.kernel.vms.by_id(FIRST).is_some_and(|vm| vm.life.is_ready()));
    let frames = &machine.kernel.cpu.frames;
    assert_eq!(
        frames.free_frames() - frames.unreserved(),
        u64::from(RESERVE_LEAST) - METADATA - ALL,
        "what it lacks is kept"
    );
    machine.audit_frames();
}

#[test]
fn a_vm_whose_image_asks_for_too_little_memory_ends_as_of_a_bad_image() {
    let cases = [
        (0, 32, "register page"),
        (1, 32, "register page"),
        (2, 32, "first page tables"),
        (3, 32, "first page tables"),
        (4, 32, "NIC"),
        (5, 32, "NIC"),
        (6, 32, "NIC"),
        (3, 0, "first page tables"),
    ];
    for (pages, slots, what) in cases {
        let mut machine = Machine::<true>::new(1024);
        only_image(&mut machine, pages, slots);
        machine.create(WITH_NIC);
        seat(&mut machine);
        let before = machine.frames_by_owner();
        let error = (EndReason::BadImage, format!("its memory has no room for its {what}"));
        assert_eq!(build(&mut machine), Err(error), "{pages} pages");
        assert_eq!(machine.frames_by_owner(), before, "{pages} pages");
    }
    for (pages, slots) in [(7, 32), (4, 0)] {
        let mut machine = Machine::<true>::new(1024);
        only_image(&mut machine, pages, slots);
        machine.create(WITH_NIC);
        assert_eq!(build(&mut machine), Ok(()), "{pages} pages");
    }
}

#[test]
fn a_vm_whose_image_is_gone_ends_as_of_a_bad_image() {
    let mut machine = Machine::<true>::new(1024);
    machine.create(WITH_NIC);
    seat(&mut machine);
    machine.kernel.vms.by_id(FIRST).expect("it is there").image = REFUSED;
    let before = machine.frames_by_owner();
    assert_eq!(build(&mut machine), Err((EndReason::BadImage, "its image is gone".to_owned())));
    assert_eq!(machine.frames_by_owner(), before);
}

#[test]
fn a_vm_whose_processor_is_refused_ends_and_gives_everything_back() {
    let mut machine = Machine::<true>::new(1024);
    machine.create(WITH_NIC);
    seat(&mut machine);
    let before = machine.frames_by_owner();
    machine.kernel.cpu.backend.refuse = 1;
    let why = "its processor cannot be set up: the CPU does not say why";
    assert_eq!(build(&mut machine), Err((EndReason::EntryFailure, why.to_owned())));
    assert_eq!(machine.frames_by_owner(), before);
    // The next attempt finds the processor as if it had never been tried.
    assert_eq!(build(&mut machine), Ok(()));
}

#[test]
fn a_vm_that_does_not_wait_is_not_admitted() {
    let (mut machine, vm) = Machine::<true>::with_guest(WITH_NIC, &[]);
    let before = machine.frames_by_owner();
    machine.admit(vm);
    assert_eq!(machine.kernel.vms.by_id(vm).map(|vm| vm.life.state()), Some(State::Idle { until: u64::MAX }));
    assert_eq!(machine.frames_by_owner(), before);
}

/// The bytes of a guest's page.
fn page(machine: &mut Machine<true>, address: u64) -> Vec<u8> {
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let memory = vms.get(Slot::new(0)).and_then(|vm| vm.life.memory()).expect("it has memory");
    let number = u32::try_from(address / PAGE_SIZE).expect("small");
    let frame = memory.frame(&mut cpu.frames, number).expect("the page is there");
    let mut bytes = vec![0; 4096];
    core_memory(frame, PAGE_SIZE).read(0, &mut bytes).expect("a page");
    bytes
}

/// A machine with a VM in slot 0 that has not run yet, of an image with arguments, created with others.
fn fresh(slots: u32) -> Machine<true> {
    let mut machine = Machine::<true>::new(1024);
    only_image(&mut machine, GUEST_PAGES.into(), slots);
    machine.wires.spend(HZ);
    machine.create_with(WITH_NIC, b"mode=on").expect("room");
    assert_eq!(build(&mut machine), Ok(()));
    machine
}

#[test]
fn a_guest_finds_every_register_as_it_is_promised() {
    let mut machine = fresh(32);
    let created = machine.kernel.vms.get(Slot::new(0)).expect("it lives").created_tsc;
    assert!(created > 2 * HZ && created < 2 * HZ + 1_000_000, "{created}");
    let bytes = page(&mut machine, REGISTER_PAGE);
    let (found, _) = RegisterPage::read_from_prefix(&bytes).expect("a page");
    assert_eq!(found.sequence, 0);
    // Nothing was kept for it; register page, two page tables, the NIC page; four nested page tables; and metadata.
    assert_eq!((found.reserve_frames, found.limit_frames, found.held_frames), (0, 300, 10));
    assert_eq!((found.disk_page, found.console_input_slots), (0, CONSOLE_INPUT_SLOTS));
    assert_eq!((found.magic, found.abi_version, found.vm_id), (MAGIC, abi::ABI_VERSION, FIRST.raw()));
    assert_eq!((found.memory_bytes, found.tsc_hz, found.ns_per_tick), (256 * 4096, HZ, 1 << 32));
    // The clock began at a second, the Unix time at 0.
    assert_eq!((found.clock_tsc, found.clock_unix_ns), (created, created - HZ));
    assert_ne!(found.generation_id, [0; 16]);
    assert_eq!((found.console_slots, found.nic_page), (CONSOLE_SLOTS, NIC_BASE));
    assert_eq!((found.upcall_entry, found.upcall_stack, found.fault_entry, found.fault_stack), (0, 0, 0, 0));
    assert_eq!((found.enabled, found.upcalls_on, found.in_fault, found.pending), (0, 0, 0, 0));
    assert_eq!((found.alarm, found.upcall), (u64::MAX, Interrupted::default()));
    assert!(found.fault.as_bytes().iter().all(|&byte| byte == 0));
    let args = b"ip=10.0.2.16/24 mode=on";
    assert_eq!(found.boot_args_len as usize, args.len());
    let at = usize::try_from(BOOT_ARGS).expect("small");
    assert_eq!(&bytes[at..at + args.len()], args);
    // Nothing else is in the page, and the console's ring is empty.
    assert!(bytes[size_of::<RegisterPage>()..at].iter().all(|&byte| byte == 0));
    assert!(bytes[at + args.len()..].iter().all(|&byte| byte == 0));
}

#[test]
fn two_starts_have_two_generation_ids() {
    let mut machine = Machine::<true>::new(1024);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = machine.create(WITHOUT_NIC);
        let Kernel { vms, cpu, .. } = &mut machine.kernel;
        let seed = vms.waiting(id).expect("it waits");
        let reservation = Reservation::open(&mut cpu.frames, 12, 300).expect("room");
        let (vm, reservation) = cpu.seat(vms, seed, reservation).expect("room");
        let (memory, registers) = cpu.build(vm, reservation, b"").expect("room");
        let mut id = [0; 16];
        registers.memory().read(offset_of!(RegisterPage, generation_id), &mut id).expect("inside");
        vm.life.admit(memory, registers);
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_guest_finds_its_first_page_tables() {
    let mut machine = fresh(0);
    let table = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
    let pml4 = page(&mut machine, PAGE_TABLES);
    let pdpt = page(&mut machine, PAGE_TABLES + PAGE_SIZE);
    // Present and writable; and one gibibyte at 0.
    assert_eq!((table(&pml4), table(&pdpt)), (0x3003, 0x83));
    assert!(pml4[8..].iter().chain(&pdpt[8..]).all(|&byte| byte == 0));
}

#[test]
fn a_guest_finds_its_nic() {
    let mut machine = fresh(32);
    let bytes = page(&mut machine, NIC_BASE);
    let (found, _) = NicPage::read_from_prefix(&bytes).expect("a page");
    assert_eq!(found.mac, [0x02, 0, 0, 0x70, 0, 0, 0, 0]);
    assert_eq!((found.rx_slots, found.tx_slots, found.link_up, found.max_frame), (32, 32, 1, 1514));
    assert_eq!(found.counters, nic::NicCounters::default());
    assert!(bytes[size_of::<NicPage>()..].iter().all(|&byte| byte == 0));
    // The pages of the rings come when somebody stores there.
    assert_eq!(nic::nic_pages(32, 32), 3);
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let memory = vms.get(Slot::new(0)).and_then(|vm| vm.life.memory()).expect("it has memory");
    let first = u32::try_from(NIC_BASE / PAGE_SIZE).expect("small");
    assert_eq!([1, 2].map(|index| memory.frame(&mut cpu.frames, first + index)), [None; 2]);
}

#[test]
fn a_guest_without_a_nic_has_no_page_for_it() {
    let mut machine = fresh(0);
    let bytes = page(&mut machine, REGISTER_PAGE);
    let (found, _) = RegisterPage::read_from_prefix(&bytes).expect("a page");
    assert_eq!(found.nic_page, 0);
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let memory = vms.get(Slot::new(0)).and_then(|vm| vm.life.memory()).expect("it has memory");
    let first = u32::try_from(NIC_BASE / PAGE_SIZE).expect("small");
    assert_eq!(memory.frame(&mut cpu.frames, first), None);
    assert_eq!(memory.counts(), (3, 4, 0));
}

/// What the demultiplexer sees of the NIC of slot 0.
fn window(machine: &Machine<true>) -> Vec<bool> {
    let space = &machine.kernel.cpu.components.list[machine.rank(Service::Net)].space;
    let at = |page| layout::VM_WINDOW + page * PAGE_SIZE;
    (0..3).map(|page| space.tables().walk(at(page)).is_some()).collect()
}

#[test]
fn a_vm_whose_nic_finds_no_frame_for_the_windows_tables_runs_without_it() {
    // The first NIC in the window needs two tables.
    for left in 0..3 {
        let mut machine = Machine::<true>::new(1024);
        machine.create(WITH_NIC);
        let hoard = machine.hoard(u64::from(RESERVE_LEAST) + left);
        listen();
        let Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.admit(vms, FIRST);
        let vm = vms.by_id(FIRST).expect("it lives");
        assert_eq!(vm.life.state(), State::Ready);
        assert_eq!(vm.life.shared().contains(Devices::NIC), left == 2, "{left} frames");
        let line = "core: vm0.1: no frame for the demultiplexer's window; the VM runs without a NIC";
        assert_eq!(heard_of("window"), vec![line; usize::from(left < 2)]);
        assert_eq!(window(&machine), [left == 2, false, false]);
        machine.unhoard(hoard);
        machine.settle(1000);
        // So it stays while this demultiplexer lives; the next one gets the NIC, now that there are frames.
        assert_eq!(window(&machine), [left == 2, false, false]);
        machine.audit();
        machine.kernel.cpu.condemn(machine.rank(Service::Net), Death::Killed);
        machine.settle_again();
        assert_eq!(window(&machine), [true, false, false]);
        machine.audit();
    }
}

#[test]
fn a_vm_without_its_nic_page_is_not_attached() {
    let (mut machine, id) = Machine::<true>::with_guest(WITH_NIC, &[]);
    let Kernel { vms, cpu, .. } = &mut machine.kernel;
    let vm = vms.by_id(id).expect("it lives");
    // The demultiplexer has to be told of it anew.
    vm.attached_to = 0;
    let first = u32::try_from(NIC_BASE / PAGE_SIZE).expect("small");
    let body = vm.life.body_mut().expect("it is admitted");
    let (own, flush) = body.memory.give_back(&mut cpu.frames, first);
    assert_eq!((own, flush), (true, backend::Flush::Needed));
    cpu.attach(vm);
    assert!(vm.life.shared().is_empty());
    assert_eq!(window(&machine), [false; 3]);
    machine.audit_windows();
    machine.audit_frames();
}

#[test]
fn a_vm_is_admitted_at_once_where_there_is_no_scheduler() {
    let mut machine = Machine::<true>::without_scheduler(1024);
    machine.create(WITH_NIC);
    let vm = machine.kernel.vms.get(Slot::new(0)).expect("it lives");
    assert_eq!(vm.life.state(), State::Ready);
    assert_eq!(machine.kernel.cpu.frames.count_of(OwnerClass::VmMemory), 4);
    assert_eq!(machine.kernel.cpu.frames.owner_of(vm.control_frame), (Owner::VmMeta(0), 0));
}

#[test]
fn what_a_vm_has_left_is_wiped_when_nothing_can_run() {
    let mut machine = Machine::<true>::new(2048);
    let vm = machine.create(WITH_NIC);
    machine.settle(4000);
    let (wiped, free) = (machine.kernel.cpu.frames.wipes(), machine.kernel.cpu.frames.free_frames());
    assert!(machine.kernel.destroy(vm));
    machine.rouse();
    machine.settle(4000);
    let given_back = machine.kernel.cpu.frames.free_frames() - free;
    assert_eq!(machine.kernel.cpu.frames.wipes() - wiped, given_back);
    assert!(given_back >= ALL, "{given_back}");
    assert!(!machine.kernel.cpu.frames.wipe(1), "something is left to be wiped");
}

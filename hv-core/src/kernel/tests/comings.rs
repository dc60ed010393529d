//! VMs that have run go out and come in: what they had is there again, whoever dies meanwhile.

use super::guest::field;
use super::machine::{GUEST_PAGES, HZ, IMAGE_PAGE, Machine, Places, WITH_NIC, WITHOUT_NIC};
use super::roles::Role;
use super::swap_role::Swap;
use crate::component::Death;
use crate::memory::{OwnerClass, core_memory};
use crate::vm::{Devices, Hazard, State, StateError};
use abi::control::{ControlReply, vm_state};
use abi::end::EndReason;
use abi::guest::{hypercall, pending};
use abi::limits::PAGE_SIZE;
use abi::pager::{Access, Stays};
use abi::service::Service;
use abi::swap::SwapCommand;
use abi::vm::{Slot, VmId};
use backend::fake::Step;
use proptest::prelude::*;

const PLACES: Places = Places { slots: 64, seats: 32 };
/// A page of the guest's data, and a page that is not the image's.
const DATA: u32 = IMAGE_PAGE + 1;
const HEAP: u32 = IMAGE_PAGE + 12;

pub fn poke(page: u32, offset: u64, value: u64) -> Step {
    Step::Poke { address: u64::from(page) * PAGE_SIZE + offset, value }
}

/// It takes note of what is pending, sets its alarm, and idles.
pub fn alarm(due: u64) -> [Step; 4] {
    let field = |offset: usize| poke(1, offset as u64, 0);
    [
        field(core::mem::offset_of!(abi::guest::RegisterPage, pending)),
        field(core::mem::offset_of!(abi::guest::RegisterPage, enabled)),
        Step::Hypercall { number: hypercall::ALARM, a: due, b: 0 },
        Step::Hypercall { number: hypercall::IDLE, a: u64::MAX, b: 0 },
    ]
}

/// A machine with swap, at rest, with so many VMs that have each written the number of their slot into their memory and idle.
pub fn machine(count: u32) -> (Machine<true>, Vec<VmId>) {
    let mut machine = Machine::with_swap(4096, PLACES);
    machine.settle(4000);
    let mut vms = Vec::new();
    for number in 0..count {
        {
            let mut guests = machine.guests.borrow_mut();
            guests.hostile = 1;
            let word = 0x1000 + u64::from(number);
            guests.steps.extend([
                poke(HEAP, 8, word),
                poke(DATA, 16, !word),
                Step::Touch { page: IMAGE_PAGE, access: Access::Execute },
            ]);
        }
        vms.push(machine.create(WITH_NIC));
        machine.rouse();
        machine.settle(20_000);
    }
    machine.wires.spend(HZ / 1000);
    machine.audit();
    (machine, vms)
}

/// The word at an address of a VM that is in.
pub fn word(machine: &mut Machine<true>, vm: VmId, page: u32, offset: usize) -> Option<u64> {
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    let memory = vms.by_id(vm)?.life.memory()?;
    core_memory(memory.frame(&mut cpu.frames, page)?, PAGE_SIZE).load64(offset)
}

fn has_its_memory(machine: &mut Machine<true>, vm: VmId) -> bool {
    let expected = 0x1000 + u64::from(vm.slot.number());
    word(machine, vm, HEAP, 8) == Some(expected) && word(machine, vm, DATA, 16) == Some(!expected)
}

pub fn choose(machine: &mut Machine<true>, vm: VmId) {
    let from = machine.kernel.cpu.endpoints.first(Service::Pager);
    machine.kernel.let_out(from, vm);
    machine.rouse();
}

pub fn with_swap<T>(machine: &mut Machine<true>, what: impl FnOnce(&mut Swap) -> T) -> T {
    let rank = machine.rank(Service::Swap);
    match &mut machine.hardware.borrow_mut().components[rank].role {
        Role::Swap(swap) => what(swap),
        _ => panic!("not swap"),
    }
}

/// What the pager was told last of why a VM stays.
pub fn stays(machine: &Machine<true>, vm: VmId) -> Option<Stays> {
    let hardware = machine.hardware.borrow();
    let pager = hardware.components[machine.rank(Service::Pager)].pager();
    pager.stays.iter().rev().find(|(of, _)| *of == vm).map(|(_, why)| *why)
}

/// Choose a VM until it is out: its network demultiplexer may say that something lies in its rings.
pub fn put_out(machine: &mut Machine<true>, vm: VmId) {
    for _ in 0..3 {
        choose(machine, vm);
        machine.settle(20_000);
        if machine.kernel.vms.out(vm).is_some() {
            return machine.audit();
        }
    }
    panic!("{vm} does not go out: {:?}", stays(machine, vm));
}

/// A VM that is out is called and begins to come in, or one that is in is chosen and begins to go out.
pub fn send_on_its_way(machine: &mut Machine<true>, vm: VmId, comes: bool) {
    if comes {
        put_out(machine, vm);
        assert!(machine.kernel.raise(vm, pending::NIC));
        machine.rouse();
    } else {
        choose(machine, vm);
    }
}

pub fn bring_in(machine: &mut Machine<true>, vm: VmId, bits: u64) {
    assert!(machine.kernel.raise(vm, bits));
    machine.rouse();
    machine.settle(40_000);
    machine.audit();
}

/// Frames of VMs: memory, metadata, tables.
fn of_vms(machine: &Machine<true>) -> [u64; 3] {
    let frames = &machine.kernel.cpu.frames;
    [OwnerClass::VmMemory, OwnerClass::VmMeta, OwnerClass::VmTables].map(|class| frames.count_of(class))
}

#[test]
fn a_vm_that_is_out_has_no_frame_and_no_seat_and_comes_back_as_it_was() {
    let (machine, vms) = machine(0);
    let nothing = (of_vms(&machine), machine.kernel.vms.seats().free());
    drop((machine, vms));
    let (mut machine, vms) = self::machine(1);
    assert_ne!(of_vms(&machine), nothing.0);
    let before = machine.kernel.read_state(vms[0]).expect("it is in");
    let idles = machine.kernel.vms.by_id(vms[0]).expect("it is in").ran_ticks;
    let takings = machine.word(vms[0], field!(may_go_out)) >> 32;
    put_out(&mut machine, vms[0]);
    assert_eq!((of_vms(&machine), machine.kernel.vms.seats().free()), nothing);
    let described = machine.kernel.describe_next_vm(Slot::new(0));
    assert!(
        matches!(described, ControlReply::Vm { state: vm_state::POOLED, memory: 0, metadata: 0, ran_ticks, .. } if ran_ticks == idles)
    );
    assert_eq!(machine.kernel.read_state(vms[0]), Err(StateError::Waits));
    assert!(matches!(
        machine.kernel.describe_pool(),
        ControlReply::Pool { vms: 1, stored: 1, loaded: 0, bytes: 1.., .. }
    ));
    bring_in(&mut machine, vms[0], pending::NIC);
    assert!(has_its_memory(&mut machine, vms[0]));
    // Of its empty rings at least, and of what holds only zeros.
    assert!(machine.word(vms[0], field!(may_go_out)) >> 32 > takings, "it must make sure of its pages again");
    let after = machine.kernel.read_state(vms[0]).expect("it is in");
    // It has idled again since.
    assert_eq!((after.general.rdi, after.general.rsp), (before.general.rdi, before.general.rsp));
    assert!(after.rip > before.rip);
    let vm = machine.kernel.vms.by_id(vms[0]).expect("it is in");
    assert_eq!(vm.life.state(), State::Idle { until: u64::MAX });
    assert!(vm.life.shared().contains(Devices::NIC) && vm.ran_ticks >= idles);
    assert_eq!(vm.life.body().map(|body| body.registers.pending() & pending::NIC), Some(pending::NIC));
    assert!(matches!(
        machine.kernel.describe_pool(),
        ControlReply::Pool { vms: 0, bytes: 0, stored: 1, loaded: 1, .. }
    ));
    // And out again.
    put_out(&mut machine, vms[0]);
}

#[test]
fn what_it_held_beyond_its_reserve_is_kept_for_it_until_it_is_in() {
    let (mut machine, vms) = machine(1);
    let reservation = |machine: &mut Machine<true>| {
        let vm = machine.kernel.vms.by_id(vms[0]).expect("it is in");
        let reservation = vm.life.memory().expect("it has some").reservation();
        (reservation.held(), reservation.claim())
    };
    let (_, claim) = reservation(&mut machine);
    let pages = HEAP..HEAP + claim.reserve;
    wake(&mut machine, vms[0], pages.map(|page| poke(page, 0, 1)).chain(alarm(u64::MAX)));
    assert!(reservation(&mut machine).0 > claim.reserve);
    put_out(&mut machine, vms[0]);
    bring_in(&mut machine, vms[0], pending::NIC);
    let (held, now) = reservation(&mut machine);
    assert!(held > claim.reserve && now == claim, "{held} {now:?}");
}

#[test]
fn what_it_shared_with_its_image_it_shares_again_and_what_it_wrote_back_is_not_stored() {
    let (mut machine, vms) = machine(1);
    let counts = |machine: &mut Machine<true>| {
        let memory = machine.kernel.vms.by_id(vms[0]).and_then(|vm| vm.life.memory()).expect("it is in");
        memory.counts()
    };
    let (own, tables, shared) = counts(&mut machine);
    assert!(shared > 0);
    let faults = machine.kernel.cpu.counters.faults;
    put_out(&mut machine, vms[0]);
    bring_in(&mut machine, vms[0], pending::NIC);
    assert_eq!((counts(&mut machine), machine.kernel.cpu.counters.faults), ((own, tables, shared), faults));
    // It puts back what the image has in its data.
    let golden = machine.kernel.cpu.images.get(WITH_NIC).and_then(|image| image.golden(DATA)).expect("it has that");
    let was = core_memory(golden, PAGE_SIZE).load64(16).expect("in the page");
    let write = |word| {
        let [pending, enabled, _, idle] = alarm(0);
        [poke(DATA, 16, word), pending, enabled, idle]
    };
    wake(&mut machine, vms[0], write(was));
    assert_eq!(counts(&mut machine).0, own);
    put_out(&mut machine, vms[0]);
    bring_in(&mut machine, vms[0], pending::NIC);
    assert_eq!(
        (counts(&mut machine), word(&mut machine, vms[0], DATA, 16)),
        ((own - 1, tables, shared + 1), Some(was))
    );
    // And writes there again.
    wake(&mut machine, vms[0], write(!was));
    put_out(&mut machine, vms[0]);
    bring_in(&mut machine, vms[0], pending::NIC);
    assert_eq!((counts(&mut machine).0, word(&mut machine, vms[0], DATA, 16)), (own, Some(!was)));
}

#[test]
fn its_idle_returns_with_what_is_pending() {
    let (mut machine, vms) = machine(1);
    put_out(&mut machine, vms[0]);
    assert!(machine.kernel.raise(vms[0], pending::NIC));
    machine.rouse();
    for _ in 0..40_000 {
        machine.step();
        if let Some(vm) = machine.kernel.vms.by_id(vms[0]).filter(|vm| vm.life.is_ready()) {
            assert!(vm.hazard.contains(Hazard::IDLE_RESULT) && vm.hazard.contains(Hazard::PENDING));
            return;
        }
    }
    panic!("it never runs");
}

#[test]
fn what_comes_for_a_vm_that_is_on_its_way_is_not_lost() {
    let (mut machine, vms) = machine(1);
    let vm = vms[0];
    // At every turn of the way out, and of the way in.
    for turns in 0..40 {
        if machine.kernel.vms.by_id(vm).is_none() {
            bring_in(&mut machine, vm, pending::SHUTDOWN);
        }
        machine.wires.spend(HZ / 1000);
        {
            let crate::kernel::Kernel { vms, .. } = &mut machine.kernel;
            let body = vms.by_id(vm).and_then(|vm| vm.life.body()).expect("it is in");
            body.registers.memory().store64(core::mem::offset_of!(abi::guest::RegisterPage, pending), 0);
        }
        choose(&mut machine, vm);
        for _ in 0..turns {
            machine.step();
            machine.audit();
        }
        assert!(machine.kernel.raise(vm, pending::NIC));
        machine.rouse();
        for _ in 0..turns {
            machine.step();
            machine.audit();
        }
        assert!(machine.kernel.raise(vm, pending::SHUTDOWN));
        machine.rouse();
        machine.settle(40_000);
        machine.audit();
        // What it does not want to hear of lets it go out, and is pending when it comes in.
        if machine.kernel.vms.out(vm).is_some() {
            bring_in(&mut machine, vm, pending::CONTROL);
        }
        let body = machine.kernel.vms.by_id(vm).and_then(|vm| vm.life.body());
        let bits = body.expect("it is in").registers.pending();
        assert_eq!(bits & (pending::NIC | pending::SHUTDOWN), pending::NIC | pending::SHUTDOWN, "{turns}");
        assert!(has_its_memory(&mut machine, vm), "{turns}");
    }
}

/// The VM does what is next, and idles. (When nothing else happens, the machine sleeps until the next alarm.)
pub fn wake(machine: &mut Machine<true>, vm: VmId, steps: impl IntoIterator<Item = Step>) {
    machine.guests.borrow_mut().steps.extend(steps);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    let of = vms.by_id(vm).expect("it is in");
    let body = of.life.body().expect("it is in");
    body.registers.memory().store64(core::mem::offset_of!(abi::guest::RegisterPage, enabled), u64::MAX);
    cpu.raise(of, pending::SHUTDOWN);
    machine.rouse();
    step_until(machine, |machine| {
        machine.guests.borrow().steps.is_empty() && machine.state(vm) == Some(State::Idle { until: u64::MAX })
    });
    machine.wires.spend(HZ / 1000);
}

pub fn step_until(machine: &mut Machine<true>, done: impl Fn(&mut Machine<true>) -> bool) {
    for _ in 0..20_000 {
        if done(machine) {
            return;
        }
        machine.step();
    }
    panic!("it never happens");
}

#[test]
fn an_alarm_brings_it_in_and_a_near_one_keeps_it_in() {
    let (mut machine, vms) = machine(1);
    let vm = vms[0];
    let soon = machine.wires.now() + HZ / 2;
    wake(&mut machine, vm, alarm(soon));
    choose(&mut machine, vm);
    step_until(&mut machine, |machine| stays(machine, vm) == Some(Stays::Alarm));
    let later = machine.wires.now() + 5 * HZ;
    wake(&mut machine, vm, alarm(later));
    let mut tries = 0;
    while machine.kernel.vms.out(vm).is_none() && tries < 4 {
        let told = machine.hardware.borrow().components[machine.rank(Service::Pager)].pager().stays.len();
        choose(&mut machine, vm);
        step_until(&mut machine, |machine| {
            let now = machine.hardware.borrow().components[machine.rank(Service::Pager)].pager().stays.len();
            machine.kernel.vms.out(vm).is_some() || now > told
        });
        tries += 1;
    }
    machine.audit();
    assert!(machine.kernel.vms.out(vm).is_some() && machine.wires.now() < later, "{:?}", stays(&machine, vm));
    machine.rouse();
    machine.settle(40_000);
    machine.audit();
    assert!(machine.wires.now() >= later);
    let vm = machine.kernel.vms.by_id(vm).expect("its alarm has brought it in");
    assert_eq!((vm.alarm, vm.life.state()), (u64::MAX, State::Idle { until: u64::MAX }));
    assert_eq!(vm.life.body().map(|body| body.registers.pending() & pending::ALARM), Some(pending::ALARM));
}

#[test]
fn who_cannot_go_out_stays_and_the_pager_hears_why() {
    let (mut machine, vms) = machine(2);
    let since = machine.wires.now();
    machine.kernel.vms.by_id(vms[0]).expect("it is in").since_tsc = since;
    choose(&mut machine, vms[0]);
    machine.settle(20_000);
    assert_eq!(stays(&machine, vms[0]), Some(Stays::Recent));
    machine.kernel.vms.by_id(vms[1]).expect("it is in").ipv4 = 0;
    choose(&mut machine, vms[1]);
    machine.settle(20_000);
    assert_eq!(stays(&machine, vms[1]), Some(Stays::Never));
    let rank = machine.rank(Service::Swap);
    machine.wires.spend(HZ / 1000);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    choose(&mut machine, vms[0]);
    machine.settle(20_000);
    assert_eq!(stays(&machine, vms[0]), Some(Stays::NoSwap));
    machine.audit();
}

#[test]
fn one_without_a_nic_goes_out_and_the_operator_brings_it_in() {
    let mut machine = Machine::<true>::with_swap(4096, PLACES);
    machine.settle(4000);
    let vm = machine.create(WITHOUT_NIC);
    machine.rouse();
    machine.settle(20_000);
    machine.wires.spend(HZ / 1000);
    put_out(&mut machine, vm);
    bring_in(&mut machine, vm, pending::SHUTDOWN);
    assert!(machine.kernel.vms.by_id(vm).is_some());
}

#[test]
fn a_pool_that_is_full_refuses_and_nobody_is_harmed() {
    let (mut machine, vms) = machine(20);
    let mut out = 0;
    for &vm in &vms {
        for _ in 0..3 {
            machine.wires.spend(HZ / 5);
            choose(&mut machine, vm);
            machine.settle(20_000);
        }
        out += usize::from(machine.kernel.vms.out(vm).is_some());
        machine.audit();
    }
    let pool = with_swap(&mut machine, |swap| swap.known.values().map(|bundle| u64::from(bundle.bytes)).sum::<u64>());
    assert!(out == 20 || pool > 0, "{out}");
    with_swap(&mut machine, |swap| swap.pool_bytes = 0);
    let vm = machine.create(WITH_NIC);
    machine.rouse();
    machine.settle(20_000);
    machine.wires.spend(HZ / 5);
    while stays(&machine, vm) != Some(Stays::Full) {
        choose(&mut machine, vm);
        machine.settle(20_000);
        machine.audit();
    }
    assert!(matches!(machine.kernel.describe_pool(), ControlReply::Pool { refused: 1, .. }));
    assert!(machine.kernel.vms.out(vm).is_none());
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.is_idle()));
}

#[test]
fn what_comes_back_damaged_ends_that_vm_and_no_other() {
    let spoils: [fn(&mut Machine<true>, VmId); 6] = [
        |machine, _| with_swap(machine, |swap| swap.spoil = true),
        // A page twice, one beyond its memory, no register page, a processor that cannot be, a page that its image does not have.
        |machine, vm| with_swap(machine, |swap| swap.falsify(vm, |pages, _| pages[1] = pages[0])),
        |machine, vm| {
            with_swap(machine, |swap| swap.falsify(vm, |pages, _| *pages.last_mut().expect("some") = GUEST_PAGES))
        },
        |machine, vm| {
            with_swap(machine, |swap| swap.falsify(vm, |pages, _| pages.iter_mut().for_each(|page| *page += 1)));
        },
        |machine, vm| with_swap(machine, |swap| swap.falsify(vm, |_, kept| kept.state.magic = 7)),
        |machine, vm| with_swap(machine, |swap| swap.falsify(vm, |_, kept| kept.shared[7] = 1)),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let (mut machine, vms) = machine(2);
        let before = machine.frames_by_owner();
        put_out(&mut machine, vms[0]);
        spoil(&mut machine, vms[0]);
        bring_in(&mut machine, vms[0], pending::NIC);
        assert_eq!(machine.vms(), [vms[1]], "{number}");
        assert!(machine.ended.contains(&vms[0]) && has_its_memory(&mut machine, vms[1]), "{number}");
        assert!(matches!(machine.kernel.describe_pool(), ControlReply::Pool { vms: 0, damaged: 1, .. }), "{number}");
        assert!(machine.frames_by_owner() != before);
        assert!(EndReason::from_raw(22) == Some(EndReason::Damaged));
    }
}

#[test]
fn a_bundle_that_cannot_be_is_nonsense_and_the_vm_stays() {
    let (mut machine, vms) = machine(1);
    with_swap(&mut machine, |swap| swap.pool_bytes = 1 << 40);
    machine.kernel.cpu.components.list[4].info.pool_bytes = 64;
    for _ in 0..3 {
        choose(&mut machine, vms[0]);
        for _ in 0..2000 {
            machine.step();
        }
    }
    assert!(machine.kernel.vms.out(vms[0]).is_none() && has_its_memory(&mut machine, vms[0]));
}

#[test]
fn what_was_moved_to_the_disks_comes_back_from_there() {
    let (mut machine, vms) = machine(3);
    with_swap(&mut machine, |swap| swap.moves = 1);
    for &vm in &vms[..2] {
        put_out(&mut machine, vm);
    }
    machine.settle(20_000);
    machine.audit();
    let ControlReply::Pool { vms: in_pool, on_disk, moved, .. } = machine.kernel.describe_pool() else { panic!() };
    assert!(on_disk >= 1 && in_pool + on_disk == 2 && moved == on_disk, "{in_pool} {on_disk} {moved}");
    let described = machine.kernel.describe_next_vm(vms[0].slot);
    assert!(matches!(described, ControlReply::Vm { state: vm_state::ON_DISK, memory: 0, .. }), "{described:?}");
    // Swap dies, and its successor is told where it lies.
    let rank = machine.rank(Service::Swap);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    for &vm in &vms[..2] {
        bring_in(&mut machine, vm, pending::NIC);
        assert!(machine.kernel.vms.by_id(vm).is_some() && has_its_memory(&mut machine, vm));
    }
    assert!(matches!(machine.kernel.describe_pool(), ControlReply::Pool { vms: 0, on_disk: 0, damaged: 0, .. }));
}

#[test]
fn what_the_disks_do_not_give_back_ends_that_vm_with_the_reason() {
    let (mut machine, vms) = machine(2);
    with_swap(&mut machine, |swap| swap.moves = 1);
    put_out(&mut machine, vms[0]);
    machine.settle(20_000);
    with_swap(&mut machine, |swap| swap.unread = true);
    bring_in(&mut machine, vms[0], pending::NIC);
    assert_eq!(machine.vms(), [vms[1]]);
    assert!(machine.ended.contains(&vms[0]) && has_its_memory(&mut machine, vms[1]));
    assert!(matches!(machine.kernel.describe_pool(), ControlReply::Pool { on_disk: 0, damaged: 1, .. }));
}

#[test]
fn a_move_that_comes_too_late_changes_nothing() {
    let (mut machine, vms) = machine(2);
    put_out(&mut machine, vms[0]);
    let bundle = machine.kernel.vms.bundle(vms[0].slot).expect("it is out");
    let moved = |vm, counter| abi::message::Message::from(SwapCommand::Moved { vm, counter });
    // Another order, another VM, one that is in.
    for (vm, counter) in [(vms[0], bundle.counter + 1), (VmId::new(77, 1), bundle.counter), (vms[1], bundle.counter)] {
        machine.kernel.swap_command(&moved(vm, counter)).expect("it can be said");
    }
    assert_eq!(machine.kernel.vms.bundle(vms[0].slot), Some(bundle));
    bring_in(&mut machine, vms[0], pending::NIC);
    machine.kernel.swap_command(&moved(vms[0], bundle.counter)).expect("it can be said");
    assert_eq!((machine.kernel.vms.bundle(vms[0].slot), machine.kernel.vms.on_disk()), (None, 0));
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
}

fn is_loading(machine: &mut Machine<true>, vm: VmId) -> bool {
    let rank = machine.rank(Service::Swap);
    let waits = matches!(machine.kernel.cpu.components.list[rank].run, crate::component::Run::Waiting { .. });
    waits
        && machine.state(vm) == Some(State::Coming)
        && machine.kernel.cpu.windows.open().any(|(_, open)| open.vm == vm)
}

#[test]
fn one_that_never_answers_is_condemned_and_its_successor_asked() {
    let (mut machine, vms) = machine(1);
    with_swap(&mut machine, |swap| swap.silent = true);
    choose(&mut machine, vms[0]);
    // It sleeps until somebody looks.
    machine.settle(20_000);
    machine.audit();
    let rank = machine.rank(Service::Swap);
    assert!(machine.kernel.cpu.components.list[rank].incarnation > 1);
    assert!(machine.kernel.vms.by_id(vms[0]).is_some_and(|vm| vm.life.is_idle()));
    assert!(has_its_memory(&mut machine, vms[0]));
}

#[test]
fn a_swap_that_dies_at_the_way_out_harms_nobody_and_at_the_way_in_it_is_asked_again() {
    let (mut machine, vms) = machine(1);
    let vm = vms[0];
    let rank = machine.rank(Service::Swap);
    with_swap(&mut machine, |swap| swap.silent = true);
    choose(&mut machine, vm);
    step_until(&mut machine, |machine| {
        machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.shared() == Devices::SWAP)
    });
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.rouse();
    machine.settle(20_000);
    machine.audit();
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.is_idle()) && has_its_memory(&mut machine, vm));
    with_swap(&mut machine, |swap| swap.silent = false);
    machine.wires.spend(HZ / 1000);
    put_out(&mut machine, vm);
    with_swap(&mut machine, |swap| swap.silent = true);
    assert!(machine.kernel.raise(vm, pending::NIC));
    machine.rouse();
    step_until(&mut machine, |machine| is_loading(machine, vm));
    machine.kernel.cpu.condemn(rank, Death::Killed);
    with_swap(&mut machine, |swap| swap.silent = false);
    machine.rouse();
    machine.settle(40_000);
    machine.audit();
    assert!(has_its_memory(&mut machine, vm));
    // One that kills it again and again ends at last.
    machine.wires.spend(HZ / 1000);
    put_out(&mut machine, vm);
    with_swap(&mut machine, |swap| swap.silent = true);
    assert!(machine.kernel.raise(vm, pending::NIC));
    for _ in 0..3 {
        machine.rouse();
        step_until(&mut machine, |machine| is_loading(machine, vm));
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.step();
    }
    machine.rouse();
    machine.settle(40_000);
    machine.audit();
    assert!(machine.ended.contains(&vm) && machine.vms().is_empty());
}

#[test]
fn one_that_is_destroyed_on_its_way_is_gone_with_what_lies_in_the_pool() {
    for turns in 0..30 {
        let (mut machine, vms) = machine(1);
        send_on_its_way(&mut machine, vms[0], turns % 2 == 0);
        for _ in 0..turns {
            machine.step();
            machine.audit();
        }
        assert!(machine.kernel.destroy(vms[0]));
        machine.rouse();
        machine.settle(40_000);
        machine.audit();
        assert!(machine.vms().is_empty(), "{turns}");
        assert!(with_swap(&mut machine, |swap| swap.known.is_empty()), "{turns}");
    }
}

#[test]
fn who_waits_for_a_seat_or_for_memory_gets_those_of_who_idles_longest() {
    let mut machine = Machine::<true>::with_swap(4096, Places { slots: 64, seats: 4 });
    machine.settle(4000);
    let mut vms = Vec::new();
    for _ in 0..12 {
        vms.push(machine.create(WITH_NIC));
        for _ in 0..6000 {
            machine.step();
        }
        machine.audit();
    }
    let waits: Vec<_> = vms.iter().filter(|&&vm| machine.waits(vm)).collect();
    assert!(waits.is_empty(), "all have been in: {waits:?}");
    let out = vms.iter().filter(|&&vm| machine.kernel.vms.out(vm).is_some()).count();
    assert_eq!(out, 8);
    // Everybody answers when asked.
    for &vm in &vms {
        if machine.kernel.vms.out(vm).is_some() {
            while !machine.kernel.can_come_in(vm) {
                machine.step();
            }
            assert!(machine.kernel.raise(vm, pending::NIC));
            machine.rouse();
            for _ in 0..20_000 {
                machine.step();
                if machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.body().is_some()) {
                    break;
                }
            }
            machine.audit();
        }
        assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.body().is_some()), "{vm} does not come in");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever goes out, is called, dies and is destroyed: no VM is lost, and each has its memory.
    #[test]
    fn no_vm_is_lost(steps in prop::collection::vec((0_usize..8, 0_u8..12), 1..60)) {
        let (mut machine, mut vms) = machine(8);
        for (which, what) in steps {
            let vm = vms[which];
            match what {
                0..4 => choose(&mut machine, vm),
                4..6 => _ = machine.kernel.can_come_in(vm) && machine.kernel.raise(vm, pending::NIC),
                6 => {
                    let services = [Service::Net, Service::Plan, Service::Pager, Service::Swap];
                    let rank = machine.rank(services[which % 4]);
                    machine.kernel.cpu.condemn(rank, Death::Killed);
                }
                7 if which == 0 && machine.kernel.cpu.all_have_room() => {
                    let _ = machine.kernel.destroy(vm);
                    vms[which] = machine.create(WITHOUT_NIC);
                }
                _ => {
                    for _ in 0..which * 4 {
                        machine.step();
                    }
                    machine.wires.spend(HZ / 10_000);
                }
            }
            machine.rouse();
            machine.audit();
        }
        machine.settle(100_000);
        machine.audit();
        for &vm in &vms[1..] {
            prop_assert!(machine.vms().contains(&vm), "{vm} is lost");
            if machine.kernel.vms.out(vm).is_some() {
                bring_in(&mut machine, vm, pending::NIC);
            }
            prop_assert!(has_its_memory(&mut machine, vm), "{vm} has lost its memory");
        }
    }
}

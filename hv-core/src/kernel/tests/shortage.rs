//! VMs that want more memory than is kept for them, while nothing is free but what is kept for others.

use super::machine::{HZ, IMAGE_PAGE, Machine, WITHOUT_NIC};
use super::vm_memory;
use crate::log::capture::{heard_of, listen};
use crate::vm::{Images, State};
use abi::claim::RESERVE_LEAST;
use abi::guest::{ERROR_ARGUMENT, hypercall};
use abi::pager::Access;
use abi::vm::{ImageId, VmId};
use backend::fake::Step;

type Fake = Machine<true>;

/// A page behind the image, whose fault the pager does not refuse when there is no frame, and one whose it does.
const PATIENT: u32 = 100;
const REFUSED: u32 = 102;

fn touch(page: u32) -> Step {
    Step::Touch { page, access: Access::Write }
}

fn take(first: u32, count: u64) -> Step {
    Step::Hypercall { number: hypercall::TAKE, a: first.into(), b: count }
}

/// A guest that has its reserve and then did these steps, on a machine where nothing more is free.
fn full(steps: &[Step]) -> (Fake, VmId, Vec<crate::memory::PhysAddr>) {
    let (mut machine, vm) = Fake::with_guest(WITHOUT_NIC, &[]);
    let lacks = RESERVE_LEAST - held(&mut machine, vm);
    machine.go_on(&(0..lacks).map(|page| touch(200 + page)).collect::<Vec<_>>());
    machine.settle(4000);
    assert_eq!(held(&mut machine, vm), RESERVE_LEAST);
    let hoard = machine.hoard(0);
    machine.go_on(steps);
    (machine, vm, hoard)
}

fn held(machine: &mut Fake, vm: VmId) -> u32 {
    let vm = machine.kernel.vms.by_id(vm).expect("it lives");
    vm.life.memory().expect("it is admitted").reservation().held()
}

/// A guest of an image that may hold so many frames.
fn with_limit(limit_frames: u32) -> (Fake, VmId) {
    let mut machine = Fake::new(2048);
    machine.guests.borrow_mut().hostile = 1;
    let mut image = vm_memory::image(&mut machine.kernel.cpu.frames, 256 * 4096, 0);
    image.entry.limit_frames = limit_frames;
    machine.kernel.cpu.images = Images::new();
    machine.kernel.cpu.images.add(Some(image));
    machine.kernel.cpu.images.connect(|_, service| machine.kernel.cpu.endpoints.first(service));
    let vm = machine.create(ImageId::new(0));
    machine.settle(4000);
    (machine, vm)
}

/// Lets `ticks` pass.
fn pass(machine: &mut Fake, ticks: u64) {
    let end = machine.wires.now() + ticks;
    while machine.wires.now() < end {
        if machine.is_asleep() {
            machine.wires.spend(HZ / 1000);
            machine.rouse();
        }
        machine.step();
    }
}

#[test]
fn who_is_short_of_memory_waits_a_second_and_ends() {
    let (mut machine, vm, _hoard) = full(&[touch(PATIENT)]);
    listen();
    pass(&mut machine, HZ - HZ / 10);
    assert!(matches!(machine.state(vm), Some(State::Fault(fault)) if fault.page == PATIENT));
    pass(&mut machine, HZ / 5);
    assert_eq!(machine.state(vm), None);
    let said = heard_of("vm0.1");
    assert!(said[0].starts_with(&format!("core: vm0.1 ended: out of memory (detail {PATIENT:#x}, ")), "{said:?}");
    machine.audit();
}

#[test]
fn stolen_time_is_not_waited_for_memory() {
    let (mut machine, vm, _hoard) = full(&[touch(PATIENT)]);
    pass(&mut machine, HZ / 2);
    machine.wires.spend(20 * HZ);
    pass(&mut machine, HZ / 10);
    assert!(matches!(machine.state(vm), Some(State::Fault(_))), "a jump is worth a tenth of a second");
    pass(&mut machine, HZ / 2);
    assert_eq!(machine.state(vm), None);
}

#[test]
fn who_is_short_of_memory_goes_on_when_there_is_some() {
    let (mut machine, vm, hoard) = full(&[touch(PATIENT)]);
    pass(&mut machine, HZ / 2);
    assert!(matches!(machine.state(vm), Some(State::Fault(_))));
    machine.unhoard(hoard);
    pass(&mut machine, HZ / 50);
    assert!(matches!(machine.state(vm), Some(State::Idle { .. })), "looked at every ten milliseconds");
    assert_eq!(held(&mut machine, vm), RESERVE_LEAST + 1);
    machine.audit();
    // The next time it waits as long again.
    let hoard = machine.hoard(0);
    machine.go_on(&[touch(PATIENT + 1), touch(PATIENT + 4)]);
    pass(&mut machine, HZ * 9 / 10);
    assert!(machine.state(vm).is_some());
    machine.unhoard(hoard);
}

#[test]
fn a_pager_may_refuse_at_once() {
    let (mut machine, vm, _hoard) = full(&[touch(REFUSED)]);
    pass(&mut machine, HZ / 100);
    assert_eq!(machine.state(vm), None);
    machine.audit();
}

#[test]
fn memory_that_is_kept_is_there_whatever_others_hold() {
    let (mut machine, modest) = Fake::with_guest(WITHOUT_NIC, &[]);
    let lacks = RESERVE_LEAST - held(&mut machine, modest);
    assert!(lacks >= 2);
    let hoard = machine.hoard(lacks.into());
    assert_eq!(machine.kernel.cpu.frames.unreserved(), 0);
    machine.go_on(&[touch(PATIENT), touch(REFUSED)]);
    machine.settle(4000);
    assert!(matches!(machine.state(modest), Some(State::Idle { .. })));
    machine.audit();
    machine.unhoard(hoard);
}

#[test]
fn who_has_as_much_as_it_may_ends_for_that() {
    let (mut machine, vm) = with_limit(RESERVE_LEAST);
    let lacks = RESERVE_LEAST - held(&mut machine, vm);
    listen();
    machine.go_on(&(0..=lacks).map(|page| touch(200 + page)).collect::<Vec<_>>());
    machine.settle(4000);
    let said = heard_of("vm0.1");
    assert!(said[0].starts_with("core: vm0.1 ended: over its memory limit (detail 0x"), "{said:?}");
    machine.audit_lives();
    machine.audit_frames();
}

#[test]
fn who_asks_before_it_touches_never_ends() {
    let steps =
        [take(130, 3), Step::Store { address: 60 * 4096 }, take(PATIENT, 4), Step::Store { address: 60 * 4096 + 8 }];
    let (mut machine, vm) = Fake::with_guest(WITHOUT_NIC, &steps);
    let before = held(&mut machine, vm);
    assert_eq!((machine.word(vm, 60 * 4096), machine.word(vm, 60 * 4096 + 8)), (3, 4));
    assert!(before > RESERVE_LEAST);
    // Two more can be had, of four.
    let hoard = machine.hoard(2);
    machine.go_on(&[
        take(110, 4),
        Step::Store { address: 60 * 4096 },
        take(PATIENT, 4),
        Step::Store { address: 60 * 4096 + 8 },
    ]);
    machine.settle(4000);
    assert_eq!((machine.word(vm, 60 * 4096), machine.word(vm, 60 * 4096 + 8)), (2, 4));
    assert_eq!(held(&mut machine, vm), before + 2);
    machine.audit();
    machine.unhoard(hoard);
}

#[test]
fn only_pages_that_are_zero_and_writable_can_be_taken() {
    let bad = [(IMAGE_PAGE, 1), (0, 1), (255, 2), (u32::MAX, 1), (100, 65), (100, u64::MAX)];
    for (first, count) in bad {
        let steps = [take(first, count), Step::Store { address: 60 * 4096 }];
        let (mut machine, vm) = Fake::with_guest(WITHOUT_NIC, &steps);
        assert_eq!(machine.word(vm, 60 * 4096), ERROR_ARGUMENT, "{first} {count}");
        machine.audit();
    }
}

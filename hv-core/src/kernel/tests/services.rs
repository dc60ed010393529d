//! What the core does on the word of the pager and the demultiplexer, and what it does where the gatekeeper says nothing.

use super::machine::{GUEST_PAGES, HZ, IMAGE_PAGE, Machine, Places, RING_SLOTS, WITH_NIC, WITHOUT_NIC};
use super::roles::Role as FakeRole;
use crate::component::{Death, Run};
use crate::log::capture::{heard_of, listen};
use crate::memory::Owner;
use crate::vm::{Devices, End, PageFault, Queue, State};
use abi::end::EndReason;
use abi::guest::{BOOT_ARGS, REGISTER_PAGE};
use abi::message::{Malformed, Message};
use abi::net::NetCommand;
use abi::pager::{Access, PagerCommand, PagerEvent, THEN_RESUME};
use abi::sched::SchedCommand;
use abi::service::Service;
use abi::vm::{Seat, VmId};

type Fake = Machine<true>;

const FAULT: PageFault = PageFault { page: IMAGE_PAGE + 50, access: Access::Write, present: false };

/// A machine at rest whose VM has just touched a page; the pager sleeps.
fn faulting() -> (Fake, VmId) {
    let (mut machine, id) = Fake::with_guest(WITH_NIC, &[]);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    let vm = vms.by_id(id).expect("it lives");
    cpu.wake(vm);
    cpu.page_fault(vm, FAULT);
    (machine, id)
}

impl Fake {
    fn obey(&mut self, command: PagerCommand) -> Result<(), Malformed> {
        self.pager_says(&command.into()).map_err(|bad| bad.what)
    }

    /// Frames of memory of its own.
    fn own(&mut self, id: VmId) -> u32 {
        let memory = self.kernel.vms.by_id(id).and_then(|vm| vm.life.memory());
        memory.map_or(0, |memory| memory.counts().0)
    }
}

#[test]
fn a_page_is_given_and_the_vm_waits_on() {
    let (mut machine, vm) = faulting();
    let own = machine.own(vm);
    assert_eq!(machine.obey(PagerCommand::MapZero { vm, page: FAULT.page, count: 3 }), Ok(()));
    assert_eq!(machine.own(vm), own + 3);
    assert_eq!(machine.state(vm), Some(State::Fault(FAULT)));
    assert_eq!(machine.obey(PagerCommand::Resume { vm }), Ok(()));
    assert_eq!(machine.state(vm), Some(State::Ready));
}

#[test]
fn a_page_can_be_given_with_leave_to_go_on() {
    let (mut machine, vm) = faulting();
    let command = PagerCommand::MapZero { vm, page: FAULT.page, count: 1 };
    let message = Message { id: THEN_RESUME, ..Message::from(command) };
    assert_eq!(machine.pager_says(&message), Ok(()));
    assert_eq!(machine.state(vm), Some(State::Ready));
}

#[test]
fn one_command_names_64_pages_at_most() {
    let (mut machine, vm) = faulting();
    let own = machine.own(vm);
    let command = |count| PagerCommand::MapZero { vm, page: IMAGE_PAGE + 50, count };
    assert_eq!(machine.obey(command(65)), Err(Malformed::PageCount));
    assert_eq!(machine.own(vm), own);
    assert_eq!(machine.obey(command(64)), Ok(()));
    assert_eq!(machine.own(vm), own + 64);
}

#[test]
fn pages_beyond_the_memory_are_refused() {
    let (mut machine, vm) = faulting();
    let bad = Err(Malformed::Page);
    assert_eq!(machine.obey(PagerCommand::MapZero { vm, page: GUEST_PAGES, count: 1 }), bad);
    assert_eq!(machine.obey(PagerCommand::MapImage { vm, page: IMAGE_PAGE + 50, count: 1 }), bad);
    assert_eq!(machine.obey(PagerCommand::CopyImage { vm, page: IMAGE_PAGE + 50 }), bad);
    // What comes before such a page is given.
    let own = machine.own(vm);
    assert_eq!(machine.obey(PagerCommand::MapZero { vm, page: GUEST_PAGES - 2, count: 5 }), bad);
    assert_eq!(machine.own(vm), own + 2);
    assert_eq!(machine.state(vm), Some(State::Fault(FAULT)));
}

#[test]
fn nothing_is_given_to_who_is_gone_or_waits() {
    let (mut machine, vm) = faulting();
    let waiting = machine.create(WITHOUT_NIC);
    let gone = VmId { generation: vm.generation + 1, ..vm };
    for vm in [waiting, gone] {
        assert_eq!(machine.obey(PagerCommand::MapZero { vm, page: IMAGE_PAGE + 50, count: 1 }), Ok(()));
        assert_eq!(machine.obey(PagerCommand::Resume { vm }), Ok(()));
        assert_eq!(machine.obey(PagerCommand::Refuse { vm, page: 1 }), Ok(()));
    }
    assert!(machine.waits(waiting));
    assert_eq!(machine.own(waiting), 0);
}

#[test]
fn who_waits_for_no_page_is_not_resumed() {
    let (mut machine, vm) = Fake::with_guest(WITH_NIC, &[]);
    assert_eq!(machine.obey(PagerCommand::Resume { vm }), Ok(()));
    assert_eq!(machine.state(vm), Some(State::Idle { until: u64::MAX }));
}

#[test]
fn a_refused_page_ends_the_vm() {
    let (mut machine, vm) = faulting();
    assert_eq!(machine.obey(PagerCommand::Refuse { vm, page: FAULT.page }), Ok(()));
    assert_eq!(machine.state(vm), Some(State::Ending));
    // Once more is no error.
    assert_eq!(machine.obey(PagerCommand::Refuse { vm, page: FAULT.page }), Ok(()));
}

#[test]
fn the_pager_hears_when_frames_run_out() {
    let (mut machine, vm) = faulting();
    let frames = &mut machine.kernel.cpu.frames;
    while frames.free_frames() > 2 {
        frames.alloc(Owner::Core, 0).expect("free");
    }
    let rank = machine.rank(Service::Pager);
    // It hears of the fault first, and gives the page.
    machine.kernel.run_component(rank);
    let (memory, slots, _) = machine.hardware.borrow().components[rank].inbox;
    assert_eq!(machine.obey(PagerCommand::MapZero { vm, page: IMAGE_PAGE + 60, count: 9 }), Ok(()));
    let mut inbox = ring::Consumer::attach_contiguous(&memory, slots).expect("a ring");
    let mut last = None;
    while let Ok(Some(message)) = inbox.pop() {
        last = Some(PagerEvent::try_from(&message));
    }
    assert_eq!(last, Some(Ok(PagerEvent::OutOfFrames { vm, seat: Seat::new(0), page: IMAGE_PAGE + 61, free: 0 })));
}

#[test]
fn what_is_no_command_is_said_to_be_none() {
    let (mut machine, _) = faulting();
    assert!(machine.pager_says(&Message::new(0x999, [1])).is_err());
    assert!(machine.net_says(&Message::new(0x999, [1])).is_err());
}

#[test]
fn who_lives_is_not_detached() {
    let (mut machine, vm) = Fake::with_guest(WITH_NIC, &[]);
    assert_eq!(machine.net_says(&NetCommand::Detached { vm }.into()), Ok(()));
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.shared() == Devices::NIC));
    machine.audit_windows();
}

#[test]
fn who_has_ended_is_buried_when_it_is_detached() {
    let (mut machine, id) = Fake::with_guest(WITH_NIC, &[]);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.end(vms.by_id(id).expect("it lives"), End::new(EndReason::Destroyed, 0));
    assert!(!machine.kernel.cpu.attention.clone().take_ended());
    // Another VM in the same slot is not meant.
    let other = VmId { generation: id.generation + 1, ..id };
    assert_eq!(machine.net_says(&NetCommand::Detached { vm: other }.into()), Ok(()));
    assert!(!machine.kernel.cpu.attention.clone().take_ended());
    assert_eq!(machine.net_says(&NetCommand::Detached { vm: id }.into()), Ok(()));
    assert!(machine.kernel.cpu.attention.clone().take_ended());
    assert_eq!(machine.deadline_of(id.slot), crate::vm::NEVER);
}

#[test]
fn a_vm_without_a_nic_is_not_attached() {
    let (mut machine, vm) = Fake::with_guest(WITHOUT_NIC, &[]);
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.shared() == Devices::default()));
    machine.audit_windows();
}

#[test]
fn who_waits_a_second_for_the_gatekeeper_is_admitted() {
    let mut machine = Fake::new(2048);
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
    let before = machine.wires.now();
    let vms: Vec<_> = (0..20).map(|_| machine.create(WITHOUT_NIC)).collect();
    machine.guests.borrow_mut().hostile = 1;
    while machine.waits(vms[0]) {
        machine.step();
        machine.audit_lives();
    }
    let waited = machine.wires.now() - before;
    assert!((HZ..HZ + HZ / 100).contains(&waited), "{waited}");
    // First come, first served.
    assert!(machine.waits(vms[19]));
    machine.settle(4000);
    for vm in vms {
        assert_eq!(machine.state(vm), Some(State::Idle { until: u64::MAX }));
    }
    assert_eq!(machine.kernel.cpu.admit_at, crate::vm::NEVER);
}

/// Looks after those who wait for admission for so many ticks, as often as the core does when it does nothing else. The time then.
fn look_after_those_who_wait(machine: &mut Fake, ticks: u64) -> u64 {
    let start = machine.wires.now();
    let end = start + ticks;
    for now in (start..=end).step_by(usize::try_from(HZ / 20).expect("small")) {
        machine.kernel.admit_late(now);
    }
    end
}

#[test]
fn stolen_time_is_no_reason_to_admit() {
    let mut machine = Fake::new(2048);
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
    let vm = machine.create(WITHOUT_NIC);
    let start = machine.wires.now();
    // The machine stands still for an hour: that counts as a period, a tenth of a second.
    let resumed = start + 3600 * HZ;
    machine.kernel.admit_late(resumed);
    assert!(machine.waits(vm), "it has waited for a tenth of a second");
    assert!(machine.kernel.cpu.admit_at <= resumed + HZ / 10, "the core looks again in time to count on");
    for now in (resumed..resumed + HZ * 8 / 10).step_by(usize::try_from(HZ / 20).expect("small")) {
        machine.kernel.admit_late(now);
    }
    assert!(machine.waits(vm), "it has waited for less than a second");
    machine.kernel.admit_late(resumed + HZ * 85 / 100);
    machine.kernel.admit_late(resumed + HZ * 92 / 100);
    assert_eq!(machine.state(vm), Some(State::Ready));
}

#[test]
fn nobody_is_admitted_late_where_there_is_no_room() {
    let mut machine = Fake::new(2048);
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = true;
    }
    let vm = machine.create(WITH_NIC);
    let needed = machine.kernel.cpu.images.get(WITH_NIC).map_or(0, |image| image.entry.reserve_frames.into());
    assert_eq!(needed, u64::from(abi::claim::RESERVE_LEAST));
    let mut taken = Vec::new();
    while machine.kernel.cpu.frames.free_frames() >= needed {
        taken.extend(machine.kernel.cpu.frames.alloc(Owner::Core, 0));
    }
    let now = look_after_those_who_wait(&mut machine, 2 * HZ);
    assert!(machine.waits(vm));
    assert_eq!(machine.kernel.cpu.admit_at, now + HZ);
    machine.kernel.cpu.frames.free(taken.pop().expect("one"), Owner::Core);
    // The gatekeeper hears of it first, and has a quarter of a second; another one when it has admitted somebody.
    machine.kernel.admit_late(now);
    machine.kernel.admit_late(now + HZ / 10);
    machine.kernel.admit_late(now + HZ / 5);
    assert!(machine.waits(vm), "the gatekeeper was not given time");
    let gone = VmId { generation: 99, ..vm };
    machine.plan(&[SchedCommand::Admit { vm: gone }.into()]);
    machine.kernel.advance_plan();
    for tenths in 3..=5 {
        machine.kernel.admit_late(now + tenths * HZ / 10);
        assert!(machine.waits(vm), "it admits somebody");
    }
    machine.kernel.admit_late(now + HZ * 55 / 100);
    assert_eq!(machine.state(vm), Some(State::Ready));
}

#[test]
fn nobody_is_admitted_late_while_the_plan_comes() {
    let (mut machine, first) = Fake::with_guest(WITHOUT_NIC, &[]);
    let vm = machine.create(WITHOUT_NIC);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.wake(vms.by_id(first).expect("it lives"));
    cpu.plan.asked = false;
    let now = look_after_those_who_wait(&mut machine, 2 * HZ);
    assert!(machine.waits(vm));
    // The plan is late as well.
    machine.kernel.cpu.plan.asked = true;
    machine.kernel.admit_late(now);
    assert_eq!(machine.state(vm), Some(State::Ready));
}

#[test]
fn a_successor_is_told_of_more_vms_than_its_ring_holds() {
    let mut machine = Fake::new(8192);
    machine.guests.borrow_mut().hostile = 1;
    for _ in 0..100 {
        machine.create(WITHOUT_NIC);
        machine.settle(1000);
        machine.hardware.borrow_mut().asleep = false;
    }
    for service in [Service::Pager, Service::Plan, Service::Net] {
        let rank = machine.rank(service);
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.hardware.borrow_mut().asleep = false;
        machine.settle(4000);
        assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2, "{service:?} was killed once");
        let endpoint = machine.kernel.cpu.endpoints.first(service);
        assert_eq!(machine.kernel.cpu.endpoints.get(endpoint).map(|endpoint| endpoint.resync), Some(None));
        machine.audit();
    }
    let rank = machine.rank(Service::Pager);
    assert_eq!(machine.hardware.borrow().components[rank].pager().vms.len(), 100);
    assert!(matches!(machine.kernel.cpu.components.list[rank].run, Run::Waiting { .. }));
}

#[test]
fn what_the_boot_options_ask_for_is_created() {
    let mut machine = Fake::with_vms(8192, &[(WITHOUT_NIC, 40), (WITH_NIC, 2)]);
    machine.guests.borrow_mut().hostile = 1;
    assert_eq!(machine.vms(), [], "nobody has been told of one");
    machine.kernel.create_requested();
    assert_eq!(machine.vms().len(), 32);
    // One that is created meanwhile comes behind all of them.
    let later = machine.create(WITHOUT_NIC);
    assert_eq!(later, VmId::new(42, 1));
    assert!(machine.kernel.destroy(later));
    machine.settle(8000);
    // There is no image 7.
    let images: Vec<_> = machine.vms().iter().map(|&id| machine.kernel.vms.by_id(id).map(|vm| vm.image)).collect();
    assert_eq!(images.iter().filter(|&&image| image == Some(WITHOUT_NIC)).count(), 40);
    assert_eq!(images.iter().filter(|&&image| image == Some(WITH_NIC)).count(), 2);
    assert_eq!(images.len(), 42);
    for (slot, args) in [(0, "ip=10.0.2.16/24"), (41, "ip=10.0.2.57/24")] {
        let vm = VmId::new(slot, 1);
        let bytes: Vec<u8> =
            (0..2).flat_map(|i| machine.word(vm, REGISTER_PAGE + BOOT_ARGS + 8 * i).to_le_bytes()).collect();
        assert_eq!(String::from_utf8_lossy(&bytes[..15]), args);
    }
    machine.audit();
}

#[test]
fn more_vms_than_the_schedulers_ring_holds_are_created_as_it_takes_them() {
    let mut machine = Fake::with_vms(16384, &[(WITHOUT_NIC, 200)]);
    for _ in 0..10 {
        machine.kernel.create_requested();
    }
    let rank = machine.rank(Service::Plan);
    let said = u32::try_from(machine.vms().len()).expect("few");
    assert!((32..RING_SLOTS).contains(&said), "{said}");
    let run = machine.kernel.cpu.components.list[rank].run;
    assert!(!matches!(run, Run::Condemned(_)), "{run:?}");
    machine.settle(20_000);
    assert_eq!(machine.vms().len(), 200);
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 1);
}

#[test]
fn a_vm_that_finds_no_seat_waits_until_one_is_free() {
    let mut machine = Fake::with_places(8192, Places { slots: 100, seats: 2 });
    machine.guests.borrow_mut().hostile = 1;
    let vms: Vec<_> = (0..4).map(|_| machine.create(WITHOUT_NIC)).collect();
    let waiting = |machine: &Fake| vms.iter().map(|&vm| machine.waits(vm)).collect::<Vec<_>>();
    for _ in 0..2000 {
        machine.step();
    }
    assert_eq!(waiting(&machine), [false, false, true, true]);
    // Neither the gatekeeper's word nor the core's own patience changes that.
    machine.admit(vms[2]);
    machine.kernel.cpu.plan.asked = true;
    let now = machine.wires.now() + 2 * HZ;
    machine.kernel.admit_late(now);
    assert_eq!(waiting(&machine), [false, false, true, true]);
    machine.audit_lives();
    assert!(machine.kernel.destroy(vms[0]));
    for _ in 0..2000 {
        machine.step();
    }
    assert_eq!(waiting(&machine), [false, false, false, true]);
    machine.audit_lives();
}

#[test]
fn what_the_demultiplexer_cannot_serve_ends() {
    let (mut machine, vm) = Fake::with_guest(WITH_NIC, &[]);
    let (other, stranger) = (machine.create(WITHOUT_NIC), VmId::new(77, 1));
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    for id in [other, stranger] {
        assert_eq!(machine.net_says(&NetCommand::Refused { vm: id }.into()), Ok(()));
    }
    assert_eq!(machine.state(other), Some(State::Idle { until: u64::MAX }));
    listen();
    assert_eq!(machine.net_says(&NetCommand::Refused { vm }.into()), Ok(()));
    assert_eq!((machine.state(vm), machine.queued(Queue::Ended)), (Some(State::Ending), vec![vm.slot.number()]));
    assert!(heard_of("refused by the network demultiplexer").len() == 1);
    machine.audit_windows();
}

#[test]
fn the_boot_options_vms_wait_for_the_node() {
    for says in [true, false] {
        let mut machine = Fake::with_vms(1024, &[(WITH_NIC, 1)]);
        machine.guests.borrow_mut().hostile = 1;
        machine.kernel.cpu.node = None;
        machine.kernel.cpu.await_node();
        let start = machine.wires.now();
        for _ in 0..5 {
            machine.step();
        }
        assert_eq!(machine.vms(), []);
        if says {
            for node in [5, 6] {
                let node = abi::nic::Node::new(node);
                assert_eq!(machine.net_says(&NetCommand::Node { node }.into()), Ok(()));
            }
        }
        while machine.vms().is_empty() {
            machine.step();
        }
        assert_eq!(machine.wires.now() >= start + HZ, !says, "it waits for a second");
        assert_eq!(machine.kernel.cpu.node().number(), if says { 5 } else { 0 }, "the first word counts");
    }
}

//! Components die for every reason, and come back.

use super::board::NIC_GSI;
use super::component::{Due, Misdeed};
use super::machine::{HZ, Machine, WITH_NIC, WITHOUT_NIC};
use crate::component::{Death, EndpointId, Run};
use crate::vm::{Devices, Queue, State};
use abi::component::bits;
use abi::service::Service;

type Fake = Machine<true>;

impl Fake {
    /// Messages that the first party to a service has not taken yet.
    pub fn told(&mut self, service: Service) -> u32 {
        let endpoint = self.kernel.cpu.endpoints.first(service);
        self.kernel.cpu.endpoints.get_mut(endpoint).expect("there is one").in_flight()
    }

    fn run_of(&self, service: Service) -> Run {
        self.kernel.cpu.components.list[self.rank(service)].run
    }

    fn starts(&self, service: Service) -> u32 {
        self.kernel.cpu.components.list[self.rank(service)].incarnation
    }

    /// The component goes wrong at its next turn, which comes now.
    fn goes_wrong(&mut self, service: Service, what: Misdeed) {
        let rank = self.rank(service);
        self.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what });
        let bit = self.kernel.cpu.components.list[rank].bells;
        self.kernel.cpu.notify(rank, bit);
    }

    /// Let a component die and come back at once: how often, until its next start waits.
    fn dies_until_it_waits(&mut self, service: Service) -> u32 {
        let rank = self.rank(service);
        for deaths in 1..20 {
            self.kernel.cpu.condemn(rank, Death::Exit(1));
            self.kernel.carry_out();
            if matches!(self.run_of(service), Run::Stopped { .. }) {
                return deaths;
            }
        }
        panic!("it always comes back at once");
    }

    /// Turns of the loop until a component is condemned: for what.
    pub fn condemned(&mut self, service: Service) -> Death {
        for _ in 0..200_000 {
            if let Run::Condemned(why) = self.run_of(service) {
                return why;
            }
            self.kernel.step();
        }
        panic!("it is not condemned: {:?}", self.run_of(service));
    }
}

/// The demultiplexer's endpoint.
fn net(machine: &Fake) -> EndpointId {
    machine.kernel.cpu.endpoints.first(Service::Net)
}

/// A machine at rest with one VM that has a NIC.
fn at_rest() -> Fake {
    Fake::with_guest(WITH_NIC, &[]).0
}

#[test]
fn the_loop_alone_stops_and_starts() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    assert_eq!(machine.run_of(Service::Pager), Run::Condemned(Death::Killed));
    assert_eq!(machine.starts(Service::Pager), 1);
    assert!(machine.kernel.cpu.attention.needs_core());
    machine.kernel.carry_out();
    assert_eq!(machine.run_of(Service::Pager), Run::Ready);
    assert_eq!(machine.starts(Service::Pager), 2);
}

#[test]
fn the_first_reason_counts() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.condemn(rank, Death::RingFull);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    assert_eq!(machine.run_of(Service::Plan), Run::Condemned(Death::RingFull));
}

#[test]
fn who_is_condemned_does_not_run() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    let bit = machine.kernel.cpu.components.list[rank].bells;
    machine.kernel.cpu.notify(rank, bit);
    assert_eq!(machine.kernel.cpu.attention.most_important(), Some(rank));
    machine.kernel.cpu.condemn(rank, Death::Killed);
    assert_eq!(machine.kernel.cpu.attention.most_important(), None);
    // What it is rung for does not make it run either.
    machine.kernel.cpu.notify(rank, bit);
    assert_eq!(machine.kernel.cpu.attention.most_important(), None);
}

#[test]
fn nobody_of_that_rank_is_condemned_in_silence() {
    let mut machine = at_rest();
    machine.kernel.cpu.condemn(7, Death::Killed);
    assert!(machine.kernel.cpu.attention.is_none());
}

#[test]
fn an_exception_condemns() {
    let mut machine = at_rest();
    machine.goes_wrong(Service::Pager, Misdeed::Fault);
    assert_eq!(machine.condemned(Service::Pager), Death::Fault { vector: 14, error: 6, cr2: 0xdead });
}

#[test]
fn to_give_up_condemns() {
    let mut machine = at_rest();
    machine.goes_wrong(Service::Control, Misdeed::Exit);
    assert_eq!(machine.condemned(Service::Control), Death::Exit(3));
}

#[test]
fn to_run_for_a_second_condemns() {
    let mut machine = at_rest();
    machine.goes_wrong(Service::Plan, Misdeed::Spin);
    let Death::Overrun(ticks) = machine.condemned(Service::Plan) else { panic!("another reason") };
    // It is not for that that it dies, but for a second of it.
    assert!((HZ - HZ / 100..HZ + HZ / 10).contains(&ticks), "{ticks}");
}

#[test]
fn a_full_ring_condemns() {
    let mut machine = at_rest();
    machine.goes_wrong(Service::Plan, Misdeed::Sleep);
    machine.settle(100);
    // Each creation tells the scheduler of one more VM. It never looks.
    for _ in 0..machine.kernel.vms.capacity() {
        if machine.run_of(Service::Plan) == Run::Condemned(Death::RingFull) {
            return;
        }
        machine.create(WITHOUT_NIC);
    }
    panic!("the ring is never full");
}

#[test]
fn what_waited_for_space_in_a_ring_goes_on_when_its_owner_is_stopped() {
    let mut machine = at_rest();
    let vm = machine.create(WITHOUT_NIC);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(1000);
    let plan = machine.kernel.cpu.endpoints.first(Service::Plan);
    while machine.kernel.cpu.has_room(plan) {
        machine.create(WITHOUT_NIC);
    }
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.end(vms.by_id(vm).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    assert!(machine.kernel.cpu.attention.take_ended());
    machine.kernel.bury();
    assert!(machine.vms().contains(&vm) && !machine.kernel.cpu.attention.take_ended());
    // Its successor is not started at once.
    let rank = machine.rank(Service::Plan);
    let now = machine.wires.now();
    let component = &mut machine.kernel.cpu.components.list[rank];
    (component.started_at, component.quick_deaths) = (now, 10);
    machine.kernel.cpu.condemn(rank, Death::Exit(1));
    machine.kernel.carry_out();
    assert!(matches!(machine.run_of(Service::Plan), Run::Stopped { .. }));
    assert!(machine.kernel.cpu.attention.take_ended());
    machine.kernel.bury();
    assert!(!machine.vms().contains(&vm));
}

#[test]
fn to_withhold_an_ended_vm_condemns_after_a_second() {
    let mut machine = at_rest();
    let vm = machine.vms()[0];
    machine.goes_wrong(Service::Net, Misdeed::Sleep);
    machine.settle(100);
    let before = machine.wires.now();
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    let end = crate::vm::End::new(abi::end::EndReason::Destroyed, 0);
    cpu.end(vms.by_id(vm).expect("it lives"), end);
    assert_eq!(machine.condemned(Service::Net), Death::DetachTimeout(vm));
    let waited = machine.wires.now() - before;
    // From one look to another.
    assert!((HZ..HZ + HZ / 5).contains(&waited), "{waited}");
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(1000);
    assert_eq!(machine.vms(), []);
    machine.audit();
}

#[test]
fn a_fourth_quick_death_costs_two_milliseconds() {
    let mut machine = at_rest();
    machine.wires.spend(HZ);
    // The machine has rested for more than a second, so the first death is none of the quick ones.
    assert_eq!(machine.dies_until_it_waits(Service::Pager), 1 + 4);
    assert_eq!(machine.starts(Service::Pager), 5);
    let Run::Stopped { start_at } = machine.run_of(Service::Pager) else { panic!("it runs") };
    let wait = start_at - machine.wires.now();
    assert!((HZ / 500 - 100..=HZ / 500).contains(&wait), "{wait}");
    // The timer wakes the machine for it.
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(2000);
    assert_eq!(machine.starts(Service::Pager), 6);
    assert!(machine.wires.now() >= start_at);
    machine.audit();
}

#[test]
fn who_dies_again_and_again_waits_longer_each_time_and_never_long() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    machine.kernel.cpu.components.list[rank].quick_deaths = 3;
    let mut waits = Vec::new();
    for _ in 0..9 {
        machine.kernel.cpu.components.list[rank].started_at = machine.wires.now();
        machine.kernel.cpu.condemn(rank, Death::Exit(1));
        machine.kernel.carry_out();
        let Run::Stopped { start_at } = machine.run_of(Service::Pager) else { panic!("it runs") };
        let now = machine.wires.now();
        waits.push((start_at - now).div_ceil(HZ / 1000));
        machine.wires.spend(start_at - now);
        machine.kernel.carry_out();
        assert_eq!(machine.run_of(Service::Pager), Run::Ready);
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 128, 128]);
}

#[test]
fn who_is_killed_by_request_starts_at_once_however_often() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    for _ in 0..100 {
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.kernel.carry_out();
        assert_eq!(machine.run_of(Service::Pager), Run::Ready);
    }
}

#[test]
fn a_long_life_forgives_quick_deaths() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    machine.wires.spend(HZ);
    for quick in 0..=3 {
        machine.kernel.cpu.condemn(rank, Death::Exit(1));
        machine.kernel.carry_out();
        assert_eq!(machine.kernel.cpu.components.list[rank].quick_deaths, quick);
    }
    machine.wires.spend(HZ);
    machine.kernel.cpu.condemn(rank, Death::Exit(1));
    machine.kernel.carry_out();
    assert_eq!(machine.kernel.cpu.components.list[rank].quick_deaths, 0);
    assert_eq!(machine.starts(Service::Pager), 6);
}

#[test]
fn a_life_of_a_second_is_long() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    for (age, quick) in [(HZ - 1, 3), (HZ, 0)] {
        // To stop it reads the time once, which takes a tick.
        let now = machine.wires.now() + 1;
        machine.kernel.cpu.components.list[rank].started_at = now - age;
        machine.kernel.cpu.components.list[rank].quick_deaths = 2;
        machine.kernel.cpu.condemn(rank, Death::Exit(1));
        machine.kernel.carry_out();
        assert_eq!(machine.kernel.cpu.components.list[rank].quick_deaths, quick);
    }
}

#[test]
fn who_is_stopped_is_not_condemned_again() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Pager);
    machine.dies_until_it_waits(Service::Pager);
    let stopped = machine.run_of(Service::Pager);
    machine.kernel.cpu.condemn(rank, Death::RingFull);
    assert_eq!(machine.run_of(Service::Pager), stopped);
}

#[test]
fn several_are_carried_out_at_once() {
    let mut machine = at_rest();
    for service in [Service::Net, Service::Pager, Service::Plan, Service::Control] {
        let rank = machine.rank(service);
        machine.kernel.cpu.condemn(rank, Death::Killed);
    }
    machine.kernel.step();
    for service in [Service::Net, Service::Pager, Service::Plan, Service::Control] {
        assert_eq!(machine.starts(service), 2);
    }
    machine.settle(1000);
    machine.audit();
}

#[test]
fn devices_are_quiet_while_their_driver_is_stopped() {
    let mut machine = at_rest();
    assert!(machine.hardware.borrow().bus_masters.contains(&0));
    assert!(!machine.hardware.borrow().masked.contains(&NIC_GSI));
    machine.dies_until_it_waits(Service::Net);
    assert!(matches!(machine.run_of(Service::Net), Run::Stopped { .. }));
    assert!(!machine.hardware.borrow().bus_masters.contains(&0));
    assert!(machine.hardware.borrow().masked.contains(&NIC_GSI));
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(2000);
    assert!(machine.hardware.borrow().bus_masters.contains(&0));
    assert!(!machine.hardware.borrow().masked.contains(&NIC_GSI));
}

#[test]
fn the_demultiplexers_window_stays_for_its_successor() {
    let mut machine = at_rest();
    let vm = machine.vms()[0];
    machine.dies_until_it_waits(Service::Net);
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.shared() == Devices::NIC));
    machine.audit_windows();
    // A VM that comes meanwhile is told of later.
    let other = machine.create(WITH_NIC);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(2000);
    for id in [vm, other] {
        assert!(machine.kernel.vms.by_id(id).is_some_and(|vm| vm.life.shared() == Devices::NIC));
    }
    machine.audit();
}

#[test]
fn a_vm_that_ends_while_the_demultiplexer_is_stopped_waits_for_nobody() {
    let mut machine = at_rest();
    let vm = machine.vms()[0];
    machine.dies_until_it_waits(Service::Net);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.end(vms.by_id(vm).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    assert_eq!(
        (machine.queued(Queue::Leaving(net(&machine))), machine.queued(Queue::Ended)),
        (vec![], vec![vm.slot.number()])
    );
    machine.audit_windows();
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(2000);
    assert!(machine.vms().is_empty());
    machine.audit();
}

#[test]
fn those_that_the_demultiplexer_had_to_let_go_of_are_taken_from_it_in_portions() {
    let mut machine = Machine::<true>::new(8192);
    machine.guests.borrow_mut().hostile = 1;
    for _ in 0..100 {
        machine.create(WITH_NIC);
        machine.settle(1000);
        machine.hardware.borrow_mut().asleep = false;
    }
    let rank = machine.rank(Service::Net);
    for id in machine.vms() {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.end(vms.by_id(id).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    }
    machine.kernel.cpu.condemn(rank, Death::Killed);
    let _ = machine.kernel.cpu.attention.take_components();
    machine.kernel.carry_out();
    // Its ring had room for 64 messages, and the others were kept. Its successor does not start before all are taken from it.
    assert_eq!(machine.queued(Queue::Leaving(net(&machine))).len(), 100 - 64);
    assert!(matches!(machine.run_of(Service::Net), Run::Stopped { .. }));
    assert!(machine.kernel.cpu.attention.take_components());
    machine.kernel.carry_out();
    assert!(machine.queued(Queue::Leaving(net(&machine))).is_empty() && machine.run_of(Service::Net) == Run::Ready);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert!(machine.vms().is_empty());
    machine.audit();
}

#[test]
fn a_vm_that_the_demultiplexer_dies_over_is_buried() {
    let mut machine = at_rest();
    let vm = machine.vms()[0];
    machine.goes_wrong(Service::Net, Misdeed::Sleep);
    machine.settle(100);
    let free = machine.kernel.cpu.frames.free_frames();
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.end(vms.by_id(vm).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    assert_eq!(machine.kernel.vms.by_id(vm).map(|vm| vm.life.state()), Some(State::Ending));
    let rank = machine.rank(Service::Net);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(1000);
    assert_eq!(machine.vms(), []);
    assert!(machine.kernel.cpu.frames.free_frames() > free);
    machine.audit();
}

#[test]
fn a_plan_dies_with_its_scheduler() {
    let mut machine = at_rest();
    let vm = machine.vms()[0];
    machine.kernel.cpu.plan.next = Some((vm, 7));
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.kernel.carry_out();
    assert_eq!(machine.kernel.cpu.plan.next, None);
}

#[test]
fn a_successor_starts_as_the_first_did() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    let component = &machine.kernel.cpu.components.list[rank];
    // Its data, its registers, what it was rung for.
    let data = component.space.block().sub(0, 0x3000).expect("its data");
    data.write(0, &[7; 16]).expect("room");
    assert_eq!(component.info.incarnation, 1);
    machine.kernel.cpu.components.list[rank].notified = u64::MAX;
    machine.kernel.cpu.components.list[rank].live.used_ticks = 5;
    machine.kernel.cpu.loaded = Some(rank);
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.kernel.carry_out();
    let component = &machine.kernel.cpu.components.list[rank];
    let mut bytes = [1; 16];
    data.read(0, &mut bytes).expect("room");
    assert_eq!(&bytes, b"fake\0\0\0\0\0\0\0\0\0\0\0\0", "as in its module");
    assert_eq!(component.context.rip, component.policies.program(0).expect("good").entry);
    assert_eq!((component.info.incarnation, component.live.used_ticks), (2, 0));
    // It was told hello, and nothing else has happened.
    assert_eq!(component.notified, component.bells);
    assert_eq!(component.notified & bits::KICK, 0);
    assert_eq!(machine.kernel.cpu.loaded, None);
}

#[test]
fn another_address_space_stays_loaded() {
    let mut machine = at_rest();
    let (pager, sched) = (machine.rank(Service::Pager), machine.rank(Service::Plan));
    machine.kernel.cpu.loaded = Some(pager);
    machine.kernel.cpu.condemn(sched, Death::Killed);
    machine.kernel.carry_out();
    assert_eq!(machine.kernel.cpu.loaded, Some(pager));
}

#[test]
fn what_lies_in_the_rings_dies_with_their_owner() {
    let mut machine = at_rest();
    let rank = machine.rank(Service::Plan);
    let vm = machine.vms()[0];
    for _ in 0..10 {
        machine
            .kernel
            .cpu
            .tell_scheduler(abi::sched::SchedEvent::Ended { vm, seat: None, room: Default::default() }, false);
    }
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.kernel.carry_out();
    // The greeting only: the VM idles, so the scheduler hears of it later.
    assert_eq!(machine.told(Service::Plan), 1);
}

#[test]
fn a_dead_component_is_told_nothing_that_condemns_it() {
    let mut machine = at_rest();
    machine.dies_until_it_waits(Service::Plan);
    let stopped = machine.run_of(Service::Plan);
    let vm = machine.vms()[0];
    for _ in 0..200 {
        machine
            .kernel
            .cpu
            .tell_scheduler(abi::sched::SchedEvent::Ready { vm, seat: abi::vm::Seat::new(0), weight: 1 }, true);
    }
    assert_eq!(machine.run_of(Service::Plan), stopped);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(2000);
    machine.audit();
}

#[test]
fn only_a_start_that_is_not_the_first_is_said_to_be_one() {
    super::lines::listen();
    let mut machine = at_rest();
    assert!(super::lines::heard("restarted").is_empty());
    let rank = machine.rank(Service::Pager);
    for start in 2..4 {
        machine.kernel.cpu.condemn(rank, Death::Killed);
        machine.kernel.carry_out();
        let said = super::lines::heard("restarted");
        assert!(
            said.len() == 1 && said[0].starts_with("INFO core: component pager restarted with policy "),
            "{said:?}"
        );
        assert!(said[0].ends_with(&format!(" (start {start})")), "{said:?}");
    }
}

#[test]
fn whoever_shares_a_ring_with_a_component_that_restarts_is_told_and_nobody_else() {
    let mut machine = at_rest();
    let (dead, peer, other) = (machine.rank(Service::Pager), machine.rank(Service::Net), machine.rank(Service::Plan));
    let bit = 1 << 7;
    machine.kernel.cpu.components.list[dead].peers[5].rank = peer;
    machine.kernel.cpu.components.list[dead].peers[5].bit = bit;
    let heard = |machine: &Fake, rank: usize| machine.kernel.cpu.components.list[rank].notified & bit != 0;
    machine.kernel.cpu.condemn(dead, Death::Killed);
    machine.kernel.carry_out();
    assert!(heard(&machine, peer) && !heard(&machine, other));
}

//! Components that make no progress, under load: what they take from others, how soon they are found out, and that nobody is blamed
//! for time that was stolen.

use super::component::{Due, Misdeed};
use super::lines;
use super::machine::{HZ, Machine, REFUSED, RING_SLOTS, WITH_NIC, WITHOUT_NIC};
use super::roles::Role as FakeRole;
use crate::component::{Death, Full, Run, Told};
use crate::kernel::Kernel;
use crate::vm::NEVER;
use abi::control::{ControlReply, ControlRequest, status};
use abi::guest::{device, hypercall};
use abi::net::NetEvent;
use abi::pager::PagerEvent;
use abi::service::Service;
use abi::vm::VmId;
use backend::fake::Step;
use std::collections::BTreeSet;

type Fake = Machine<true>;

const MS: u64 = HZ / 1000;
/// Patience, a look that it begins at, and one that it ends at.
const NOTICED: u64 = HZ + HZ / 2;

impl Fake {
    fn goes_on(&mut self, service: Service, what: Misdeed) -> usize {
        let rank = self.rank(service);
        self.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what });
        let endpoint = self.kernel.cpu.endpoints.first(service);
        self.kernel.cpu.ring(endpoint);
        rank
    }

    fn run_at(&self, rank: usize) -> Run {
        self.kernel.cpu.components.list[rank].run
    }

    /// Until the component of this rank is condemned: for what, and after how long.
    fn until_condemned(&mut self, rank: usize) -> (Death, u64) {
        let before = self.wires.now();
        while self.wires.now() - before < 3 * HZ {
            self.kernel.step();
            if let Run::Condemned(why) = self.run_at(rank) {
                return (why, self.wires.now() - before);
            }
        }
        panic!("it is never found out: {:?}", self.run_at(rank));
    }

    /// How long a request of the operator takes to be answered, and with what.
    fn asked(&mut self, request: ControlRequest) -> (Option<ControlReply>, u64) {
        let rank = self.rank(Service::Control);
        if let FakeRole::Monitor(monitor) = &mut self.hardware.borrow_mut().components[rank].role {
            monitor.replies.clear();
            monitor.requests.push_back(request);
        }
        self.wires.raise(super::board::vector(super::board::SERIAL_GSI));
        let before = self.wires.now();
        while self.wires.now() - before < HZ {
            self.kernel.step();
            if let FakeRole::Monitor(monitor) = &mut self.hardware.borrow_mut().components[rank].role
                && let Some(reply) = monitor.replies.pop()
            {
                return (Some(reply), self.wires.now() - before);
            }
        }
        (None, self.wires.now() - before)
    }
}

/// A machine whose VMs compute and kick their NICs for ever.
fn under_load(count: usize) -> (Fake, Vec<VmId>) {
    let mut machine = Fake::new(4096);
    let mut turn = 0_u64;
    machine.guests.borrow_mut().calm = Some(Box::new(move |_| {
        turn += 1;
        Some(match turn % 4 {
            0 => Step::Hypercall { number: hypercall::KICK, a: device::NIC, b: 0 },
            _ => Step::Compute(5_000),
        })
    }));
    let vms = (0..count).map(|_| machine.create(WITH_NIC)).collect();
    for _ in 0..400 * count {
        machine.step();
    }
    (machine, vms)
}

#[test]
fn each_culprit_is_noticed_within_a_second_and_a_half_under_load() {
    for service in [Service::Net, Service::Pager, Service::Plan, Service::Control] {
        for what in [Misdeed::Spin, Misdeed::SpinPast, Misdeed::Sleep, Misdeed::Ignore] {
            if service == Service::Control && matches!(what, Misdeed::Sleep | Misdeed::Ignore) {
                // Nobody rings it.
                continue;
            }
            let (mut machine, vms) = under_load(4);
            let rank = machine.goes_on(service, what);
            if service != Service::Control {
                // It is told of somebody.
                machine.create(WITH_NIC);
            }
            let before: u64 = machine.guests.borrow().asked.values().sum();
            let (why, after) = machine.until_condemned(rank);
            let right = match what {
                Misdeed::Spin => matches!(why, Death::Overrun(_)),
                Misdeed::SpinPast => matches!(why, Death::Spins(_)),
                _ => matches!(why, Death::Sleeps),
            };
            assert!(right, "{service:?} {what:?}: {why:?}");
            assert!((HZ / 2..NOTICED).contains(&after), "{service:?} {what:?}: {after}");
            // Half of the time and more was the VMs'.
            let turns = machine.guests.borrow().asked.values().sum::<u64>() - before;
            assert!(turns * 5_000 > HZ / 3, "{service:?} {what:?}: {turns}");
            for _ in 0..2000 {
                machine.step();
            }
            assert!(vms.iter().all(|vm| machine.vms().contains(vm)));
            assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2);
            machine.audit();
        }
    }
}

#[test]
fn vms_that_are_asked_for_come_to_live_beside_a_culprit() {
    for what in [Misdeed::Spin, Misdeed::SpinPast] {
        let mut machine = Fake::with_vms(2048, &[(WITH_NIC, 3)]);
        machine.goes_on(Service::Plan, what);
        let end = machine.wires.now() + HZ / 2;
        while machine.wires.now() < end && machine.kernel.vms.living() < 3 {
            machine.step();
        }
        assert_eq!(machine.kernel.vms.living(), 3, "{what:?}");
    }
}

#[test]
fn the_operator_can_kill_while_any_culprit_rages() {
    for service in [Service::Net, Service::Pager, Service::Plan] {
        for what in [Misdeed::Spin, Misdeed::SpinPast, Misdeed::Sleep, Misdeed::Ignore, Misdeed::Flood(50)] {
            let (mut machine, _) = under_load(4);
            let rank = machine.goes_on(service, what);
            for _ in 0..200 {
                machine.step();
            }
            let component = u16::try_from(rank).expect("few");
            let (reply, after) = machine.asked(ControlRequest::Kill { component });
            let done = ControlReply::Done { status: status::OK, value: 0 };
            assert_eq!(reply, Some(done), "{service:?} {what:?}");
            assert!(after < 20 * MS, "{service:?} {what:?}: {after}");
            assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2, "{service:?} {what:?}");
        }
    }
}

#[test]
fn who_is_over_its_budget_has_the_cpu_in_turn_with_vms() {
    let (mut machine, _) = under_load(2);
    let rank = machine.goes_on(Service::Plan, Misdeed::Spin);
    while !machine.kernel.cpu.components.shares.contains(rank) {
        machine.step();
    }
    assert_eq!(machine.run_at(rank), Run::Ready);
    let ran =
        |machine: &Fake| (machine.kernel.cpu.components.list[rank].ran_ticks, machine.kernel.cpu.counters.guest_ticks);
    let before = ran(&machine);
    let end = machine.wires.now() + HZ / 10;
    while machine.wires.now() < end {
        machine.step();
    }
    let after = ran(&machine);
    let (own, guests) = (after.0 - before.0, after.1 - before.1);
    assert!(own.abs_diff(guests) < HZ / 50, "{own} and {guests}");
}

#[test]
fn who_waits_again_in_time_is_as_before() {
    let (mut machine, _) = under_load(2);
    let rank = machine.rank(Service::Plan);
    machine.kernel.cpu.components.list[rank].live.fresh_ticks = 0;
    // It has run beyond its budget, and then does its work.
    let now = machine.wires.now();
    machine.kernel.cpu.lap(now);
    for _ in 0..2 {
        machine.kernel.cpu.components.list[rank].run = Run::Ready;
        machine.kernel.cpu.components.list[rank].live.fresh_ticks = MS;
        machine.kernel.charge(rank);
    }
    assert!(machine.kernel.cpu.components.shares.contains(rank));
    for _ in 0..2000 {
        machine.step();
    }
    assert!(machine.kernel.cpu.components.shares.is_empty());
    assert_eq!(machine.kernel.cpu.components.list[rank].live.used_ticks, 0);
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 1);
    machine.audit();
}

#[test]
fn stolen_time_kills_nobody() {
    let (mut machine, vms) = under_load(4);
    for _ in 0..1000 {
        // Half a second at a time, whoever runs.
        machine.wires.spend(HZ / 2);
        for _ in 0..7 {
            machine.step();
        }
    }
    for component in &machine.kernel.cpu.components.list {
        assert_eq!(component.incarnation, 1, "{}", component.entry.name);
    }
    assert!(vms.iter().all(|vm| machine.vms().contains(vm)));
    machine.audit();
}

#[test]
fn a_jump_costs_a_component_one_period() {
    let (mut machine, _) = under_load(1);
    let rank = machine.rank(Service::Plan);
    let tick = machine.kernel.cpu.components.list[rank].live.tick_ticks;
    machine.kernel.cpu.components.list[rank].run = Run::Ready;
    machine.kernel.cpu.components.list[rank].live.fresh_ticks = HZ / 2;
    machine.kernel.cpu.mark = machine.wires.now();
    machine.kernel.charge(rank);
    assert_eq!(machine.kernel.cpu.components.list[rank].live.used_ticks, tick);
}

#[test]
fn a_vm_whose_kicks_bring_a_turn_over_its_budget_pays_for_it() {
    let (mut machine, vms) = under_load(2);
    let rank = machine.rank(Service::Net);
    // What the scheduler is told that it ran, what it is charged with, and what it ran itself.
    let ran = |machine: &mut Fake, vm| {
        let vm = machine.kernel.vms.by_id(vm).expect("it lives");
        [vm.burst_ticks, vm.charges.service_ticks, vm.ran_ticks]
    };
    let before = [ran(&mut machine, vms[0]), ran(&mut machine, vms[1])];
    let now = machine.wires.now();
    machine.kernel.cpu.mark = now;
    let component = &mut machine.kernel.cpu.components.list[rank];
    component.run = Run::Ready;
    component.live.rest();
    component.live.kicked = Some((vms[1], now));
    for _ in 0..3 {
        machine.kernel.cpu.components.list[rank].live.fresh_ticks = MS;
        machine.kernel.cpu.components.list[rank].ran_ticks += MS;
        machine.kernel.charge(rank);
    }
    // Nothing for the first, which was within the budget; with the second the whole turn.
    let after = [ran(&mut machine, vms[0]), ran(&mut machine, vms[1])];
    assert_eq!(after[0], before[0]);
    let [burst, service, own] = before[1];
    assert_eq!(after[1], [burst + 3 * MS, service + 3 * MS, own]);
    // A kick of long ago has nothing to do with it.
    let component = &mut machine.kernel.cpu.components.list[rank];
    component.live.rest();
    component.live.kicked = Some((vms[0], now - HZ));
    for _ in 0..3 {
        machine.kernel.cpu.components.list[rank].live.fresh_ticks = MS;
        machine.kernel.charge(rank);
    }
    assert_eq!(ran(&mut machine, vms[0]), after[0]);
}

#[test]
fn lines_of_a_component_are_limited_and_that_is_said() {
    let (mut machine, _) = under_load(2);
    lines::listen();
    machine.goes_on(Service::Pager, Misdeed::Flood(20));
    let end = machine.wires.now() + HZ;
    while machine.wires.now() < end {
        machine.step();
    }
    let all = lines::heard("");
    let warned = lines::count(&all, "WARN core: component pager floods the log: its lines are limited");
    assert!((1..=2).contains(&warned), "{warned}");
    // A hundred, ten a second, and the first of the second life if it had one.
    let said = lines::count(&all, "component: pager: ");
    assert!((100..=112).contains(&said), "{said}");
}

#[test]
fn a_ring_that_is_full_is_emptied_by_one_that_is_late() {
    let mut machine = Fake::new(8192);
    machine.settle(1000);
    // All of them end at once while the demultiplexer sleeps, as it does while its NIC starts.
    let vms: Vec<VmId> = (0..RING_SLOTS + 30)
        .map(|_| {
            let vm = machine.create(WITH_NIC);
            machine.hardware.borrow_mut().asleep = false;
            machine.settle(1000);
            vm
        })
        .collect();
    let rank = machine.rank(Service::Net);
    for vm in vms {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.end(vms.by_id(vm).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    }
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 1, "nobody is blamed");
    assert!(machine.vms().is_empty(), "and nothing is lost");
    machine.audit();
}

#[test]
fn who_leaves_a_ring_full_although_it_has_waited_dies_at_once() {
    let mut machine = Fake::new(8192);
    machine.guests.borrow_mut().hostile = 1;
    machine.settle(1000);
    for _ in 0..RING_SLOTS + 8 {
        machine.create(WITH_NIC);
        machine.hardware.borrow_mut().asleep = false;
        machine.settle(1000);
    }
    let rank = machine.goes_on(Service::Net, Misdeed::Ignore);
    for vm in machine.vms() {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.end(vms.by_id(vm).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    }
    machine.hardware.borrow_mut().asleep = false;
    let (why, after) = machine.until_condemned(rank);
    assert_eq!(why, Death::RingFull);
    assert!(after < MS, "{after}");
    machine.settle(4000);
    assert!(machine.vms().is_empty());
    machine.audit();
}

#[test]
fn a_ring_that_has_filled_may_stay_full_for_a_whole_budget_of_work() {
    const WORTH: u64 = 10;
    let mut machine = Fake::new(2048);
    machine.settle(1000);
    let (rank, id) = (machine.rank(Service::Net), machine.kernel.cpu.endpoints.first(Service::Net));
    let crate::kernel::Kernel { cpu, .. } = &mut machine.kernel;
    let endpoint = cpu.endpoints.get_mut(id).expect("there is one");
    while endpoint.tell(&NetEvent::Hello.into()) == Told::Yes {}
    let component = &mut cpu.components.list[rank];
    component.run = Run::Ready;
    // It is over its budget, and has done all of it but a little since the ring filled.
    let live = &mut component.live;
    (live.used_ticks, live.charged_ticks, live.fresh_ticks) = (live.budget_ticks, 3 * live.budget_ticks, WORTH);
    endpoint.full = Full::Since(live.charged_ticks + WORTH - live.budget_ticks);
    machine.kernel.charge(rank);
    assert_eq!(machine.run_at(rank), Run::Ready);
    machine.kernel.cpu.components.list[rank].live.fresh_ticks = 1;
    machine.kernel.charge(rank);
    assert_eq!(machine.run_at(rank), Run::Condemned(Death::RingFull));
}

#[test]
fn who_waits_for_what_is_past_takes_the_bits_that_it_asks_for_and_no_others() {
    let mut machine = Fake::new(2048);
    machine.settle(1000);
    let rank = machine.rank(Service::Net);
    let component = &mut machine.kernel.cpu.components.list[rank];
    (component.notified, component.live.taken, component.live.past_waits) = (0b1110, 0b0001, 0);
    machine.kernel.cpu.wait_for_the_past(rank, 0b0111);
    let component = &machine.kernel.cpu.components.list[rank];
    assert_eq!((component.context.rax, component.notified), (0b0110, 0b1000));
    assert_eq!((component.live.taken, component.live.past_waits), (0b0111, 1));
}

#[test]
fn a_demultiplexer_hears_nothing_more_of_a_vm_that_it_has_not_been_told_of() {
    let mut machine = Fake::new(8192);
    machine.guests.borrow_mut().hostile = 1;
    // They take longer to be told of than its ring has slots.
    for _ in 0..RING_SLOTS + 8 {
        machine.create(WITH_NIC);
        machine.hardware.borrow_mut().asleep = false;
        machine.settle(1000);
    }
    let (rank, id) = (machine.rank(Service::Net), machine.kernel.cpu.endpoints.first(Service::Net));
    machine.kernel.cpu.condemn(rank, Death::Killed);
    machine.hardware.borrow_mut().asleep = false;
    let is_told = |machine: &mut Fake| machine.kernel.cpu.endpoints.get_mut(id).expect("there is one").resync.is_none();
    for _ in 0..100_000 {
        if !is_told(&mut machine) {
            break;
        }
        machine.kernel.step();
    }
    assert!(!is_told(&mut machine), "it has been started, and has still to hear of them");
    // The fake would complain of news of a VM that it does not know.
    let all = machine.vms();
    let (other, last) = (all[all.len() - 2], all[all.len() - 1]);
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.tell_address(vms.by_id(other).expect("it lives"));
    cpu.end(vms.by_id(last).expect("it lives"), crate::vm::End::new(abi::end::EndReason::Destroyed, 0));
    machine.settle(8000);
    assert!(!machine.vms().contains(&last) && machine.vms().contains(&other));
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 2, "nobody is blamed");
    machine.audit();
}

/// More idle VMs than the scheduler's ring has slots.
fn crowd() -> (Fake, Vec<VmId>) {
    let mut machine = Fake::new(8192);
    machine.guests.borrow_mut().hostile = 1;
    let vms: Vec<VmId> = (0..RING_SLOTS + 40)
        .map(|_| {
            let vm = machine.create(WITHOUT_NIC);
            machine.hardware.borrow_mut().asleep = false;
            machine.settle(1000);
            vm
        })
        .collect();
    (machine, vms)
}

#[test]
fn a_scheduler_that_is_behind_with_its_ring_hears_of_everybody_in_the_end() {
    let (mut machine, vms) = crowd();
    // More of them are woken at once than its ring has slots.
    for &vm in &vms {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.wake(vms.by_id(vm).expect("it lives"));
    }
    machine.hardware.borrow_mut().asleep = false;
    let before = machine.guests.borrow().asked.clone();
    machine.settle(4000);
    machine.audit();
    let rank = machine.rank(Service::Plan);
    assert_eq!(machine.kernel.cpu.components.list[rank].incarnation, 1);
    let guests = machine.guests.borrow();
    assert!(vms.iter().all(|vm| guests.asked[&vm.slot.number()] > before[&vm.slot.number()]), "each has run");
}

#[test]
fn a_scheduler_that_is_behind_hears_who_can_run_and_who_cannot() {
    let (mut machine, vms) = crowd();
    let rank = machine.rank(Service::Plan);
    // Components come first, so no VM runs before the scheduler has heard of all.
    let known = |machine: &mut Fake| {
        for _ in 0..2000 {
            if machine.kernel.cpu.attention.most_important().is_some() {
                machine.kernel.step();
            }
        }
        machine.hardware.borrow().components[rank].sched().ready.iter().copied().collect::<BTreeSet<VmId>>()
    };
    for &vm in &vms {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.wake(vms.by_id(vm).expect("it lives"));
    }
    assert_eq!(known(&mut machine), vms.iter().copied().collect());
    for &vm in &vms {
        let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
        let vm = vms.by_id(vm).expect("it lives");
        vm.life.idle(u64::MAX);
        cpu.components.note_idle(vm.seat, 1);
        cpu.blocked(vm, true);
    }
    assert_eq!(known(&mut machine), BTreeSet::new());
    machine.audit();
}

/// Deadlines are looked at so often, a look's interval apart, while nobody runs.
fn looks(machine: &mut Fake, count: usize) {
    for _ in 0..count {
        machine.wires.spend(machine.kernel.cpu.steady.period_ticks());
        let now = machine.wires.now();
        let Kernel { vms, cpu, .. } = &mut machine.kernel;
        cpu.look_after_components(vms, now);
    }
}

#[test]
fn who_does_not_get_the_cpu_is_not_to_blame_for_what_it_does_not_take_and_is_looked_at_again() {
    let (mut machine, _) = Fake::with_guest(WITH_NIC, &[]);
    assert!(machine.kernel.cpu.node.is_some());
    let (rank, endpoint) = (machine.rank(Service::Net), machine.kernel.cpu.endpoints.first(Service::Net));
    machine.kernel.cpu.ring(endpoint);
    assert!(machine.kernel.cpu.attention.is_runnable(rank));
    for _ in 0..1000 {
        looks(&mut machine, 1);
        assert_ne!(machine.kernel.cpu.look_at, NEVER);
    }
    assert!(!matches!(machine.run_at(rank), Run::Condemned(_)), "{:?}", machine.run_at(rank));
}

#[test]
fn who_leaves_messages_for_which_nobody_rang_is_rung_for_them() {
    let (mut machine, _) = Fake::with_guest(WITHOUT_NIC, &[]);
    // Nobody has run since a look.
    looks(&mut machine, 1);
    let (rank, pager) = (machine.rank(Service::Pager), machine.kernel.cpu.endpoints.first(Service::Pager));
    let gone = PagerEvent::ImageGone { image: REFUSED };
    machine.kernel.cpu.tell(pager, &gone.into(), false);
    let heard = |machine: &Fake| machine.kernel.cpu.attention.is_runnable(rank);
    assert!(machine.kernel.cpu.endpoints.get_mut(pager).expect("there is one").in_flight() != 0);
    assert!(!heard(&machine), "this can wait");
    looks(&mut machine, 1);
    assert_ne!(machine.kernel.cpu.look_at, NEVER);
    looks(&mut machine, 1);
    assert!(heard(&machine));
}

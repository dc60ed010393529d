//! Whose turn it is: by the plan, by the core's own order, and how long anybody waits.

use super::component::{Due, Misdeed};
use super::machine::{HZ, IMAGE_PAGE, Machine, WITHOUT_NIC};
use super::roles::{PLAN_DEPTH, Role as FakeRole};
use crate::component::Endpoint;
use crate::kernel::{Kernel, Rules, Turn};
use crate::memory::{Owner, core_memory};
use crate::vm::{PageFault, Queue, State};
use abi::guest::hypercall;
use abi::limits::PAGE_SIZE;
use abi::message::Message;
use abi::pager::Access;
use abi::sched::SchedCommand;
use abi::service::Service;
use abi::share::WEIGHT;
use abi::vm::{Slot, VmId};
use backend::fake::Step;
use std::collections::BTreeMap;

type Fake = Machine<true>;

impl Fake {
    /// A machine whose `count` VMs compute for ever.
    fn computing(count: usize) -> Self {
        let mut machine = Self::new(4096);
        machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
        for _ in 0..count {
            machine.create(WITHOUT_NIC);
        }
        for _ in 0..100 * count {
            machine.step();
        }
        assert_eq!(machine.ready(), count);
        machine
    }

    fn ready(&self) -> usize {
        self.kernel.vms.slots().filter(|&slot| self.kernel.cpu.queues.contains(Queue::Ready, slot)).count()
    }

    /// The scheduler plans nothing from now on.
    fn lazy(&mut self, lazy: bool) {
        let rank = self.rank(Service::Plan);
        if let FakeRole::Sched(sched) = &mut self.hardware.borrow_mut().components[rank].role {
            sched.lazy = lazy;
        }
    }

    /// Put commands into the plan, as the scheduler does.
    pub(super) fn plan(&mut self, commands: &[Message]) {
        let rank = self.rank(Service::Plan);
        let (memory, slots, _) = self.hardware.borrow().components[rank].outbox;
        let mut outbox = ring::Producer::attach_contiguous(&memory, slots).expect("a ring");
        commands.iter().for_each(|command| outbox.push(command).expect("room"));
    }

    fn runs(vm: VmId, quantum_ticks: u64) -> Message {
        SchedCommand::Run { vm, quantum_ticks }.into()
    }

    /// Turns of VMs, by how often each guest ran, for so many turns of the loop.
    fn watch(&mut self, turns: usize) -> BTreeMap<u32, u64> {
        self.guests.borrow_mut().asked.clear();
        for _ in 0..turns {
            self.step();
        }
        self.guests.borrow().asked.clone()
    }
}

/// A machine at rest with `count` VMs, which the scheduler plans nothing for.
fn idle(count: usize) -> (Fake, Vec<VmId>) {
    let mut machine = Fake::new(4096);
    let vms = (0..count).map(|_| machine.create(WITHOUT_NIC)).collect();
    machine.settle(4000);
    machine.lazy(true);
    (machine, vms)
}

/// A turn by the plan.
fn turn(vm: VmId, left_ticks: u64) -> Turn {
    Turn { vm, left_ticks, ahead: false }
}

/// Wake a VM without telling anybody but the core.
fn wake(machine: &mut Fake, id: VmId) {
    let crate::kernel::Kernel { vms, cpu, .. } = &mut machine.kernel;
    cpu.wake(vms.by_id(id).expect("it lives"));
}

#[test]
fn the_plan_decides() {
    let (mut machine, vms) = idle(3);
    for &vm in &vms {
        wake(&mut machine, vm);
    }
    machine.plan(&[Fake::runs(vms[2], 30_000), Fake::runs(vms[0], 40_000)]);
    assert_eq!(machine.kernel.next_turn(), Some(turn(vms[2], 30_000)));
    assert_eq!(machine.kernel.next_turn(), Some(turn(vms[0], 40_000)));
    assert_eq!(machine.kernel.cpu.counters.fallbacks, 0);
}

#[test]
fn a_quantum_has_a_least_length() {
    let (mut machine, vms) = idle(1);
    wake(&mut machine, vms[0]);
    machine.plan(&[Fake::runs(vms[0], 0)]);
    assert_eq!(machine.kernel.next_turn(), Some(turn(vms[0], HZ / 100_000)));
}

#[test]
fn who_cannot_run_is_passed_over() {
    let (mut machine, vms) = idle(3);
    wake(&mut machine, vms[1]);
    let gone = VmId { generation: 99, ..vms[0] };
    machine.plan(&[Fake::runs(vms[0], 1), Fake::runs(gone, 1), Message::new(77, [1]), Fake::runs(vms[1], 50_000)]);
    assert_eq!(machine.kernel.next_turn().map(|turn| turn.vm), Some(vms[1]));
}

#[test]
fn a_turn_lasts_as_long_as_its_quantum() {
    let (mut machine, vms) = idle(2);
    wake(&mut machine, vms[0]);
    wake(&mut machine, vms[1]);
    machine.kernel.cpu.plan.turn = Some(turn(vms[1], 100));
    assert_eq!(machine.kernel.next_turn(), Some(turn(vms[1], 100)));
    // The time of others is none of its own.
    machine.kernel.cpu.plan.turn = Some(turn(vms[1], 100));
    machine.kernel.cpu.plan.ran(99);
    machine.kernel.cpu.mark += 500;
    assert_eq!(machine.kernel.next_turn(), Some(turn(vms[1], 1)));
    machine.kernel.cpu.plan.turn = Some(turn(vms[1], 1));
    machine.kernel.cpu.plan.ran(2);
    machine.plan(&[Fake::runs(vms[0], 1)]);
    assert_eq!(machine.kernel.next_turn().map(|turn| turn.vm), Some(vms[0]));
}

#[test]
fn the_scheduler_is_asked_once_before_the_core_decides() {
    let (mut machine, vms) = idle(2);
    machine.settle(100);
    wake(&mut machine, vms[1]);
    // The scheduler hears of it first.
    while machine.kernel.cpu.attention.most_important().is_some() {
        machine.kernel.step();
    }
    machine.kernel.cpu.plan.asked = false;
    assert!(machine.kernel.next_turn().is_none());
    assert_eq!(machine.kernel.cpu.attention.most_important(), Some(machine.rank(Service::Plan)));
    assert!(machine.kernel.cpu.plan.asked);
    // Nobody decides while it has not run.
    assert!(machine.kernel.next_turn().is_none());
    let rank = machine.rank(Service::Plan);
    machine.kernel.run_component(rank);
    assert_eq!(machine.kernel.next_turn().map(|turn| turn.vm), Some(vms[1]));
    assert_eq!(machine.kernel.cpu.counters.fallbacks, 1);
}

#[test]
fn the_cores_own_order_goes_round() {
    let mut machine = Fake::computing(5);
    machine.lazy(true);
    machine.watch(200);
    let order: Vec<_> = (0..10)
        .map(|_| {
            machine.kernel.cpu.plan.turn = None;
            machine.kernel.next_turn().map(|turn| turn.vm.slot).expect("somebody can run")
        })
        .collect();
    assert_eq!(order[..5], order[5..]);
    let mut once = order[..5].to_vec();
    once.sort_unstable();
    assert_eq!(once, [0, 1, 2, 3, 4].map(Slot::new));
}

#[test]
fn a_short_wait_for_a_page_is_not_told() {
    let mut machine = Fake::new(2048);
    let touch = |page| Step::Touch { page, access: Access::Write };
    machine.guests.borrow_mut().hostile = 1;
    machine.guests.borrow_mut().steps.extend([touch(IMAGE_PAGE + 40), Step::Compute(10), touch(IMAGE_PAGE + 41)]);
    let vm = machine.create(WITHOUT_NIC);
    let mut blocked = 0;
    for _ in 0..4000 {
        machine.step();
        let waits = machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.page_fault().is_some());
        blocked += u32::from(waits && machine.ready() == 0);
        if machine.is_asleep() {
            break;
        }
    }
    assert_eq!(machine.kernel.cpu.counters.faults, 2);
    assert_eq!(blocked, 0, "the scheduler was told of a wait that was over at once");
}

#[test]
fn a_long_wait_for_a_page_is_told_and_ends() {
    let (mut machine, vms) = idle(2);
    machine.lazy(false);
    let pager = machine.rank(Service::Pager);
    machine.hardware.borrow_mut().components[pager].due = Some(Due { after: 1, what: Misdeed::Sleep });
    machine.guests.borrow_mut().hostile = 1;
    machine.guests.borrow_mut().steps.push_back(Step::Touch { page: IMAGE_PAGE + 40, access: Access::Write });
    wake(&mut machine, vms[0]);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    let state = machine.kernel.vms.by_id(vms[0]).map(|vm| vm.life.state());
    assert!(matches!(state, Some(State::Fault(fault)) if fault.page == IMAGE_PAGE + 40), "{state:?}");
    assert_eq!(machine.ready(), 0);
    machine.kernel.cpu.condemn(pager, crate::component::Death::Killed);
    machine.hardware.borrow_mut().asleep = false;
    machine.settle(4000);
    assert_eq!(machine.kernel.vms.by_id(vms[0]).map(|vm| vm.life.state()), Some(State::Idle { until: u64::MAX }));
    machine.audit();
}

#[test]
fn a_wait_for_a_page_that_the_scheduler_does_not_count_on_is_not_told() {
    let (mut machine, vms) = idle(1);
    let Kernel { vms: table, cpu, .. } = &mut machine.kernel;
    let vm = table.by_id(vms[0]).expect("it lives");
    vm.life.wake();
    vm.life.fault(PageFault { page: 40, access: Access::Write, present: false });
    // As after a restart of the scheduler, which has not been told of it.
    assert!(!cpu.queues.contains(Queue::Ready, vm.slot()));
    cpu.plan.turn = Some(turn(vms[0], u64::MAX));
    let before = machine.told(Service::Plan);
    assert!(machine.kernel.next_turn().is_none());
    assert_eq!(machine.told(Service::Plan), before);
}

/// How many messages the scheduler gets of a VM that it thinks able to run, which is owed to it, once this has happened to the VM.
fn owed(happens: impl FnOnce(&mut crate::vm::Vm<backend::fake::FakeBackend<true>>)) -> u32 {
    let (mut machine, vms) = idle(1);
    let before = machine.told(Service::Plan);
    let Kernel { vms: table, cpu, .. } = &mut machine.kernel;
    let vm = table.by_id(vms[0]).expect("it lives");
    assert!(cpu.backlog.push(cpu.endpoints.first(Service::Plan), Service::Plan, vm.seat));
    *cpu.backlog.thought_ready(vm.seat).expect("it has a seat") = true;
    happens(vm);
    cpu.tell_owed_plan(vm);
    machine.told(Service::Plan) - before
}

#[test]
fn the_scheduler_hears_at_last_that_a_vm_cannot_run_but_not_of_one_that_ends() {
    assert_eq!(owed(|_| ()), 1);
    // It is told of the end by itself.
    assert_eq!(owed(|vm| vm.life.end()), 0);
}

#[test]
fn a_long_plan_of_vms_that_cannot_run_is_gone_through_in_portions() {
    const SLOTS: u32 = 512;
    const PORTION: u32 = 256;
    let (mut machine, vms) = idle(1);
    // A plan of another ring, which is as long as the real one.
    let cpu = &mut machine.kernel.cpu;
    let mut ring = |slots: u32| {
        let pages = u64::from(slots) / 64 + 1;
        let first = cpu.frames.alloc_contiguous(pages, 1, u64::MAX, Owner::Core).expect("room");
        let memory = core_memory(first, pages * PAGE_SIZE);
        memory.write(0, &vec![0; memory.len()]).expect("all of it");
        memory
    };
    let (told, plan) = (ring(64), ring(SLOTS));
    let id = cpu.endpoints.first(Service::Plan);
    let endpoint = cpu.endpoints.get_mut(id).expect("there is one");
    *endpoint = Endpoint::new(Service::Plan, endpoint.party, endpoint.bit, (&told, 64), (&plan, SLOTS)).expect("rings");
    let mut scheduler = ring::Producer::attach_contiguous(&plan, SLOTS).expect("a ring");
    let gone = VmId { generation: 99, ..vms[0] };
    for _ in 0..PORTION + 40 {
        scheduler.push(&Fake::runs(gone, 20_000)).expect("room");
    }
    scheduler.push(&Fake::runs(vms[0], 20_000)).expect("room");
    wake(&mut machine, vms[0]);
    machine.kernel.advance_plan();
    assert_eq!((machine.kernel.cpu.plan.next, scheduler.in_flight()), (None, Ok(41)));
    machine.kernel.advance_plan();
    assert_eq!((machine.kernel.cpu.plan.next, scheduler.in_flight()), (Some((vms[0], 20_000)), Ok(0)));
}

#[test]
fn many_are_admitted_in_portions() {
    let mut machine = Fake::new(4096);
    machine.lazy(true);
    let vms: Vec<_> = (0..50).map(|_| machine.create(WITHOUT_NIC)).collect();
    let admit: Vec<_> = vms.iter().map(|&vm| SchedCommand::Admit { vm }.into()).collect();
    // Components take their greetings first.
    while machine.kernel.cpu.attention.most_important().is_some() {
        machine.kernel.step();
    }
    machine.plan(&admit);
    machine.kernel.advance_plan();
    assert_eq!(machine.ready(), 32);
    machine.kernel.advance_plan();
    assert_eq!(machine.ready(), 50);
}

#[test]
fn who_is_the_next_to_be_admitted_is_so_before_all_others_that_wait() {
    let mut machine = Fake::new(4096);
    machine.lazy(true);
    let vms: Vec<_> = (0..5).map(|_| machine.create(WITHOUT_NIC)).collect();
    while machine.kernel.cpu.attention.most_important().is_some() {
        machine.kernel.step();
    }
    let others = |vm: VmId| VmId { generation: vm.generation + 1, ..vm };
    let first = |vm| SchedCommand::First { vm }.into();
    machine.plan(&[first(vms[3]), first(others(vms[4])), first(VmId::new(u32::MAX, 1)), first(vms[2])]);
    machine.kernel.advance_plan();
    let waiting = |machine: &Fake| machine.kernel.cpu.queues.all(Queue::Waiting).collect::<Vec<_>>();
    assert_eq!(waiting(&machine), [2, 3, 0, 1, 4].map(|at| vms[at].slot));
    // One that is held does not wait, nor does one that is in.
    machine.plan(&[
        SchedCommand::Hold { vm: vms[4] }.into(),
        first(vms[4]),
        SchedCommand::Admit { vm: vms[0] }.into(),
        first(vms[0]),
    ]);
    machine.kernel.advance_plan();
    assert_eq!(waiting(&machine), [2, 3, 1].map(|at| vms[at].slot));
}

#[test]
fn an_admission_does_not_wait_for_a_turn() {
    let (mut machine, _) = idle(1);
    let vm = machine.create(WITHOUT_NIC);
    machine.plan(&[SchedCommand::Admit { vm }.into()]);
    assert!(machine.kernel.next_turn().is_none() || machine.ready() == 1);
    assert!(machine.kernel.vms.by_id(vm).is_some_and(|vm| vm.life.is_ready()));
}

#[test]
fn who_is_ready_runs_within_two_plans() {
    for count in [1, 5, PLAN_DEPTH, PLAN_DEPTH + 1, 40] {
        let mut machine = Fake::computing(count);
        let rank = machine.rank(Service::Plan);
        let plans = |machine: &Fake| machine.hardware.borrow().components[rank].sched().plans;
        // Two plans name each VM at least once when they are long enough for all; else two rounds of plans do.
        let rounds = 2 * count.div_ceil(PLAN_DEPTH) as u64;
        let start = plans(&machine);
        machine.guests.borrow_mut().asked.clear();
        while plans(&machine) < start + rounds + 1 {
            machine.step();
        }
        let ran = machine.guests.borrow().asked.len();
        assert_eq!(ran, count, "of {count} VMs that can run");
        assert_eq!(machine.kernel.cpu.counters.fallbacks, 0);
    }
}

#[test]
fn who_is_ready_runs_without_a_plan() {
    let mut machine = Fake::computing(20);
    machine.lazy(true);
    machine.watch(100);
    machine.lazy(false);
    let fallbacks = machine.kernel.cpu.counters.fallbacks;
    machine.guests.borrow_mut().asked.clear();
    while machine.kernel.cpu.counters.fallbacks < fallbacks + 21 {
        machine.step();
    }
    assert_eq!(machine.guests.borrow().asked.len(), 20);
}

#[test]
fn who_is_ready_runs_though_the_scheduler_dies_at_once() {
    let mut machine = Fake::computing(20);
    let rank = machine.rank(Service::Plan);
    machine.guests.borrow_mut().asked.clear();
    for _ in 0..3000 {
        machine.hardware.borrow_mut().components[rank].due = Some(Due { after: 0, what: Misdeed::Fault });
        machine.step();
    }
    assert_eq!(machine.guests.borrow().asked.len(), 20);
    machine.audit();
}

#[test]
fn who_gives_its_turn_up_lets_others_run() {
    let mut machine = Fake::new(2048);
    let yields = |_| Some(Step::Hypercall { number: hypercall::IDLE, a: 1, b: 0 });
    machine.guests.borrow_mut().calm = Some(Box::new(yields));
    for _ in 0..4 {
        machine.create(WITHOUT_NIC);
    }
    machine.watch(400);
    let ran = machine.watch(400);
    assert_eq!(ran.len(), 4);
    let (least, most) = (ran.values().min().expect("four"), ran.values().max().expect("four"));
    assert!(most - least <= 2, "{ran:?}");
    assert_eq!(machine.ready(), 4);
}

/// A machine at rest with `count` VMs that may run ahead of a plan, by these rules.
fn idle_ahead(count: usize, rules: Rules) -> (Fake, Vec<VmId>) {
    let (mut machine, vms) = idle(count);
    machine.kernel.cpu.plan.rules = rules;
    for &vm in &vms {
        machine.plan(&[SchedCommand::Allow { vm, ticks: 50_000 }.into()]);
    }
    machine.kernel.advance_plan();
    (machine, vms)
}

/// Who has the CPU in the next turns, each of which ends with the turn.
fn turns(machine: &mut Fake, count: usize) -> Vec<(VmId, bool)> {
    let turn = |_| {
        let turn = machine.kernel.next_turn()?;
        machine.kernel.cpu.plan.turn = None;
        Some((turn.vm, turn.ahead))
    };
    (0..count).map_while(turn).collect()
}

const AHEAD: Rules = Rules { most_in_row: 3, preempts: true, slice_ticks: 20_000 };
const AHEAD_OF_ALL: Rules = Rules { most_in_row: 9, ..AHEAD };

/// The first VM that was created in a slot.
fn vm_in(slot: u32) -> VmId {
    VmId::new(slot, 1)
}

#[test]
fn rules_and_allowances_come_with_the_plan() {
    let (mut machine, vms) = idle(2);
    let rules = SchedCommand::Rules { most_in_row: 7, preempts: true, slice_ticks: 500 };
    let gone = VmId { generation: 99, ..vms[0] };
    machine.plan(&[
        rules.into(),
        SchedCommand::Allow { vm: gone, ticks: 5 }.into(),
        SchedCommand::Allow { vm: vms[1], ticks: 6 }.into(),
    ]);
    machine.kernel.advance_plan();
    assert_eq!(machine.kernel.cpu.plan.rules, Rules { most_in_row: 7, preempts: true, slice_ticks: 500 });
    let ahead = |machine: &mut Fake, vm| machine.kernel.vms.by_id(vm).map(|vm| vm.ahead_ticks);
    assert_eq!((ahead(&mut machine, vms[0]), ahead(&mut machine, vms[1])), (Some(0), Some(6)));
    // No turn ahead is longer than a quantum.
    machine.plan(&[SchedCommand::Rules { most_in_row: 7, preempts: true, slice_ticks: u64::MAX }.into()]);
    machine.kernel.advance_plan();
    assert_eq!(machine.kernel.cpu.plan.rules.slice_ticks, machine.kernel.cpu.plan.quantum_ticks());
    // They end with the scheduler.
    machine.kernel.cpu.plan.forget(0);
    assert_eq!(machine.kernel.cpu.plan.rules, Rules::default());
}

#[test]
fn who_wakes_goes_ahead_in_the_order_of_waking_and_the_plan_goes_on_where_it_was() {
    let (mut machine, vms) = idle_ahead(4, AHEAD);
    wake(&mut machine, vms[3]);
    machine.kernel.cpu.wakers.pop();
    machine.kernel.cpu.plan.turn = Some(turn(vms[3], 20_000));
    let told = machine.kernel.cpu.attention;
    wake(&mut machine, vms[1]);
    wake(&mut machine, vms[0]);
    assert_eq!(machine.kernel.cpu.attention, told, "the scheduler was asked on the way");
    assert_eq!(turns(&mut machine, 3), [(vms[1], true), (vms[0], true), (vms[3], false)]);
}

#[test]
fn who_goes_ahead_is_interrupted_by_nobody_and_pays_for_it() {
    let (mut machine, vms) = idle_ahead(2, AHEAD);
    wake(&mut machine, vms[0]);
    let ahead = machine.kernel.next_turn().expect("it has woken");
    assert_eq!((ahead.vm, ahead.ahead, ahead.left_ticks), (vms[0], true, 20_000), "a quantum at most");
    machine.kernel.cpu.plan.turn = Some(ahead);
    wake(&mut machine, vms[1]);
    assert_eq!(machine.kernel.next_turn(), Some(ahead));
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
    let before = machine.kernel.vms.by_id(vms[0]).map(|vm| vm.ran_ticks);
    machine.kernel.run_vm(ahead);
    let vm = machine.kernel.vms.by_id(vms[0]).expect("it lives");
    let ran = vm.ran_ticks - before.expect("it lives");
    assert!(ran > 0);
    assert_eq!(vm.ahead_ticks, 50_000_u64.saturating_sub(ran));
}

#[test]
fn a_turn_ahead_is_a_slice_by_weight_and_who_computes_on_stands_behind_those_that_wake() {
    const SLICE: u64 = 12_000;
    const QUANTUM: u64 = 20_000;
    const SHORTEST: u64 = HZ / 100_000;
    let (mut machine, vms) = idle_ahead(3, Rules { slice_ticks: SLICE, ..AHEAD_OF_ALL });
    for (&vm, weight) in vms.iter().zip([WEIGHT, 2 * WEIGHT, 1]) {
        machine.kernel.vms.by_id(vm).expect("it lives").share.weight = weight;
    }
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(100))));
    wake(&mut machine, vms[0]);
    wake(&mut machine, vms[1]);
    let mut seen = Vec::new();
    for begun in 0..5 {
        let turn = machine.kernel.next_turn().expect("somebody computes");
        seen.push((turn.vm, turn.left_ticks, turn.ahead));
        machine.kernel.run_vm(turn);
        if begun == 0 {
            wake(&mut machine, vms[2]);
        }
    }
    let (first, second) = ((vms[0], SLICE, true), (vms[1], QUANTUM, true));
    assert_eq!(seen, [first, second, first, (vms[2], SHORTEST, true), second]);
}

#[test]
fn who_has_run_as_far_ahead_as_it_may_waits_for_the_plan_again() {
    let (mut machine, vms) = idle_ahead(1, Rules { slice_ticks: 10_000, ..AHEAD_OF_ALL });
    machine.kernel.vms.by_id(vms[0]).expect("it lives").ahead_ticks = 25_000;
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(100))));
    wake(&mut machine, vms[0]);
    machine.plan(&[Fake::runs(vms[0], 20_000)]);
    for ahead in [true, true, false] {
        let turn = machine.kernel.next_turn().expect("it computes");
        assert_eq!(turn.ahead, ahead, "{turn:?}");
        machine.kernel.run_vm(turn);
    }
    assert_eq!(machine.kernel.vms.by_id(vms[0]).map(|vm| vm.ahead_ticks), Some(0));
}

#[test]
fn the_first_turn_of_a_plan_says_that_it_has_come() {
    let (mut machine, vms) = idle(2);
    vms.iter().for_each(|&vm| wake(&mut machine, vm));
    machine.plan(&[vms[0], vms[1], vms[0]].map(|vm| Fake::runs(vm, 20_000)));
    assert_eq!(turns(&mut machine, 1), [(vms[0], false)]);
    // The core knows by now that there is another one. It is asked for, and none has come since its maker's start.
    let plan = &mut machine.kernel.cpu.plan;
    (plan.asked, plan.news, plan.came) = (true, true, false);
    assert_eq!(turns(&mut machine, 1), [(vms[1], false)]);
    let plan = &machine.kernel.cpu.plan;
    assert_eq!((plan.asked, plan.news, plan.came), (false, false, true));
    assert_eq!(turns(&mut machine, 1), [(vms[0], false)]);
}

#[test]
fn no_more_go_ahead_in_a_row_than_the_rules_say() {
    let (mut machine, vms) = idle_ahead(6, AHEAD);
    vms.iter().for_each(|&vm| wake(&mut machine, vm));
    let ahead = turns(&mut machine, 3);
    assert_eq!(ahead, [(vms[0], true), (vms[1], true), (vms[2], true)]);
    machine.plan(&[Fake::runs(vms[5], 20_000)]);
    assert_eq!(turns(&mut machine, 1), [(vms[5], false)]);
    assert_eq!(turns(&mut machine, 1), [(vms[3], true)]);
    assert_eq!(machine.kernel.cpu.counters.ahead, 4);
}

#[test]
fn who_goes_ahead_by_the_successors_rules_ends_the_time_without_a_scheduler() {
    let (mut machine, vms) = idle_ahead(2, AHEAD);
    let cpu = &mut machine.kernel.cpu;
    // The core had to choose before: a turn that was begun then would not end it.
    cpu.plan.choose();
    cpu.plan.forget(cpu.mark - cpu.counters.idle_ticks - 100);
    cpu.plan.rules = AHEAD;
    let unnamed = cpu.plan.unnamed;
    for vm in vms {
        wake(&mut machine, vm);
        assert_eq!(turns(&mut machine, 1), [(vm, true)]);
        assert_eq!(machine.kernel.cpu.counters.gap_ticks, 100);
        // It counts once.
        machine.kernel.cpu.mark += 50;
    }
    // It says nothing of whether the successor plans.
    assert_eq!((machine.kernel.cpu.plan.unnamed, machine.kernel.cpu.plan.came), (unnamed, false));
}

#[test]
fn without_preemption_who_wakes_waits_for_the_end_of_the_turn() {
    let (mut machine, vms) = idle_ahead(2, Rules { preempts: false, ..AHEAD });
    wake(&mut machine, vms[0]);
    machine.kernel.cpu.wakers.pop();
    let planned = turn(vms[0], 20_000);
    machine.kernel.cpu.plan.turn = Some(planned);
    wake(&mut machine, vms[1]);
    assert_eq!(machine.kernel.next_turn(), Some(planned));
    machine.kernel.cpu.plan.turn = Some(turn(vms[0], 0));
    assert_eq!(turns(&mut machine, 1), [(vms[1], true)]);
}

#[test]
fn who_may_not_run_ahead_waits_for_the_plan() {
    // Nobody may; or this one has next to nothing left.
    for (rules, left) in [(Rules::default(), 50_000), (AHEAD, HZ / 100_000 - 1), (AHEAD, HZ / 100_000)] {
        let (mut machine, vms) = idle_ahead(1, rules);
        machine.kernel.vms.by_id(vms[0]).expect("it lives").ahead_ticks = left;
        wake(&mut machine, vms[0]);
        let goes_ahead = rules == AHEAD && left == HZ / 100_000;
        assert_eq!(machine.kernel.cpu.wakers.is_empty(), !goes_ahead);
        let scheduler = machine.rank(Service::Plan);
        assert_eq!(machine.kernel.cpu.attention.is_runnable(scheduler), !goes_ahead);
    }
}

#[test]
fn the_scheduler_hears_of_who_has_gone_ahead_and_computes_on() {
    let (mut machine, vms) = idle(1);
    machine.lazy(false);
    machine.kernel.cpu.plan.rules = AHEAD;
    machine.kernel.vms.by_id(vms[0]).expect("it lives").ahead_ticks = 50_000;
    let fallbacks = machine.kernel.cpu.counters.fallbacks;
    // It has nothing to plan, and was asked.
    machine.kernel.cpu.plan.asked = true;
    wake(&mut machine, vms[0]);
    assert_eq!(turns(&mut machine, 1), [(vms[0], true)]);
    let scheduler = machine.rank(Service::Plan);
    assert!(!machine.kernel.cpu.attention.is_runnable(scheduler));
    // What it was allowed is used up.
    machine.kernel.vms.by_id(vms[0]).expect("it lives").ahead_ticks = 0;
    assert_eq!(machine.kernel.next_turn(), None);
    assert!(machine.kernel.cpu.attention.is_runnable(scheduler), "it does not know of anybody who can run");
    while machine.kernel.cpu.attention.is_runnable(scheduler) {
        machine.kernel.run_component(scheduler);
    }
    assert_eq!(turns(&mut machine, 1), [(vms[0], false)]);
    assert_eq!(machine.kernel.cpu.counters.fallbacks, fallbacks, "the core chose it");
}

/// Two VMs have woken that may run ahead, and the first one idles until so many ticks before its turn began. Who runs next, as long as somebody does by
/// something else than the core's own order.
fn after_an_idle_until(rules: Rules, left: u64, ticks_before: u64) -> Vec<(VmId, bool)> {
    let (mut machine, vms) = idle_ahead(3, rules);
    vms[..2].iter().for_each(|&vm| wake(&mut machine, vm));
    let ahead = machine.kernel.next_turn().expect("it has woken");
    machine.kernel.vms.by_id(vms[0]).expect("it lives").ahead_ticks = left;
    let until = machine.kernel.cpu.mark - ticks_before;
    machine.guests.borrow_mut().calm =
        Some(Box::new(move |_| Some(Step::Hypercall { number: hypercall::IDLE, a: until, b: 0 })));
    machine.kernel.run_vm(ahead);
    assert!(machine.kernel.vms.by_id(vms[0]).is_some_and(|vm| vm.life.is_ready()), "it sleeps");
    wake(&mut machine, vms[2]);
    let scheduler = machine.rank(Service::Plan);
    machine.kernel.run_component(scheduler);
    turns(&mut machine, 3).into_iter().take_while(|(_, ahead)| *ahead).collect()
}

#[test]
fn whose_deadline_has_come_while_it_ran_goes_ahead_again_behind_those_that_have_woken() {
    let before = [vm_in(1), vm_in(0), vm_in(2)].map(|vm| (vm, true));
    assert_eq!(after_an_idle_until(AHEAD_OF_ALL, 50_000, 0), before);
    assert_eq!(after_an_idle_until(AHEAD_OF_ALL, 50_000, 20_000), before);
    // One that is longer ago than a quantum; one that may not run ahead any more.
    let without = [vm_in(1), vm_in(2)].map(|vm| (vm, true));
    assert_eq!(after_an_idle_until(AHEAD_OF_ALL, 50_000, 20_001), without);
    assert_eq!(after_an_idle_until(AHEAD_OF_ALL, 0, 0), without);
}

#[test]
fn who_is_held_gone_or_asleep_again_does_not_go_ahead() {
    let (mut machine, vms) = idle_ahead(4, AHEAD);
    vms.iter().for_each(|&vm| wake(&mut machine, vm));
    let Kernel { vms: table, cpu, .. } = &mut machine.kernel;
    cpu.hold(table, vms[0]);
    let vm = table.by_id(vms[1]).expect("it lives");
    vm.life.idle(u64::MAX);
    cpu.blocked(vm, true);
    table.by_id(vms[2]).expect("it lives").ahead_ticks = 0;
    assert_eq!(turns(&mut machine, 1), [(vms[3], true)]);
    assert!(machine.kernel.cpu.wakers.is_empty());
}

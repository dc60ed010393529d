//! The scheduler against a simulated core: VMs that compute and VMs that wait, over a plan ring.

use super::*;
use crate::policy::{Allowance, Dispatch, Fair, RoundRobin, Rules};
use abi::sched::{Admission, Room};
use abi::tenant::Tenant;
use abi::vm::{Seat, VmId};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

const QUANTUM: u64 = 10_000;
const RING: u32 = 64;
const SLOTS: usize = 300;

/// So many free frames, and seats enough.
fn room(frames: u64) -> Room {
    Room { frames, seats: 300 }
}

/// In these tests everybody has the seat of their slot's number.
fn seat(index: u32) -> Seat {
    Seat::new(u16::try_from(index).expect("few"))
}

fn vm(index: u32) -> VmId {
    VmId::new(index, 1)
}

fn unset() -> Scheduler<RoundRobin> {
    Scheduler::new(&mut Tables::on_heap(Scheduler::<RoundRobin>::TABLES, SLOTS, SLOTS))
}

fn scheduler(frames: u64) -> Scheduler<RoundRobin> {
    let mut scheduler = unset();
    scheduler.set_capacity(frames);
    scheduler
        .handle(SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(frames) })
        .expect("good");
    scheduler
}

/// The plan, a long time after the last.
fn commands(scheduler: &mut Scheduler<RoundRobin>, outstanding: u32) -> Vec<SchedCommand> {
    let now = scheduler.published_at + 2 * QUANTUM;
    commands_at(scheduler, now, outstanding)
}

fn commands_at(scheduler: &mut Scheduler<RoundRobin>, now: u64, outstanding: u32) -> Vec<SchedCommand> {
    let mut commands = Vec::new();
    scheduler.plan(now, outstanding, RING, &mut |command| commands.push(command));
    commands
}

fn run(index: u32) -> SchedCommand {
    SchedCommand::Run { vm: vm(index), quantum_ticks: QUANTUM }
}

#[test]
fn from_arrival_to_the_plan() {
    let mut scheduler = scheduler(1000);
    assert_eq!(commands(&mut scheduler, 0), []);
    scheduler
        .handle(SchedEvent::Arrived { vm: vm(4), frames: 10, room: room(1000), tenant: Tenant::UNSAID })
        .expect("good");
    assert_eq!(commands(&mut scheduler, 0), [SchedCommand::Admit { vm: vm(4) }]);
    assert_eq!(commands(&mut scheduler, 1), []);
    scheduler.handle(SchedEvent::Ready { vm: vm(4), seat: seat(4), weight: 100 }).expect("good");
    // One entry for one VM, and the next when the core has taken it.
    assert_eq!(commands(&mut scheduler, 0), [run(4)]);
    assert_eq!(commands(&mut scheduler, 1), []);
    assert_eq!(commands(&mut scheduler, 0), [run(4)]);
    scheduler.handle(SchedEvent::Blocked { vm: vm(4), seat: seat(4), ran_ticks: 5, idle: true }).expect("good");
    assert_eq!(commands(&mut scheduler, 0), []);
}

#[test]
fn the_plan_is_no_deeper_than_it_may_be() {
    let mut scheduler = scheduler(1000);
    for index in 0..100 {
        scheduler.handle(SchedEvent::Ready { vm: vm(index), seat: seat(index), weight: 100 }).expect("good");
    }
    assert_eq!(commands(&mut scheduler, 0), (0..16).map(run).collect::<Vec<_>>());
    assert_eq!(commands(&mut scheduler, 16), []);
    let now = scheduler.published_at + QUANTUM - 1;
    assert_eq!(commands_at(&mut scheduler, now, 12), (16..20).map(run).collect::<Vec<_>>());
    assert_eq!(commands(&mut scheduler, u32::MAX), []);
}

/// The core asks once. It is told who runs next whenever somebody can, however much else there was to tell it, or is in the ring still.
#[test]
fn a_plan_names_a_turn_whatever_else_is_told() {
    let mut scheduler = Scheduler::<Fair>::new(&mut Tables::on_heap(Scheduler::<Fair>::TABLES, SLOTS, SLOTS));
    let plan = |scheduler: &mut Scheduler<Fair>, outstanding| {
        let now = scheduler.published_at + 2 * QUANTUM;
        let mut commands = Vec::new();
        scheduler.plan(now, outstanding, RING, &mut |command| commands.push(command));
        commands
    };
    let hello = SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(1000) };
    let ready = SchedEvent::Ready { vm: vm(4), seat: seat(4), weight: 100 };
    let other = SchedEvent::Ready { vm: vm(5), seat: seat(5), weight: 100 };
    let blocked = |index| SchedEvent::Blocked { vm: vm(index), seat: seat(index), ran_ticks: 5, idle: true };
    scheduler.handle(hello).expect("good");
    assert!(matches!(plan(&mut scheduler, 0)[..], [SchedCommand::Rules { .. }]));
    // The rules are in the ring still.
    scheduler.handle(ready).expect("good");
    assert_eq!(plan(&mut scheduler, 1), [run(4)]);
    assert_eq!(plan(&mut scheduler, 2), [], "one entry for one VM");
    assert_eq!(plan(&mut scheduler, 1), [], "it is the one that is left");
    // It sleeps while another one computes, so that it is owed something, and then it alone can run: both are told.
    let tell = |scheduler: &mut Scheduler<Fair>, events: &[SchedEvent]| {
        events.iter().for_each(|event| scheduler.handle(*event).expect("good"));
    };
    tell(&mut scheduler, &[blocked(4), other]);
    // A little is lent to who sleeps; and a short turn, as somebody has blocked.
    let lent = SchedCommand::Allow { vm: vm(4), ticks: QUANTUM / 4 - 5 };
    assert_eq!(plan(&mut scheduler, 0), [lent, SchedCommand::Run { vm: vm(5), quantum_ticks: QUANTUM / 8 }]);
    // It sleeps on, and is told again when it is owed twice as much, until that is two quanta and more.
    let mut told = Vec::new();
    for _ in 0..6 {
        let commands = plan(&mut scheduler, 0);
        assert_eq!(commands.last(), Some(&run(5)));
        told.extend(commands.iter().filter_map(|command| match command {
            SchedCommand::Allow { ticks, .. } => Some(*ticks),
            _ => None,
        }));
    }
    assert_eq!(told, [12_495, 33_745]);
    tell(&mut scheduler, &[ready, blocked(4), ready, blocked(5)]);
    let told = plan(&mut scheduler, 0);
    let (last, others) = told.split_last().expect("something");
    assert_eq!(*last, SchedCommand::Run { vm: vm(4), quantum_ticks: QUANTUM / 8 });
    assert!(!others.is_empty() && others.iter().all(|it| matches!(it, SchedCommand::Allow { .. })), "{told:?}");
}

/// Somebody has VMs come and go as fast as it can, and the core, in whose turn it does so, takes nothing of what it is told meanwhile. Were the ring full of that, and
/// of turns of that one, others would wait for all of these.
#[test]
fn who_is_let_in_leaves_room_for_turns() {
    let mut scheduler = Scheduler::<Fair>::new(&mut Tables::on_heap(Scheduler::<Fair>::TABLES, SLOTS, SLOTS));
    scheduler.set_capacity(1000);
    let mut ring: Vec<SchedCommand> = Vec::new();
    let plan = |scheduler: &mut Scheduler<Fair>, ring: &mut Vec<SchedCommand>| {
        let outstanding = u32::try_from(ring.len()).expect("few");
        scheduler.plan(0, outstanding, 512, &mut |command| ring.push(command));
    };
    let ready = |index| SchedEvent::Ready { vm: vm(index), seat: seat(index), weight: 100 };
    let hello = SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(1000) };
    for event in [hello, ready(200), ready(201)] {
        scheduler.handle(event).expect("good");
    }
    let blocked = SchedEvent::Blocked { vm: vm(201), seat: seat(201), ran_ticks: 5, idle: true };
    scheduler.handle(blocked).expect("good");
    for number in 0..2_000 {
        let vm = VmId::new(number % 64, number / 64 + 1);
        let arrived = SchedEvent::Arrived { vm, frames: 1, room: room(1000), tenant: Tenant::UNSAID };
        scheduler.handle(arrived).expect("good");
        plan(&mut scheduler, &mut ring);
        scheduler.handle(SchedEvent::Ended { vm, room: room(1000), seat: None }).expect("good");
    }
    let turns = ring.iter().filter(|command| matches!(command, SchedCommand::Run { .. })).count();
    assert!(turns <= 1 && ring.len() > 16, "{turns} turns among {}", ring.len());
    let before = ring.len();
    scheduler.handle(ready(201)).expect("good");
    plan(&mut scheduler, &mut ring);
    let named = ring[before..]
        .iter()
        .any(|command| matches!(command, SchedCommand::Run { vm: named, .. } if *named == vm(201)));
    assert!(named, "{:?}", &ring[before..]);
}

#[test]
fn who_passes_the_cpu_on_without_blocking_is_planned_far_ahead() {
    let mut scheduler = scheduler(1000);
    scheduler.handle(SchedEvent::Ready { vm: vm(0), seat: seat(0), weight: 100 }).expect("good");
    scheduler.handle(SchedEvent::Ready { vm: vm(1), seat: seat(1), weight: 100 }).expect("good");
    assert_eq!(commands_at(&mut scheduler, 0, 0), [run(0), run(1)]);
    // Both entries used within a quantum: it may be that one of them has just begun.
    assert_eq!(commands_at(&mut scheduler, QUANTUM - 1, 0), [run(0), run(1)]);
    // And again.
    assert_eq!(commands_at(&mut scheduler, 2 * QUANTUM - 2, 0).len(), 16);
    // Nothing taken: nothing learnt.
    assert_eq!(commands_at(&mut scheduler, 9 * QUANTUM, 16), []);
    // A whole quantum is not within one.
    assert_eq!(commands_at(&mut scheduler, 10 * QUANTUM, 0).len(), 1);
    for (quick, entries) in [(1, 2), (2, 4), (3, 8)] {
        assert_eq!(commands_at(&mut scheduler, 10 * QUANTUM + quick, 0).len(), entries);
    }
    // Quickly, but because one has blocked.
    scheduler.handle(SchedEvent::Blocked { vm: vm(0), seat: seat(0), ran_ticks: 5, idle: true }).expect("good");
    assert_eq!(commands_at(&mut scheduler, 10 * QUANTUM + 50, 0), [run(1)]);
}

#[test]
fn where_turns_last_one_is_planned_at_a_time() {
    let mut scheduler = scheduler(1000);
    for index in 0..40 {
        scheduler.handle(SchedEvent::Ready { vm: vm(index), seat: seat(index), weight: 100 }).expect("good");
    }
    // Nothing is known yet.
    assert_eq!(commands_at(&mut scheduler, 0, 0).len(), 16);
    // Within a quantum each: as many. In two: half of them. In more: one, as whoever wakes waits behind all of them.
    let depths = [QUANTUM - 1, QUANTUM, QUANTUM + QUANTUM / 2, 2 * QUANTUM, 100, 100].map(|ticks| {
        let now = scheduler.published_at + ticks;
        commands_at(&mut scheduler, now, 0).len()
    });
    assert_eq!(depths, [16, 8, 4, 1, 2, 4]);
}

#[test]
fn a_scheduler_that_starts_late_knows_what_the_machine_has() {
    let mut scheduler = unset();
    scheduler.set_capacity(1000);
    scheduler
        .handle(SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(20) })
        .expect("good");
    assert_eq!(
        scheduler.handle(SchedEvent::Arrived { vm: vm(0), frames: 500, room: room(20), tenant: Tenant::UNSAID }),
        Ok(()),
        "it fits in time"
    );
}

#[test]
fn one_that_needs_more_than_there_is_is_held_once_and_passed() {
    let mut scheduler = scheduler(1000);
    let too_big = SchedEvent::Arrived { vm: vm(0), frames: 5000, room: room(1000), tenant: Tenant::UNSAID };
    assert!(matches!(scheduler.handle(too_big), Err(Oddity::TooBig { .. })));
    scheduler
        .handle(SchedEvent::Arrived { vm: vm(1), frames: 10, room: room(1000), tenant: Tenant::UNSAID })
        .expect("good");
    // No space for anything.
    assert_eq!(commands(&mut scheduler, RING), []);
    let (hold, admit) = (SchedCommand::Hold { vm: vm(0) }, SchedCommand::Admit { vm: vm(1) });
    assert_eq!(commands(&mut scheduler, 0), [hold, admit]);
    assert_eq!(commands(&mut scheduler, 0), []);
    // There turns out to be more: it is admitted, which ends the hold.
    scheduler.handle(SchedEvent::Ended { vm: vm(7), seat: Some(seat(7)), room: room(6000) }).expect("good");
    assert_eq!(commands(&mut scheduler, 0), [SchedCommand::Admit { vm: vm(0) }]);
}

#[test]
fn who_is_held_takes_space_in_the_ring() {
    let mut scheduler = scheduler(1000);
    for index in 0..RING + 6 {
        let frames = if index < RING - 2 { 1001 } else { 1 };
        let fits = scheduler
            .handle(SchedEvent::Arrived { vm: vm(index), frames, room: room(1000), tenant: Tenant::UNSAID })
            .is_ok();
        assert_eq!(fits, frames == 1);
    }
    let held = (0..RING - 2).map(|index| SchedCommand::Hold { vm: vm(index) });
    let admitted = (RING - 2..RING).map(|index| SchedCommand::Admit { vm: vm(index) });
    assert_eq!(commands(&mut scheduler, 0), held.chain(admitted).collect::<Vec<_>>());
    assert_eq!(commands(&mut scheduler, RING - 1), [SchedCommand::Admit { vm: vm(RING) }]);
}

/// Knows no VMs. It has rules, and as much to say as a test gives it.
#[derive(Default)]
struct Said {
    seed: u64,
    runnable: u32,
    allowances: u32,
    rests: u32,
}

impl Policy for Said {
    const NAME: &'static str = "said";
    const RULES: Rules = Rules { most_in_row: 3, preempts: true, slices: 4 };
    const SEAT_BYTES: u32 = 0;

    fn new(_: &mut Tables) -> Self {
        Said::default()
    }

    fn seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    fn reset(&mut self, _: u64) {}

    fn ready(&mut self, vm: Seated, _: u16) -> Result<(), Oddity> {
        Err(Oddity::BadVm(vm.id))
    }

    fn blocked(&mut self, vm: Seated, _: u64, _: bool) -> Result<(), Oddity> {
        Err(Oddity::BadVm(vm.id))
    }

    fn ended(&mut self, _: Seated) {}

    fn quantum_ticks(&self) -> u64 {
        QUANTUM
    }

    fn runnable(&self) -> u32 {
        self.runnable
    }

    fn next(&mut self) -> Option<Dispatch> {
        (self.runnable != 0).then_some(Dispatch { vm: vm(9), quantum_ticks: QUANTUM })
    }

    fn allow(&mut self) -> Option<Allowance> {
        self.allowances = self.allowances.checked_sub(1)?;
        Some(Allowance { vm: vm(8), ticks: 7 })
    }

    fn rest(&mut self) {
        self.rests += 1;
    }
}

#[test]
fn whatever_there_is_to_say_waits_for_space_in_the_ring() {
    let mut scheduler = Scheduler::<Said>::new(&mut Tables::on_heap(Scheduler::<Said>::TABLES, SLOTS, SLOTS));
    scheduler.set_capacity(1000);
    scheduler
        .handle(SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(1000) })
        .expect("good");
    scheduler.policy = Said { runnable: 1, allowances: 2, ..Said::default() };
    fn said(scheduler: &mut Scheduler<Said>, outstanding: u32, capacity: u32) -> Vec<SchedCommand> {
        let mut commands = Vec::new();
        scheduler.plan(0, outstanding, capacity, &mut |command| commands.push(command));
        commands
    }
    let allow = SchedCommand::Allow { vm: vm(8), ticks: 7 };
    assert_eq!(said(&mut scheduler, 4, 4), []);
    // The rules once, and before anything else.
    assert_eq!(
        said(&mut scheduler, 0, 1),
        [SchedCommand::Rules { most_in_row: 3, preempts: true, slice_ticks: QUANTUM / 4 }]
    );
    assert_eq!(said(&mut scheduler, 1, 1), []);
    assert_eq!(said(&mut scheduler, 0, 2), [allow; 2]);
    assert_eq!(said(&mut scheduler, 0, 2), [run(9)]);
    // Whose turn it is comes before both.
    let [one, two] = ["one", "two"].map(|name| Tenant::new(name).expect("a name"));
    for (index, tenant) in [(0, one), (1, one), (2, two)] {
        scheduler.handle(SchedEvent::Arrived { vm: vm(index), frames: 900, room: room(1000), tenant }).expect("good");
    }
    assert_eq!(said(&mut scheduler, 0, 1), [SchedCommand::Admit { vm: vm(0) }]);
    assert_eq!(said(&mut scheduler, 0, 1), [SchedCommand::First { vm: vm(2) }]);
    assert_eq!(said(&mut scheduler, 0, 1), [run(9)]);
    // Time that nobody wants is that only where nobody can run.
    assert_eq!(scheduler.policy.rests, 0);
    scheduler.policy.runnable = 0;
    assert_eq!((said(&mut scheduler, 0, 1), scheduler.policy.rests), (vec![], 1));
}

#[test]
fn the_policy_gets_the_seed() {
    let mut scheduler = Scheduler::<Said>::new(&mut Tables::on_heap(Scheduler::<Said>::TABLES, SLOTS, SLOTS));
    scheduler.seed(7);
    assert_eq!(scheduler.policy.seed, 7);
}

#[test]
fn admissions_wait_for_space_in_the_ring() {
    let mut scheduler = scheduler(1_000_000);
    for index in 0..100 {
        scheduler
            .handle(SchedEvent::Arrived { vm: vm(index), frames: 1, room: room(1_000_000), tenant: Tenant::UNSAID })
            .expect("good");
    }
    assert_eq!(commands(&mut scheduler, 4).len(), 60);
    assert_eq!(commands(&mut scheduler, RING).len(), 0);
    assert_eq!(commands(&mut scheduler, 0).len(), 40);
}

/// What a VM does: computes for so long, then waits for so long, for ever.
#[derive(Clone, Copy, Debug)]
struct Behaviour {
    compute: u64,
    wait: u64,
}

struct Simulated {
    behaviour: Behaviour,
    left: u64,
    /// Until when it waits; `None` when it can run.
    until: Option<u64>,
    ready_since: u64,
    ran: u64,
    worst_wait: u64,
}

/// Runs the VMs for `ticks` on one CPU as the core does: wakes who is due, takes entries, skips those that cannot run.
fn simulate(behaviours: &[Behaviour], ticks: u64) -> Vec<Simulated> {
    let mut scheduler = scheduler(1_000_000);
    let mut plan: VecDeque<SchedCommand> = VecDeque::new();
    let mut now = 0;
    let mut vms: Vec<_> = behaviours
        .iter()
        .map(|&behaviour| Simulated {
            behaviour,
            left: behaviour.compute,
            until: None,
            ready_since: 0,
            ran: 0,
            worst_wait: 0,
        })
        .collect();
    for index in 0..vms.len() {
        scheduler
            .handle({
                let index = u32::try_from(index).expect("small");
                SchedEvent::Ready { vm: vm(index), seat: seat(index), weight: 100 }
            })
            .expect("good");
    }
    while now < ticks {
        for (index, guest) in vms.iter_mut().enumerate() {
            if guest.until.is_some_and(|until| until <= now) {
                guest.until = None;
                guest.left = guest.behaviour.compute;
                guest.ready_since = now;
                scheduler
                    .handle({
                        let index = u32::try_from(index).expect("small");
                        SchedEvent::Ready { vm: vm(index), seat: seat(index), weight: 100 }
                    })
                    .expect("good");
            }
        }
        let outstanding = u32::try_from(plan.len()).expect("small");
        scheduler.plan(now, outstanding, RING, &mut |command| plan.push_back(command));
        assert!(plan.len() <= 16);
        let Some(command) = plan.pop_front() else {
            // Nobody can run: idle until the next one wakes.
            now = vms.iter().filter_map(|guest| guest.until).min().expect("somebody waits");
            continue;
        };
        let SchedCommand::Run { vm, quantum_ticks } = command else { panic!("nobody arrives") };
        let guest = &mut vms[vm.slot.index()];
        if guest.until.is_some() {
            continue;
        }
        guest.worst_wait = guest.worst_wait.max(now - guest.ready_since);
        let ran = guest.left.min(quantum_ticks);
        now += ran;
        guest.ran += ran;
        guest.left -= ran;
        if guest.left == 0 {
            guest.until = Some(now + guest.behaviour.wait);
            scheduler
                .handle(SchedEvent::Blocked { vm, seat: seat(vm.slot.number()), ran_ticks: ran, idle: true })
                .expect("good");
        } else {
            guest.ready_since = now;
        }
    }
    vms
}

const HOG: Behaviour = Behaviour { compute: u64::MAX, wait: 0 };

#[test]
fn those_that_compute_share_evenly() {
    let vms = simulate(&[HOG; 7], 7_000_000);
    for vm in &vms {
        assert!(vm.ran.abs_diff(1_000_000) <= QUANTUM, "{}", vm.ran);
    }
}

#[test]
fn a_server_among_those_that_compute_answers_within_the_plan() {
    let mut behaviours = vec![HOG; 41];
    behaviours[0] = Behaviour { compute: 100, wait: 50_000 };
    let server = &simulate(&behaviours, 20_000_000)[0];
    // Without credit it would wait for a round of 40 quanta each time.
    assert!(server.worst_wait <= 17 * QUANTUM, "{}", server.worst_wait);
    assert!(server.ran >= 100 * (20_000_000 / (50_000 + 18 * QUANTUM)), "{}", server.ran);
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        Just(HOG),
        (1_u64..3 * QUANTUM, 1_u64..20 * QUANTUM).prop_map(|(compute, wait)| Behaviour { compute, wait })
    ]
}

fn any_event() -> impl Strategy<Value = SchedEvent> {
    let vm = || {
        (prop_oneof![0_u32..40, any::<u32>()], 0_u32..3).prop_map(|(index, generation)| VmId::new(index, generation))
    };
    let seat = || prop_oneof![0_u16..40, any::<u16>()].prop_map(Seat::new);
    let room = || (any::<u64>(), any::<u32>()).prop_map(|(frames, seats)| Room { frames, seats });
    let blocked = |(vm, seat, ran_ticks, idle)| SchedEvent::Blocked { vm, seat, ran_ticks, idle };
    prop_oneof![
        1 => (any::<u64>(), room(), 0_usize..3)
            .prop_map(|(quantum_ticks, room, way)| SchedEvent::Hello { quantum_ticks, room, admission: Admission::ALL[way] }),
        9 => (vm(), 0_u64..2000, room()).prop_map(|(vm, frames, room)| SchedEvent::Arrived { vm, frames, room, tenant: Tenant::UNSAID }),
        9 => (vm(), seat()).prop_map(|(vm, seat)| SchedEvent::Ready { vm, seat, weight: 100 }),
        9 => (vm(), seat(), any::<u64>(), any::<bool>()).prop_map(blocked),
        5 => (vm(), prop::option::of(seat()), room()).prop_map(|(vm, seat, room)| SchedEvent::Ended { vm, seat, room }),
        1 => room().prop_map(|room| SchedEvent::Room { room }),
        1 => vm().prop_map(|vm| SchedEvent::Later { vm }),
        1 => (0_usize..3).prop_map(|way| SchedEvent::Gatekeeper { admission: Admission::ALL[way] }),
    ]
}

#[test]
fn where_there_is_no_room_the_core_is_told_whose_turn_it_is() {
    let mut scheduler = scheduler(1000);
    let [one, two] = ["one", "two"].map(|name| Tenant::new(name).expect("a name"));
    for (index, tenant) in [(0, one), (1, one), (2, two)] {
        scheduler.handle(SchedEvent::Arrived { vm: vm(index), frames: 900, room: room(1000), tenant }).expect("good");
    }
    let (admit, first) = (SchedCommand::Admit { vm: vm(0) }, SchedCommand::First { vm: vm(2) });
    assert_eq!(commands(&mut scheduler, RING - 1), [admit]);
    assert_eq!(commands(&mut scheduler, RING), [], "the ring is full");
    assert_eq!(commands(&mut scheduler, 1), [first]);
    assert_eq!(commands(&mut scheduler, 0), [], "once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever mix of VMs: nobody who can run waits longer than a plan and a stretched round of quanta.
    #[test]
    fn nobody_starves(behaviours in prop::collection::vec(behaviour(), 1..40)) {
        let count = u64::try_from(behaviours.len()).expect("small");
        let bound = (16 + 2 * count + count / 8) * 9 / 8 * QUANTUM;
        for vm in simulate(&behaviours, 200 * count * QUANTUM) {
            prop_assert!(vm.ran > 0);
            prop_assert!(vm.worst_wait <= bound, "{} > {}", vm.worst_wait, bound);
        }
    }

    /// No sequence of events makes it panic, plan too far or name VMs that were never ready.
    #[test]
    fn senseless_events(events in prop::collection::vec((any_event(), 0_u32..20), 0..200)) {
        let mut scheduler = scheduler(1000);
        let mut admitted = BTreeSet::new();
        let mut ready = BTreeSet::new();
        for (event, outstanding) in events {
            if scheduler.handle(event).is_ok() && let SchedEvent::Ready { vm, .. } = event {
                ready.insert(vm);
            }
            if let SchedEvent::Arrived { vm, .. } = event {
                admitted.remove(&vm);
            }
            if let SchedEvent::Hello { .. } = event {
                admitted.clear();
            }
            let commands = commands(&mut scheduler, outstanding);
            let runs = commands.iter().filter(|command| matches!(command, SchedCommand::Run { .. })).count();
            prop_assert!(runs <= 16);
            for command in commands {
                match command {
                    SchedCommand::Run { vm, .. } => prop_assert!(ready.contains(&vm)),
                    SchedCommand::Admit { vm } => prop_assert!(admitted.insert(vm), "admitted twice"),
                    SchedCommand::First { vm } => prop_assert!(!admitted.contains(&vm), "admitted, and waits"),
                    SchedCommand::Hold { vm } => prop_assert!(!admitted.contains(&vm), "admitted and held"),
                    other => prop_assert!(false, "round robin lets nobody ahead: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn where_vms_block_those_that_go_ahead_wait_behind_two_short_turns_at_most() {
    let mut scheduler = Scheduler::<crate::policy::Fair>::new(&mut Tables::on_heap(
        Scheduler::<crate::policy::Fair>::TABLES,
        SLOTS,
        SLOTS,
    ));
    scheduler.set_capacity(1000);
    scheduler
        .handle(SchedEvent::Hello { quantum_ticks: QUANTUM, admission: Admission::Fifo, room: room(1000) })
        .expect("good");
    for index in 0..8 {
        scheduler.handle(SchedEvent::Ready { vm: vm(index), seat: seat(index), weight: 100 }).expect("good");
    }
    let mut planned = |blocks: bool, now| {
        if blocks {
            let event = SchedEvent::Blocked { vm: vm(7), seat: seat(7), ran_ticks: 5, idle: true };
            scheduler.handle(event).expect("good");
            scheduler.handle(SchedEvent::Ready { vm: vm(7), seat: seat(7), weight: 100 }).expect("good");
        }
        let mut turns = Vec::new();
        scheduler.plan(now, 0, RING, &mut |command| {
            if let SchedCommand::Run { quantum_ticks, .. } = command {
                turns.push(quantum_ticks);
            }
        });
        turns
    };
    // All is used up within a turn, again and again.
    let first = planned(true, 10);
    assert!(first.len() > 2 && first.iter().all(|ticks| *ticks == QUANTUM), "nothing has been used yet: {first:?}");
    for now in [20, 30] {
        let turns = planned(true, now);
        assert!((1..=2).contains(&turns.len()) && turns.iter().all(|ticks| *ticks == QUANTUM / 8), "{turns:?}");
    }
    // Used up before anybody could block again.
    for now in [40, 50, 29 + QUANTUM] {
        let turns = planned(false, now);
        assert!((1..=2).contains(&turns.len()) && turns.iter().all(|ticks| *ticks == QUANTUM / 8), "{turns:?}");
    }
    // Nobody has blocked for a quantum. As all is used up within a turn still, there are many then, and these are short.
    for (now, ticks) in [(30 + QUANTUM, QUANTUM), (31 + QUANTUM, QUANTUM / 8)] {
        let turns = planned(false, now);
        assert!(!turns.is_empty() && turns.iter().all(|turn| *turn == ticks), "{turns:?}");
    }
}

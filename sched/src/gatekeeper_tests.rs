//! Order of admission, accounting of frames, and senseless events.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

fn vm(index: u32) -> VmId {
    VmId::new(index, 1)
}

/// Slots of the machine.
const SLOTS: usize = 300;

/// So many free frames, and seats enough.
fn room(frames: u64) -> Room {
    Room { frames, seats: 100 }
}

fn unset() -> Gatekeeper {
    Gatekeeper::new(&mut Tables::on_heap(Gatekeeper::TABLES, SLOTS, 0))
}

fn gatekeeper(capacity: u64) -> Gatekeeper {
    let mut gatekeeper = unset();
    gatekeeper.set_capacity(capacity);
    gatekeeper.reset(room(capacity));
    gatekeeper
}

fn gatekeeper_by(admission: Admission, capacity: u64) -> Gatekeeper {
    let mut gatekeeper = gatekeeper(capacity);
    gatekeeper.set_admission(admission, 1600);
    gatekeeper
}

fn admitted(gatekeeper: &mut Gatekeeper) -> Vec<u32> {
    core::iter::from_fn(|| gatekeeper.admit()).map(|vm| vm.slot.number()).collect()
}

#[test]
fn first_come_first_served_without_overtaking() {
    // Reserve: 10 of 640.
    let mut gate = gatekeeper(640);
    gate.arrived(vm(5), Tenant::UNSAID, 300, room(640)).expect("good");
    gate.arrived(vm(4), Tenant::UNSAID, 400, room(640)).expect("good");
    gate.arrived(vm(3), Tenant::UNSAID, 10, room(640)).expect("good");
    // VM 3 would fit, but VM 4 was there before.
    assert_eq!(admitted(&mut gate), [5]);
    gate.ready(vm(5));
    assert_eq!(admitted(&mut gate), []);
    gate.ended(vm(5), room(640));
    assert_eq!(admitted(&mut gate), [4, 3]);
    assert_eq!(gate.waiting(), 0);
}

#[test]
fn frames_on_the_way_count_as_taken() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 300, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    // Written before the core admitted VM 0.
    gate.arrived(vm(1), Tenant::UNSAID, 400, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), []);
    // Now it has: 340 are free.
    gate.ready(vm(0));
    assert_eq!(admitted(&mut gate), []);
    gate.arrived(vm(2), Tenant::UNSAID, 10, room(340)).expect("good");
    assert_eq!(admitted(&mut gate), []);
    gate.ended(vm(1), room(340));
    assert_eq!(admitted(&mut gate), [2]);
}

#[test]
fn all_that_is_free_can_be_kept_for_vms() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 640, room(639)).expect("good");
    assert_eq!(admitted(&mut gate), []);
    gate.has_room(room(640));
    assert_eq!(admitted(&mut gate), [0]);
}

#[test]
fn who_was_sent_back_is_tried_again_when_there_is_more_room() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 300, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    // The core could not: somebody has taken it.
    gate.arrived(vm(0), Tenant::UNSAID, 300, room(400)).expect("good");
    assert_eq!(admitted(&mut gate), []);
    gate.has_room(room(299));
    assert_eq!(admitted(&mut gate), []);
    gate.has_room(room(300));
    assert_eq!(admitted(&mut gate), [0]);
}

#[test]
fn the_frames_of_a_vm_that_runs_count_once() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 300, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.ready(vm(0));
    // 340 are free. Were VM 0 still on its way, too, only 40 would be left.
    gate.arrived(vm(1), Tenant::UNSAID, 330, room(340)).expect("good");
    assert_eq!(admitted(&mut gate), [1]);
}

#[test]
fn what_another_vm_in_the_same_slot_did_is_no_sign() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 300, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.ready(VmId::new(0, 2));
    gate.arrived(vm(1), Tenant::UNSAID, 341, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [], "300 of 640 are still on their way to VM 0");
    gate.ready(VmId::new(1, 2));
    assert_eq!(gate.waiting(), 1);
    gate.ready(vm(1));
    assert_eq!(gate.waiting(), 0, "it runs already");
}

#[test]
fn a_successor_of_an_admitted_vm_is_not_taken_for_one_that_was_sent_back() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.arrived(vm(1), Tenant::UNSAID, 100, room(640)).expect("good");
    gate.arrived(VmId::new(0, 2), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [1, 0]);
}

#[test]
fn a_vm_that_comes_again_after_it_ran_was_not_sent_back() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.ready(vm(0));
    gate.arrived(vm(1), Tenant::UNSAID, 100, room(640)).expect("good");
    gate.arrived(vm(0), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [1, 0]);
}

#[test]
fn what_the_machine_has_is_known_while_it_is_not_free() {
    let mut gate = unset();
    gate.set_capacity(640);
    gate.reset(room(100));
    // It fits on this machine: in time.
    assert_eq!(gate.arrived(vm(0), Tenant::UNSAID, 300, room(100)), Ok(()));
    assert_eq!(admitted(&mut gate), []);
    gate.ended(vm(1), room(310));
    assert_eq!(admitted(&mut gate), [0]);
}

#[test]
fn a_reset_leaves_nothing_of_what_was() {
    let mut gate = gatekeeper(640);
    // One admitted, one sent back, one that waits, one that is too big.
    gate.arrived(vm(0), Tenant::UNSAID, 100, room(640)).expect("good");
    gate.arrived(vm(1), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0, 1]);
    gate.arrived(vm(1), Tenant::UNSAID, 100, room(640)).expect("good");
    gate.arrived(vm(2), Tenant::UNSAID, 100, room(640)).expect("good");
    gate.arrived(vm(3), Tenant::UNSAID, 641, room(640)).expect_err("too big");
    gate.reset(room(500));
    assert_eq!((gate.waiting(), admitted(&mut gate)), (0, vec![]));
    // Nothing is promised, nobody is held back, and 500 are free: as if it were new.
    gate.arrived(vm(4), Tenant::UNSAID, 490, room(500)).expect("good");
    assert_eq!(admitted(&mut gate), [4]);
    gate.reset(room(500));
    gate.arrived(vm(4), Tenant::UNSAID, 100, room(500)).expect("good");
    gate.arrived(vm(5), Tenant::UNSAID, 100, room(500)).expect("good");
    assert_eq!(admitted(&mut gate), [4, 5], "VM 4 is not taken for one that was sent back");
}

#[test]
fn a_reset_forgets_whoever_was_there_up_to_the_last_slot() {
    let last = u32::try_from(SLOTS - 1).expect("few");
    let mut gate = gatekeeper(640);
    gate.arrived(vm(last), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [last]);
    gate.reset(room(640));
    // It is not taken for one that was sent back, which would hold all others.
    gate.arrived(vm(last), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [last]);
}

#[test]
fn a_reset_says_how_many_frames_are_free() {
    let mut gate = gatekeeper(640);
    gate.reset(room(10));
    gate.reset(room(500));
    assert_eq!((gate.free, gate.capacity), (room(500), 640));
    gate.reset(room(700));
    assert_eq!((gate.free, gate.capacity), (room(700), 700), "more than was known");
}

#[test]
fn nobody_is_admitted_without_a_seat() {
    let mut gate = gatekeeper(640);
    let seats = |seats| Room { frames: 640, seats };
    for index in 0..4 {
        gate.arrived(vm(index), Tenant::UNSAID, 10, seats(2)).expect("good");
    }
    assert_eq!(admitted(&mut gate), [0, 1], "two seats are promised");
    gate.ready(vm(0));
    assert_eq!(admitted(&mut gate), [], "one is taken, and the other is promised");
    gate.ended(vm(9), seats(2));
    assert_eq!(admitted(&mut gate), [2], "VM 1 has still to take one of the two");
    gate.ready(vm(1));
    gate.ready(vm(2));
    gate.ended(vm(8), seats(0));
    assert_eq!(admitted(&mut gate), []);
    gate.ended(vm(0), seats(1));
    assert_eq!((admitted(&mut gate), gate.waiting()), (vec![3], 0));
}

#[test]
fn what_is_too_big_waits_aside() {
    let mut gate = gatekeeper(640);
    let too_big = |vm, frames| Oddity::TooBig { vm, frames, capacity: 640 };
    assert_eq!(gate.arrived(vm(0), Tenant::UNSAID, 641, room(640)), Err(too_big(vm(0), 641)));
    assert_eq!(gate.arrived(vm(1), Tenant::UNSAID, u64::MAX, room(640)), Err(too_big(vm(1), u64::MAX)));
    gate.arrived(vm(2), Tenant::UNSAID, 5, room(640)).expect("good");
    assert_eq!((admitted(&mut gate), gate.waiting()), (vec![2], 2));
    // Whoever the core has been told to hold still waits.
    assert_eq!((gate.hold(), gate.waiting()), (Some(vm(0)), 2));
    gate.ended(vm(1), room(640));
    assert_eq!(gate.waiting(), 1);
}

#[test]
fn a_scheduler_that_starts_while_frames_are_scarce_finds_out_that_there_are_more() {
    let mut gate = gatekeeper(20);
    for index in 0..3 {
        let frames = if index == 1 { 10 } else { 26 };
        assert_eq!(gate.arrived(vm(index), Tenant::UNSAID, frames, room(20)).is_ok(), index == 1);
    }
    assert_eq!(admitted(&mut gate), [1]);
    gate.ready(vm(1));
    gate.ended(vm(9), room(640));
    assert_eq!(admitted(&mut gate), [0, 2]);
}

#[test]
fn a_vm_that_the_core_sends_back_is_first_again_and_waits_for_frames() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.arrived(vm(1), Tenant::UNSAID, 100, room(640)).expect("good");
    gate.arrived(vm(0), Tenant::UNSAID, 100, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [1; 0]);
    gate.ended(vm(7), room(640));
    assert_eq!(admitted(&mut gate), [0, 1]);
}

#[test]
fn one_that_ends_while_it_waits_or_is_admitted_leaves_no_trace() {
    let mut gate = gatekeeper(640);
    gate.arrived(vm(0), Tenant::UNSAID, 600, room(640)).expect("good");
    gate.arrived(vm(1), Tenant::UNSAID, 600, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.ended(vm(1), room(640));
    assert_eq!(gate.waiting(), 0);
    gate.ended(vm(0), room(640));
    gate.arrived(vm(2), Tenant::UNSAID, 600, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [2]);
}

#[test]
fn the_core_is_told_whose_turn_it_is_when_there_is_no_room() {
    let [a, b] = ["a", "b"].map(|name| Tenant::new(name).expect("a name"));
    let mut gate = gatekeeper(640);
    for index in 0..3 {
        gate.arrived(vm(index), a, 400, room(640)).expect("good");
    }
    gate.arrived(vm(3), b, 400, room(640)).expect("good");
    assert_eq!(admitted(&mut gate), [0]);
    gate.ready(vm(0));
    assert_eq!((admitted(&mut gate), gate.announce(), gate.announce()), (vec![], Some(vm(3)), None));
    gate.has_room(room(400));
    assert_eq!((admitted(&mut gate), gate.announce(), gate.announce()), (vec![3], Some(vm(1)), None));
    gate.ready(vm(3));
    // It comes again, and is another one.
    gate.ended(vm(1), room(0));
    gate.arrived(VmId::new(1, 2), b, 400, room(0)).expect("good");
    assert_eq!((gate.announce(), gate.announce()), (Some(vm(2)), None));
    gate.ended(vm(2), room(0));
    assert_eq!((gate.announce(), gate.announce()), (Some(VmId::new(1, 2)), None));
    gate.ended(VmId::new(1, 2), room(0));
    gate.arrived(VmId::new(1, 3), b, 400, room(0)).expect("good");
    assert_eq!((gate.announce(), gate.announce()), (Some(VmId::new(1, 3)), None));
    // A successor tells its core itself.
    gate.reset(room(0));
    gate.arrived(VmId::new(1, 3), b, 400, room(0)).expect("good");
    assert_eq!((gate.announce(), gate.announce()), (Some(VmId::new(1, 3)), None));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reset(u64),
    Arrived(VmId, u64, u64),
    Ready(VmId),
    Ended(VmId, u64),
    Later(VmId),
    Time(u64),
    Change(usize),
    Admit,
}

fn any_step() -> impl Strategy<Value = Step> {
    let vm = || {
        prop_oneof![
            9 => (0_u32..8, 1_u32..3).prop_map(|(index, generation)| VmId::new(index, generation)),
            1 => (any::<u32>(), any::<u32>()).prop_map(|(index, generation)| VmId::new(index, generation)),
        ]
    };
    let frames = || prop_oneof![0_u64..1000, any::<u64>()];
    prop_oneof![
        1 => frames().prop_map(Step::Reset),
        6 => (vm(), frames(), frames()).prop_map(|(vm, frames, free)| Step::Arrived(vm, frames, free)),
        3 => vm().prop_map(Step::Ready),
        3 => (vm(), frames()).prop_map(|(vm, free)| Step::Ended(vm, free)),
        1 => vm().prop_map(Step::Later),
        1 => any::<u64>().prop_map(Step::Time),
        1 => (0_usize..3).prop_map(Step::Change),
        6 => Just(Step::Admit),
    ]
}

proptest! {
    /// No sequence of events makes it panic or lose count.
    #[test]
    fn senseless_events(steps in prop::collection::vec(any_step(), 0..200), way in 0_usize..3) {
        let mut gate = gatekeeper_by(Admission::ALL[way], 700);
        for step in steps {
            match step {
                Step::Reset(free) => gate.reset(room(free)),
                Step::Arrived(vm, frames, free) => {
                    let tenant = Tenant::from_raw(u32::try_from(frames % 3).unwrap_or(0)).unwrap_or_default();
                    let taken = gate.arrived(vm, tenant, frames, room(free)).is_ok();
                    prop_assert_eq!(taken, vm.slot.index() < SLOTS && frames.min(u32::MAX.into()) <= gate.capacity);
                }
                Step::Ready(vm) => gate.ready(vm),
                Step::Ended(vm, free) => gate.ended(vm, room(free)),
                Step::Later(vm) => gate.later(vm),
                Step::Time(now) => gate.set_time(now),
                Step::Change(way) => gate.change(Admission::ALL[way]),
                Step::Admit => {
                    gate.hold();
                    gate.admit();
                }
            }
        }
        let promised = |slot: &&Entry| slot.state == State::Admitted;
        let sum: u64 = gate.slots.iter().filter(promised).map(|slot| u64::from(slot.frames)).sum();
        prop_assert_eq!(sum, gate.promised.frames);
        prop_assert_eq!(gate.slots.iter().filter(promised).count(), gate.promised.seats as usize);
        let waits = |slot: &&Entry| matches!(slot.state, State::Waiting | State::Popular | State::Unheld | State::Parked);
        let waiting = gate.slots.iter().filter(waits).count();
        prop_assert_eq!(gate.waiting() as usize, waiting);
    }

    /// One tenant asks for as many as it likes, whenever it likes, and ends some. Others that each want one VM wait for one of its VMs at most, and for one of
    /// each other; and it has its turns, too.
    #[test]
    fn a_tenant_with_many_requests_delays_others_by_one_each(
        steps in prop::collection::vec((0_u32..280, any::<bool>(), 0_u8..4), 1..600),
        others in 1_u32..20,
    ) {
        let many = Tenant::new("many").expect("a name");
        let mut gate = gatekeeper(640);
        for index in 0..120 {
            gate.arrived(vm(index), many, 10, room(0)).expect("fits");
        }
        let mut since: BTreeMap<u32, u32> = BTreeMap::new();
        for (slot, ends, what) in steps {
            if what == 0 {
                // There is room for one.
                gate.has_room(Room { frames: 10, seats: 1 });
                let slots = admitted(&mut gate);
                prop_assert!(slots.len() <= 1);
                if let &[slot] = &slots[..] {
                    since.remove(&slot);
                    since.values_mut().for_each(|count| *count += 1);
                    gate.ready(vm(slot));
                    gate.ended(vm(slot), room(0));
                }
                prop_assert!(since.values().all(|&count| count <= others), "somebody has waited too long");
            } else if slot < others {
                // Each has a tenant of its own, of which it is the only one.
                let slot = 280 + slot;
                let tenant = Tenant::from_raw(slot).unwrap_or_default();
                gate.arrived(vm(slot), tenant, 10, room(0)).expect("fits");
                since.entry(slot).or_insert(0);
            } else if ends {
                gate.ended(vm(slot), room(0));
            } else {
                gate.arrived(vm(slot), many, 10, room(0)).expect("fits");
            }
        }
    }

    /// Against a core that takes and gives back frames some events later: never more promised than there is, everybody is
    /// admitted in the order of arrival and as soon as there are frames for it, and in the end everybody was.
    #[test]
    fn against_a_core(vms in prop::collection::vec((1_u64..400, 0_usize..4), 1..40)) {
        const CAPACITY: u64 = 640;
        let mut gate = gatekeeper(CAPACITY);
        let mut free = CAPACITY;
        let mut living: VecDeque<(VmId, u64)> = VecDeque::new();
        let mut commands: VecDeque<VmId> = VecDeque::new();
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        let mut order = Vec::new();
        for (number, (frames, delay)) in vms.iter().copied().enumerate() {
            let vm = vm(u32::try_from(number).expect("small"));
            sizes.insert(vm.slot.number(), frames);
            gate.arrived(vm, Tenant::UNSAID, frames, room(free)).expect("fits");
            for _ in 0..delay {
                while let Some(vm) = gate.admit() {
                    order.push(vm.slot.number());
                    commands.push_back(vm);
                }
                let first = u32::try_from(order.len()).expect("small");
                let on_the_way: u64 = commands.iter().map(|vm| sizes[&vm.slot.number()]).sum();
                if let Some(&needed) = sizes.get(&first) {
                    prop_assert!(needed > free - on_the_way, "VM {first} fits and is not admitted");
                }
                // The core carries out one command at a time.
                if let Some(vm) = commands.pop_front() {
                    prop_assert!(sizes[&vm.slot.number()] <= free, "the core cannot do it");
                    free -= sizes[&vm.slot.number()];
                    living.push_back((vm, sizes[&vm.slot.number()]));
                    gate.ready(vm);
                } else if let Some((vm, frames)) = living.pop_front() {
                    free += frames;
                    gate.ended(vm, room(free));
                }
            }
        }
        while gate.waiting() > 0 || !commands.is_empty() || !living.is_empty() {
            while let Some(vm) = gate.admit() {
                order.push(vm.slot.number());
                commands.push_back(vm);
            }
            if let Some(vm) = commands.pop_front() {
                prop_assert!(sizes[&vm.slot.number()] <= free, "the core cannot do it");
                free -= sizes[&vm.slot.number()];
                living.push_back((vm, sizes[&vm.slot.number()]));
                gate.ready(vm);
            } else {
                let Some((vm, frames)) = living.pop_front() else { panic!("somebody waits though all is free") };
                free += frames;
                gate.ended(vm, room(free));
            }
        }
        prop_assert_eq!(order, (0..u32::try_from(vms.len()).expect("small")).collect::<Vec<_>>());
    }
}

/// The TSC is no small number when a scheduler starts; here its gatekeeper's time would be one that 32 bits, with a sign, take for the past.
const SINCE_BOOT: u64 = 3 << 30 << 7;

/// Rounds until a large VM that has never been in comes in, beside so many small ones that ask again as soon as they have been in; `before` of them asked
/// before it. In every fourth round there is room for it, in the others for a small one. A round takes a tick of the gatekeeper. `changes` says from which round
/// on they are chosen otherwise.
fn rounds_until_the_large_one_is_in(
    admission: Admission,
    small: u32,
    before: u32,
    changes: &[(u32, Admission)],
) -> u32 {
    let (mut gate, large) = (gatekeeper_by(admission, 640), vm(200));
    let ask = |gate: &mut Gatekeeper, vm: VmId| {
        let frames = if vm == large { 20 } else { 10 };
        gate.arrived(vm, Tenant::UNSAID, frames, room(0)).expect("fits");
    };
    (0..before).for_each(|index| ask(&mut gate, vm(index)));
    ask(&mut gate, large);
    (before..small).for_each(|index| ask(&mut gate, vm(index)));
    for round in 0..10_000 {
        changes.iter().filter(|change| change.0 == round).for_each(|change| gate.change(change.1));
        gate.set_time(SINCE_BOOT + u64::from(round) * 100);
        gate.has_room(Room { frames: if round % 4 == 3 { 20 } else { 10 }, seats: 1 });
        for slot in admitted(&mut gate) {
            if slot == large.slot.number() {
                return round + 1;
            }
            gate.ready(vm(slot));
            gate.ended(vm(slot), Room::default());
            ask(&mut gate, vm(slot));
        }
    }
    panic!("never, with {admission:?}")
}

proptest! {
    /// Under each of them a wait is bounded by who is there when somebody asks, however often others come again.
    #[test]
    fn nobody_waits_for_ever(small in 0_u32..150, share in 0_u32..=100) {
        let before = small * share / 100;
        let of = |admission| rounds_until_the_large_one_is_in(admission, small, before, &[]);
        prop_assert!(of(Admission::Fifo) <= before + 4);
        // It may be passed while it is first, and nobody is before it when those have come in that were.
        prop_assert!(of(Admission::WorkingSet) <= before + working_set::PASSES + 4);
        // Until it is due; then whoever asked before it, or is due before it.
        prop_assert!(of(Admission::Deadline) <= deadline::PATIENCE + small + 4);
    }

    /// Nor when they are chosen in other ways meanwhile: each change costs as much again at the most.
    #[test]
    fn nobody_waits_for_ever_when_that_changes(
        small in 0_u32..150,
        share in 0_u32..=100,
        first in 0_usize..3,
        changes in prop::collection::vec((0_u32..300, 0_usize..3), 1..4),
    ) {
        let changes: Vec<_> = changes.into_iter().map(|(round, way)| (round, Admission::ALL[way])).collect();
        let rounds = rounds_until_the_large_one_is_in(Admission::ALL[first], small, small * share / 100, &changes);
        let times = u32::try_from(changes.len()).expect("few") + 1;
        prop_assert!(rounds <= times * (deadline::PATIENCE + working_set::PASSES + small + 4), "{rounds} rounds");
    }
}

#[test]
fn who_was_popular_stays_ahead_and_who_waits_keeps_its_time_when_others_are_chosen() {
    let mut gate = gatekeeper_by(Admission::Deadline, 640);
    let ask = |gate: &mut Gatekeeper, index| gate.arrived(vm(index), Tenant::UNSAID, 10, room(0)).expect("fits");
    gate.set_time(SINCE_BOOT);
    ask(&mut gate, 7);
    gate.has_room(room(10));
    assert_eq!(admitted(&mut gate), [7]);
    gate.ready(vm(7));
    gate.ended(vm(7), room(0));
    [1, 7, 2].into_iter().for_each(|index| ask(&mut gate, index));
    for way in [Admission::Fifo, Admission::WorkingSet] {
        gate.change(way);
        gate.set_time(SINCE_BOOT + 1_000_000);
        assert_eq!((gate.announce(), gate.announce()), (if way == Admission::Fifo { Some(vm(7)) } else { None }, None));
    }
    gate.has_room(Room { frames: 10, seats: 1 });
    assert_eq!(admitted(&mut gate), [7]);
    gate.ready(vm(7));
    gate.ended(vm(7), room(0));
    // The time in which it did not count is nobody's.
    gate.change(Admission::Deadline);
    for (ticks, index) in [(0, 3), (u64::from(deadline::PATIENCE) - 1, 7)] {
        gate.set_time(SINCE_BOOT + 2_000_000 + ticks * 100);
        ask(&mut gate, index);
    }
    gate.has_room(room(640));
    assert_eq!(admitted(&mut gate), [7, 1, 2, 3]);
}

#[test]
fn who_fits_passes_one_that_does_not_and_the_core_makes_room_for_that() {
    let mut gate = gatekeeper_by(Admission::WorkingSet, 640);
    for (index, frames) in [(0, 300), (1, 10), (2, 20), (3, 30)] {
        gate.arrived(vm(index), Tenant::UNSAID, frames, room(40)).expect("fits");
    }
    assert_eq!(admitted(&mut gate), [1, 2], "10 frames are left");
    assert_eq!((gate.announce(), gate.announce()), (Some(vm(0)), None));
    gate.ready(vm(1));
    gate.ready(vm(2));
    gate.has_room(room(30));
    assert_eq!((admitted(&mut gate), gate.announce()), (vec![3], None), "that is known");
    gate.has_room(room(330));
    assert_eq!(admitted(&mut gate), [0]);
}

#[test]
fn who_was_in_lately_comes_before_those_who_were_not_until_these_are_due() {
    let mut gate = gatekeeper_by(Admission::Deadline, 640);
    let ask = |gate: &mut Gatekeeper, index, at: u32| {
        gate.set_time(u64::from(at) * 100);
        gate.arrived(vm(index), Tenant::UNSAID, 10, room(0)).expect("fits");
    };
    for index in [7, 8] {
        ask(&mut gate, index, 0);
    }
    gate.has_room(room(20));
    assert_eq!(admitted(&mut gate), [7, 8]);
    for index in [7, 8] {
        gate.ready(vm(index));
        gate.ended(vm(index), room(0));
    }
    ask(&mut gate, 1, 0);
    ask(&mut gate, 2, 50);
    ask(&mut gate, 7, deadline::PATIENCE - 1);
    ask(&mut gate, 8, deadline::PATIENCE);
    // Another VM in the slot of one that was in is not that one.
    gate.arrived(VmId::new(7, 2), Tenant::UNSAID, 10, room(0)).expect("fits");
    assert_eq!(gate.announce(), Some(vm(1)), "it is due with the other one");
    ask(&mut gate, 7, deadline::PATIENCE);
    gate.has_room(room(640));
    assert_eq!(admitted(&mut gate), [1, 8, 2, 7]);
}

#[test]
fn only_who_left_lately_is_popular() {
    let mut gate = gatekeeper_by(Admission::Deadline, 640);
    let ask = |gate: &mut Gatekeeper, vm| gate.arrived(vm, Tenant::UNSAID, 10, room(0)).expect("fits");
    let leave = |gate: &mut Gatekeeper, index| {
        ask(gate, vm(index));
        gate.has_room(room(10));
        assert_eq!(admitted(gate), [index]);
        gate.ready(vm(index));
        gate.ended(vm(index), room(0));
    };
    (0..=deadline::RECENT).for_each(|index| leave(&mut gate, index));
    ask(&mut gate, vm(200));
    // VM 0 was in before too many others; in slot 1, which was left lately, is another VM; VM 2 was in lately.
    [vm(0), VmId::new(1, 2), vm(2)].into_iter().for_each(|vm| ask(&mut gate, vm));
    gate.has_room(room(640));
    assert_eq!(admitted(&mut gate), [2, 200, 0, 1]);
}

#[test]
fn it_asks_for_no_more_than_it_takes() {
    let bytes = Gatekeeper::TABLES;
    Gatekeeper::new(&mut Tables::on_heap(bytes, 1000, 0));
    let less = TableBytes { per_slot: bytes.per_slot - 1, ..bytes };
    assert!(std::panic::catch_unwind(|| _ = Gatekeeper::new(&mut Tables::on_heap(less, 1000, 0))).is_err());
}

#[test]
fn one_for_whom_no_room_can_be_made_lets_all_others_pass() {
    let mut gate = gatekeeper(640);
    let [one, two] = ["one", "two"].map(|name| Tenant::new(name).expect("a name"));
    for (index, tenant) in [(0, one), (1, one), (2, two), (3, one)] {
        gate.arrived(vm(index), tenant, 10, room(0)).expect("fits");
    }
    assert_eq!((gate.announce(), gate.announce()), (Some(vm(0)), None));
    gate.later(vm(0));
    assert_eq!(gate.announce(), Some(vm(2)), "those of its tenant wait for their turn");
    // One whose turn it is not is the last of its tenant, whose turn stays.
    gate.later(vm(1));
    assert_eq!(gate.announce(), Some(vm(2)), "the core has put somebody else first");
    for stranger in [VmId { generation: 9, ..vm(2) }, vm(77), VmId::new(u32::MAX, 1)] {
        gate.later(stranger);
    }
    gate.has_room(room(640));
    assert_eq!((admitted(&mut gate), gate.waiting()), (vec![2, 3, 0, 1], 0));
    // It does not wait any more.
    gate.later(vm(0));
    assert_eq!(gate.waiting(), 0);
}

//! Order, credit and fairness of round robin, and its behaviour under senseless events.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const QUANTUM: u64 = 1000;

fn vm(index: u32) -> VmId {
    VmId::new(index, 1)
}

fn with_ready(indices: impl IntoIterator<Item = u32>) -> Box<RoundRobin> {
    let mut policy = Box::new(RoundRobin::new());
    policy.reset(QUANTUM);
    for index in indices {
        policy.ready(vm(index), 100).expect("good");
    }
    policy
}

fn order(policy: &mut RoundRobin, count: usize) -> Vec<u32> {
    (0..count).map_while(|_| policy.next()).map(|dispatch| dispatch.vm.slot.number()).collect()
}

#[test]
fn everybody_in_turn() {
    let mut policy = with_ready([3, 1, 2]);
    assert_eq!(order(&mut policy, 7), [3, 1, 2, 3, 1, 2, 3]);
    assert_eq!(policy.next(), Some(Dispatch { vm: vm(1), quantum_ticks: QUANTUM }));
}

#[test]
fn a_reset_forgets_whoever_was_there_up_to_the_last_slot() {
    let last = u32::try_from(abi::limits::MAX_VMS - 1).expect("slots have 32 bits");
    let mut policy = with_ready([0, last]);
    policy.blocked(vm(7), 1, true).expect("good");
    policy.reset(QUANTUM);
    assert_eq!((policy.runnable(), policy.next()), (0, None));
    // Neither is taken for ready already, nor has the third its credit.
    for index in [last, 0, 7] {
        policy.ready(vm(index), 100).expect("good");
    }
    assert_eq!(order(&mut policy, 3), [last, 0, 7]);
}

#[test]
fn nobody() {
    assert_eq!(with_ready([]).next(), None);
}

#[test]
fn who_blocks_leaves_the_rotation_and_comes_back_at_its_end() {
    let mut policy = with_ready([0, 1, 2]);
    policy.blocked(vm(1), 400, false).expect("known");
    assert_eq!((order(&mut policy, 3), policy.runnable()), (vec![0, 2, 0], 2));
    policy.ready(vm(1), 100).expect("good");
    assert_eq!(order(&mut policy, 4), [2, 0, 1, 2]);
}

#[test]
fn who_idled_early_comes_first_once() {
    let mut policy = with_ready([0, 1, 2, 3]);
    policy.blocked(vm(3), QUANTUM - 1, true).expect("known");
    policy.ready(vm(3), 100).expect("good");
    assert_eq!(order(&mut policy, 5), [3, 0, 1, 2, 3]);
    // Its credit is spent: waiting for a page and coming back gives none.
    policy.blocked(vm(3), 10, false).expect("known");
    policy.ready(vm(3), 100).expect("good");
    assert_eq!(order(&mut policy, 4), [0, 1, 2, 3]);
    // Neither does idling after a whole quantum.
    policy.blocked(vm(0), QUANTUM, true).expect("known");
    policy.ready(vm(0), 100).expect("good");
    assert_eq!(order(&mut policy, 4), [1, 2, 3, 0]);
}

#[test]
fn credit_starves_nobody() {
    let mut policy = with_ready(0..20);
    let mut ran = [0_u32; 20];
    for _ in 0..18 * 20 {
        let index = policy.next().expect("somebody").vm.slot.number();
        ran[index as usize] += 1;
        // VMs 1 to 19 always idle at once and are always woken at once; VM 0 computes.
        if index != 0 {
            policy.blocked(vm(index), 1, true).expect("known");
            policy.ready(vm(index), 100).expect("good");
        }
    }
    // No less than its even share.
    assert!(ran[0] >= 18, "{ran:?}");
    assert!(ran.iter().all(|&count| count >= 10), "{ran:?}");
}

#[test]
fn a_successor_takes_the_slot() {
    let mut policy = with_ready([0, 1]);
    let successor = VmId::new(0, 2);
    policy.ready(successor, 100).expect("good");
    assert_eq!(policy.runnable(), 2);
    assert_eq!(policy.blocked(vm(0), 0, true), Err(Oddity::UnknownVm(vm(0))));
    policy.ended(vm(0));
    assert_eq!((0..2).filter_map(|_| policy.next()).map(|d| d.vm).collect::<Vec<_>>(), [vm(1), successor]);
    policy.ended(successor);
    assert_eq!(order(&mut policy, 3), [1, 1, 1]);
}

#[test]
fn all_slots_at_once() {
    let count = u32::try_from(MAX_VMS).expect("small");
    let mut policy = with_ready(0..count);
    assert_eq!(policy.runnable(), count);
    assert_eq!(order(&mut policy, MAX_VMS), (0..count).collect::<Vec<_>>());
    assert_eq!(policy.ready(vm(count), 100), Err(Oddity::BadVm(vm(count))));
    assert_eq!(policy.blocked(vm(u32::MAX), 0, true), Err(Oddity::BadVm(vm(u32::MAX))));
    policy.ended(vm(u32::MAX));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ready(VmId),
    Blocked(VmId, u64, bool),
    Ended(VmId),
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    let vm = || {
        prop_oneof![
            9 => (0_u32..12, 1_u32..3).prop_map(|(index, generation)| VmId::new(index, generation)),
            1 => (any::<u32>(), any::<u32>()).prop_map(|(index, generation)| VmId::new(index, generation)),
        ]
    };
    prop_oneof![
        4 => vm().prop_map(Step::Ready),
        3 => (vm(), 0..2 * QUANTUM, any::<bool>()).prop_map(|(vm, ran, idle)| Step::Blocked(vm, ran, idle)),
        1 => vm().prop_map(Step::Ended),
        4 => Just(Step::Next),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever has happened: only VMs that can run are named, and all of them are within one round, stretched by those with
    /// credit that go first.
    #[test]
    fn everybody_who_can_run_and_nobody_else(steps in prop::collection::vec(step(), 0..150)) {
        let mut policy = with_ready([]);
        let mut model: BTreeMap<u32, (u32, bool)> = BTreeMap::new();
        let can_run = |model: &BTreeMap<u32, (u32, bool)>| {
            let able = model.iter().filter(|(_, (_, able))| *able);
            able.map(|(&index, &(generation, _))| VmId::new(index, generation)).collect::<BTreeSet<_>>()
        };
        for step in steps {
            match step {
                Step::Ready(vm) => {
                    let taken = policy.ready(vm, 100).is_ok();
                    prop_assert_eq!(taken, vm.slot.index() < MAX_VMS);
                    if taken {
                        model.insert(vm.slot.number(), (vm.generation, true));
                    }
                }
                Step::Blocked(vm, ran, idle) => {
                    let other = model.get(&vm.slot.number()).is_some_and(|known| known.0 != vm.generation);
                    let taken = policy.blocked(vm, ran, idle).is_ok();
                    prop_assert_eq!(taken, vm.slot.index() < MAX_VMS && !other);
                    if taken {
                        model.insert(vm.slot.number(), (vm.generation, false));
                    }
                }
                Step::Ended(vm) => {
                    policy.ended(vm);
                    if model.get(&vm.slot.number()).is_some_and(|known| known.0 == vm.generation) {
                        model.remove(&vm.slot.number());
                    }
                }
                Step::Next => match policy.next() {
                    Some(dispatch) => prop_assert!(can_run(&model).contains(&dispatch.vm)),
                    None => prop_assert!(can_run(&model).is_empty()),
                },
            }
            prop_assert_eq!(usize::try_from(policy.runnable()).expect("small"), can_run(&model).len());
        }
        // Each of those with credit is named once on top before it rotates.
        let all = can_run(&model);
        let named: BTreeSet<_> = (0..2 * all.len()).filter_map(|_| policy.next()).map(|dispatch| dispatch.vm).collect();
        prop_assert_eq!(&named, &all);
        // From then on every round names everybody exactly once.
        let round: Vec<_> = (0..all.len()).filter_map(|_| policy.next()).map(|dispatch| dispatch.vm).collect();
        prop_assert_eq!(round.len(), all.len());
        prop_assert_eq!(round.into_iter().collect::<BTreeSet<_>>(), all);
    }
}

//! Order, credit and fairness of round robin, and its behaviour under senseless events.

use super::*;
use crate::policy::test_cpu::{QUANTUM, SEATS, names_who_can_run, new, steps, vm, vm_of};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn with_ready(indices: impl IntoIterator<Item = u32>) -> RoundRobin {
    let mut policy = new::<RoundRobin>();
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
    assert_eq!(policy.next(), Some(Dispatch { vm: vm(1).id, quantum_ticks: QUANTUM }));
}

#[test]
fn a_reset_forgets_whoever_was_there_up_to_the_last_seat() {
    let last = u32::try_from(SEATS - 1).expect("few");
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
fn a_successor_takes_the_seat() {
    let mut policy = with_ready([0, 1]);
    let successor = vm_of(0, 2);
    policy.ready(successor, 100).expect("good");
    assert_eq!(policy.runnable(), 2);
    assert_eq!(policy.blocked(vm(0), 0, true), Err(Oddity::UnknownVm(vm(0).id)));
    policy.ended(vm(0));
    assert_eq!((0..2).filter_map(|_| policy.next()).map(|d| d.vm).collect::<Vec<_>>(), [vm(1).id, successor.id]);
    policy.ended(successor);
    assert_eq!(order(&mut policy, 3), [1, 1, 1]);
}

#[test]
fn all_seats_at_once() {
    let count = u32::try_from(SEATS).expect("few");
    let mut policy = with_ready(0..count);
    assert_eq!(policy.runnable(), count);
    assert_eq!(order(&mut policy, SEATS), (0..count).collect::<Vec<_>>());
    assert_eq!(policy.ready(vm(count), 100), Err(Oddity::BadVm(vm(count).id)));
    assert_eq!(policy.blocked(vm(65_535), 0, true), Err(Oddity::BadVm(vm(65_535).id)));
    policy.ended(vm(65_535));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever has happened: only VMs that can run are named, and all of them are within one round, stretched by those with
    /// credit that go first.
    #[test]
    fn everybody_who_can_run_and_nobody_else(steps in steps()) {
        let mut policy = with_ready([]);
        let all = names_who_can_run(&mut policy, steps)?;
        // Each of those with credit is named once on top before it rotates.
        let named: BTreeSet<_> = (0..2 * all.len()).filter_map(|_| policy.next()).map(|dispatch| dispatch.vm).collect();
        prop_assert_eq!(&named, &all);
        // From then on every round names everybody exactly once.
        let round: Vec<_> = (0..all.len()).filter_map(|_| policy.next()).map(|dispatch| dispatch.vm).collect();
        prop_assert_eq!(round.len(), all.len());
        prop_assert_eq!(round.into_iter().collect::<BTreeSet<_>>(), all);
    }
}

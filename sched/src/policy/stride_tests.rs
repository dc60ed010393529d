//! Shares under stride scheduling, sleepers, and its behaviour under senseless events.

use super::*;
use crate::PLAN_DEPTH;
use crate::policy::test_cpu::{Load, QUANTUM, names_who_can_run, new, run, steps, vm, vm_of};
use crate::policy::virtual_time::way;
use abi::share::WEIGHT_MAX;
use proptest::prelude::*;

fn stride() -> Stride {
    new()
}

/// What is kept as the pass of a VM.
fn pass(policy: &mut Stride, index: u32) -> u128 {
    policy.0.at(vm(index).seat).1.pass()
}

/// Fails unless each VM ran its share by weight, to one part in `parts`.
fn shares(ran: &[u64], weights: &[u16], parts: u64) -> Result<(), TestCaseError> {
    let (total, weight): (u64, u64) = (ran.iter().sum(), weights.iter().map(|&weight| u64::from(weight)).sum());
    for (&ran, &own) in ran.iter().zip(weights) {
        let share = total * u64::from(own) / weight;
        prop_assert!(ran.abs_diff(share) <= share / parts, "{ran} where {share} were to be: weight {own} of {weight}");
    }
    Ok(())
}

#[test]
fn one_to_three() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    policy.ready(vm(1), 300).expect("good");
    let named: Vec<u32> = (0..8).filter_map(|_| policy.next()).map(|dispatch| dispatch.vm.slot.number()).collect();
    // Whoever has three times the weight comes three times as often, and evenly.
    assert_eq!(named, [1, 1, 1, 0, 1, 1, 1, 0]);
}

#[test]
fn who_sleeps_comes_back_at_once_and_with_nothing_saved() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    for slot in 0..2 {
        policy.ready(vm(slot), 100).expect("good");
    }
    let next = |policy: &mut Stride| policy.next().expect("somebody").vm.slot.number();
    next(&mut policy);
    policy.blocked(vm(1), 10, true).expect("known");
    for _ in 0..100 {
        assert_eq!(next(&mut policy), 0);
    }
    policy.ready(vm(1), 100).expect("good");
    let named: Vec<u32> = (0..6).map(|_| next(&mut policy)).collect();
    // It does not make up for what it slept: they take turns, but for who is first where their passes are equal.
    assert_eq!(named, [1, 0, 1, 0, 1, 0]);
}

#[test]
fn what_was_planned_and_not_run_is_not_charged() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    // Planned eight turns ahead, and blocks in the first.
    for _ in 0..8 {
        policy.next();
    }
    policy.blocked(vm(0), QUANTUM / 2, true).expect("known");
    let charged = pass(&mut policy, 0);
    assert_eq!(charged, way(QUANTUM, 100) + way(QUANTUM / 2, 100));
    // One that was run by the core without a plan pays for that, but for no more than a plan.
    policy.ready(vm(1), 100).expect("good");
    let start = pass(&mut policy, 1);
    policy.blocked(vm(1), 3 * QUANTUM, false).expect("known");
    assert_eq!(pass(&mut policy, 1), start + way(3 * QUANTUM, 100));
    policy.ready(vm(1), 100).expect("good");
    let start = pass(&mut policy, 1);
    policy.blocked(vm(1), u64::MAX, false).expect("known");
    assert_eq!(pass(&mut policy, 1), start + way(QUANTUM * u64::from(PLAN_DEPTH), 100));
}

#[test]
fn a_sleeper_gets_what_it_asks_for_up_to_its_share() {
    // Each of them asks for a tenth and is entitled to a fifth, and one computes.
    let sleeper = Load { weight: 100, burst: 100, pause: 900 };
    let loads = [Load::computes(100), sleeper, sleeper, sleeper, sleeper];
    for depth in [1, 4, 16] {
        let ran = run(&mut stride(), &loads, 10_000_000, depth);
        // One that wakes may wait for the end of a quantum, and of what is planned.
        assert!(ran[1..].iter().all(|&ran| (200_000..=1_000_000).contains(&ran)), "{depth}: {ran:?}");
        assert!(ran[0] >= 6_000_000, "{depth}: {ran:?}");
    }
}

#[test]
fn a_newcomer_has_no_advantage() {
    // A VM whose creator replaces it after each turn gets no more than one that stays.
    let mut policy = stride();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    let mut stayed = 0;
    let mut generation = 1;
    policy.ready(vm_of(1, generation), 100).expect("good");
    for _ in 0..1000 {
        match policy.next().expect("somebody").vm {
            vm if vm.slot.number() == 0 => stayed += 1,
            _ => {
                policy.ended(vm_of(1, generation));
                generation += 1;
                policy.ready(vm_of(1, generation), 100).expect("good");
            }
        }
    }
    assert!(stayed >= 499, "{stayed} of 1000");
}

#[test]
fn a_successor_of_one_that_had_blocked_is_a_newcomer() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), 0, true).expect("known");
    for _ in 0..5 {
        assert_eq!(policy.next().map(|dispatch| dispatch.vm), Some(vm(0).id));
    }
    // Nobody said that VM 1 is gone. It would come at once; its successor comes behind VM 0.
    policy.ready(vm_of(1, 2), 50).expect("good");
    assert_eq!(policy.next().map(|dispatch| dispatch.vm), Some(vm(0).id));
}

#[test]
fn who_is_said_to_block_twice_still_owes_what_it_ran() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), 8 * QUANTUM, false).expect("known");
    policy.blocked(vm(1), 0, false).expect("known");
    policy.ready(vm(1), 100).expect("good");
    for turn in 0..8 {
        assert_eq!(policy.next().map(|dispatch| dispatch.vm), Some(vm(0).id), "{turn}");
    }
}

#[test]
fn who_is_said_to_be_ready_again_and_again_gets_no_more_than_its_share() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    policy.ready(vm(1), 100).expect("good");
    let mut turns = 0;
    for _ in 0..100 {
        policy.ready(vm(0), 100).expect("good");
        turns += u32::from(policy.next().map(|dispatch| dispatch.vm) == Some(vm(0).id));
    }
    assert!((49..=51).contains(&turns), "{turns}");
}

#[test]
fn a_new_weight_counts_at_once() {
    let mut policy = stride();
    policy.reset(QUANTUM);
    for (index, weight) in [(0, 100), (1, 100), (1, 300)] {
        policy.ready(vm(index), weight).expect("good");
    }
    let turns = (0..400).filter(|_| policy.next().map(|dispatch| dispatch.vm) == Some(vm(1).id)).count();
    assert!((298..=302).contains(&turns), "{turns}");
}

#[test]
fn centuries_of_ticks_fit() {
    let mut policy = stride();
    policy.reset(u64::MAX / 2);
    policy.ready(vm(0), 1).expect("good");
    policy.ready(vm(1), 0).expect("a weight of 0 counts as 1");
    policy.ready(vm(2), u16::MAX).expect("and one beyond the limit as the limit");
    for _ in 0..50_000 {
        policy.next().expect("somebody");
    }
    policy.blocked(vm(0), u64::MAX, true).expect("known");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn who_computes_gets_a_share_by_weight(
        weights in prop::collection::vec(1_u16..=1000, 1..12),
        depth in 1_usize..17,
    ) {
        let loads: Vec<_> = weights.iter().map(|&weight| Load::computes(weight)).collect();
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let least = u64::from(weights.iter().copied().min().unwrap_or(1));
        // Until the one with the least weight has had two hundred turns.
        let ran = run(&mut stride(), &loads, QUANTUM * (sum / least + 1) * 200, depth);
        shares(&ran, &weights, 100)?;
    }

    /// Whatever the others do: who computes gets at least its share, and so nobody else more than theirs.
    #[test]
    fn sleepers_take_nothing_from_those_who_compute(
        own in 1_u16..500,
        others in prop::collection::vec((1_u16..500, 1_u64..3 * QUANTUM, 0_u64..5 * QUANTUM), 1..10),
    ) {
        let others = others.into_iter().map(|(weight, burst, pause)| Load { weight, burst, pause });
        let loads: Vec<_> = std::iter::once(Load::computes(own)).chain(others).collect();
        let sum: u64 = loads.iter().map(|load| u64::from(load.weight)).sum();
        let ticks = QUANTUM * (sum / u64::from(own) + 1) * 200;
        let ran = run(&mut stride(), &loads, ticks, 1);
        let share = ticks * u64::from(own) / sum;
        prop_assert!(ran[0] >= share - share / 50, "{} of {share}", ran[0]);
    }

    #[test]
    fn everybody_who_can_run_and_nobody_else(steps in steps()) {
        let mut policy = stride();
        let able = names_who_can_run(&mut policy, steps)?;
        // Nobody starves: the least weight against the greatest, and what was owed before.
        let turns = 12 * (usize::from(WEIGHT_MAX) * (2 * able.len() + 16) + 1);
        let mut missing = able;
        for _ in 0..turns {
            if missing.is_empty() {
                break;
            }
            missing.remove(&policy.next().expect("somebody can run").vm);
        }
        prop_assert!(missing.is_empty(), "{missing:?}");
    }
}

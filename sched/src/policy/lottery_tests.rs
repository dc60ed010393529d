//! Shares by lot, compensation, and behaviour under senseless events.

use super::*;
use crate::policy::test_cpu::{Load, QUANTUM, SEATS, names_who_can_run, new, run, steps, vm, vm_of};
use abi::vm::Seat;
use proptest::prelude::*;

fn lottery(seed: u64) -> Lottery {
    let mut policy = new::<Lottery>();
    policy.seed(seed);
    policy
}

/// Whether `ran` is `share`, to one part in `parts`.
fn near(ran: u64, share: u64, parts: u64) -> bool {
    ran.abs_diff(share) <= share / parts
}

#[test]
fn one_to_three_within_one_per_cent() {
    let loads = [Load::computes(100), Load::computes(300)];
    let ran = run(&mut lottery(1), &loads, 1_000_000 * QUANTUM, 2);
    assert!(near(ran[0], 250_000 * QUANTUM, 100), "{ran:?}");
}

#[test]
fn who_uses_a_fifth_of_each_quantum_is_compensated() {
    let loads = [Load::computes(100), Load { weight: 100, burst: QUANTUM / 5, pause: 0 }];
    let ran = run(&mut lottery(2), &loads, 100_000 * QUANTUM, 1);
    assert!(near(ran[0], ran[1], 50), "{ran:?}");
    // One turn further ahead it gets less than its half, and still twice what it would get without.
    let ran = run(&mut lottery(2), &loads, 100_000 * QUANTUM, 2);
    assert!((30_000 * QUANTUM..50_000 * QUANTUM).contains(&ran[1]), "{ran:?}");
}

#[test]
fn compensation_lasts_until_the_next_turn() {
    let mut policy = lottery(3);
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    assert_eq!(policy.tickets.of(Seat::new(0)), 100 * TICKETS);
    policy.next();
    policy.blocked(vm(0), QUANTUM / 4, true).expect("known");
    assert_eq!((policy.tickets.total(), policy.next()), (0, None));
    policy.ready(vm(0), 100).expect("good");
    assert_eq!(policy.tickets.of(Seat::new(0)), 400 * TICKETS);
    policy.next();
    assert_eq!(policy.tickets.of(Seat::new(0)), 100 * TICKETS);
    // Drawn three times, and blocks after half a quantum: a sixth.
    policy.next();
    policy.next();
    policy.blocked(vm(0), QUANTUM / 2, true).expect("known");
    policy.ready(vm(0), 100).expect("good");
    assert_eq!(policy.tickets.of(Seat::new(0)), 600 * TICKETS);
    // Nothing at all counts as the most; more than it was drawn for, as all of it.
    policy.next();
    policy.blocked(vm(0), 0, false).expect("known");
    policy.ready(vm(0), 100).expect("good");
    assert_eq!(policy.tickets.of(Seat::new(0)), 100 * TICKETS * COMPENSATION_MAX);
    policy.blocked(vm(0), 5 * QUANTUM, false).expect("known");
    policy.ready(vm(0), 100).expect("good");
    assert_eq!(policy.tickets.of(Seat::new(0)), 100 * TICKETS);
}

#[test]
fn a_successor_inherits_nothing() {
    let mut policy = lottery(4);
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    policy.next();
    policy.blocked(vm(0), 1, true).expect("known");
    let successor = vm_of(0, 2);
    policy.ready(successor, 7).expect("good");
    assert_eq!((policy.tickets.of(Seat::new(0)), policy.tickets.total()), (7 * TICKETS, 7 * TICKETS));
    policy.ended(vm(0));
    assert_eq!(policy.runnable(), 1);
    policy.ended(successor);
    assert_eq!((policy.runnable(), policy.tickets.total()), (0, 0));
}

#[test]
fn a_reset_forgets_whoever_was_there() {
    let mut policy = lottery(5);
    policy.reset(QUANTUM);
    for slot in [0, 7, u32::try_from(SEATS - 1).expect("few")] {
        policy.ready(vm(slot), 100).expect("good");
    }
    policy.reset(QUANTUM);
    assert_eq!((policy.runnable(), policy.next()), (0, None));
    policy.ready(vm(7), 100).expect("good");
    assert_eq!(policy.next().map(|dispatch| dispatch.vm), Some(vm(7).id));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn who_computes_gets_a_share_by_weight(
        weights in prop::collection::vec(50_u16..=500, 2..5),
        seed in any::<u64>(),
    ) {
        let loads: Vec<_> = weights.iter().map(|&weight| Load::computes(weight)).collect();
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let ran = run(&mut lottery(seed), &loads, 200_000 * QUANTUM, 4);
        for (&ran, &weight) in ran.iter().zip(&weights) {
            // Five standard deviations of a share of a thirty-first.
            let share = 200_000 * QUANTUM * u64::from(weight) / sum;
            prop_assert!(near(ran, share, 16), "{ran} where {share} were to be");
        }
    }

    #[test]
    fn sleepers_get_no_more_than_their_share(
        burst in 20_u64..3 * QUANTUM,
        pause in 0_u64..5 * QUANTUM,
        seed in any::<u64>(),
    ) {
        let loads = [Load::computes(100), Load { weight: 100, burst, pause }];
        let ran = run(&mut lottery(seed), &loads, 20_000 * QUANTUM, 1);
        prop_assert!(ran[1] <= 10_500 * QUANTUM, "{ran:?}");
    }

    #[test]
    fn everybody_who_can_run_and_nobody_else(steps in steps(), seed in any::<u64>()) {
        let mut policy = lottery(seed);
        let able = names_who_can_run(&mut policy, steps)?;
        // Nobody starves: each of those that can run holds tickets, and nobody else does.
        let mut held = 0;
        for seat in (0_u16..1000).map(Seat::new).filter(|&seat| policy.tickets.of(seat) != 0) {
            prop_assert!(policy.tickets.of(seat) >= TICKETS && able.contains(&policy.vms.at(seat).0));
            held += policy.tickets.of(seat);
        }
        prop_assert_eq!(held, policy.tickets.total());
    }
}

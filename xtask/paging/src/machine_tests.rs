//! The machine: with the very choices that can be reckoned by hand, and never better than the optimum.

use super::*;
use crate::optimum;
use crate::trace::{HOT_PAGES, Pattern, Shape, Wake};
use proptest::prelude::*;

fn trace(vms: &[u32]) -> Trace {
    Trace { vms: 40, wakes: vms.iter().map(|&vm| Wake { vm, touched: HOT_PAGES }).collect() }
}

#[test]
fn each_order_sends_away_whom_it_should() {
    // Room for twelve, of whom the first ones came in longer ago than `residence`; the first of all is used again.
    let mut vms: Vec<u32> = (0..12).collect();
    vms.extend([0, 20, 0, 1]);
    let from_disk = |policy| play(&trace(&vms), 12, policy, Comes::Whole).from_disk;
    assert_eq!(from_disk(Policy::Fifo), 15, "0 goes for 20, and comes in for 1");
    assert_eq!(from_disk(Policy::Lru), 14, "1 goes for 20, and comes in again");
    assert_eq!(from_disk(Policy::Sieve), 14);
    assert_eq!(play(&trace(&vms), 12, Policy::Lru, Comes::Whole).pages, 14 * 128);
}

#[test]
fn who_came_in_just_now_stays_and_room_is_waited_for() {
    // More than fit, one after the other: the last ones are too young to go.
    let vms: Vec<u32> = (0..40).collect();
    for policy in Policy::ALL {
        let outcome = play(&trace(&vms), 5, policy, Comes::Whole);
        assert_eq!((outcome.wakes, outcome.from_disk), (40, 40));
    }
}

#[test]
fn page_by_page_only_what_is_touched_comes() {
    let wake = |vm, documents: u128| Wake { vm, touched: HOT_PAGES | documents << 24 };
    let wakes = vec![wake(0, 7), wake(0, 7), wake(0, 14), wake(1, 0)];
    let outcome = play(&Trace { vms: 2, wakes }, 4, Policy::Sieve, Comes::PageByPage);
    assert_eq!((outcome.wakes, outcome.from_disk, outcome.pages), (4, 3, 27 + 1 + 24));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_is_better_than_the_optimum(seed: u64, room in 12..40_usize, alpha in 0.5..1.5_f64) {
        let trace = Trace::new(&Shape { vms: 100, wakes: 500, pattern: Pattern::Zipf { alpha }, scans: 10, seed });
        let best = optimum::by_vm(&trace, room);
        let pages = optimum::by_page(&trace, room * 128);
        for policy in Policy::ALL {
            let played = play(&trace, room, policy, Comes::Whole);
            prop_assert!(played.from_disk >= best.from_disk, "{policy:?}: {played:?} against {best:?}");
            let played = play(&trace, room, policy, Comes::PageByPage);
            prop_assert!(played.pages >= pages.pages, "{policy:?}: {played:?} against {pages:?}");
        }
    }
}

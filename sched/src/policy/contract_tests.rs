//! What every policy holds, whatever its order.

use super::test_cpu::{QUANTUM, SEATS, new, vm, vm_of};
use super::{Fair, Lottery, Policy, RoundRobin, Stride};
use crate::Oddity;
use abi::note::TableBytes;
use component::Tables;

fn last_seat() -> u32 {
    u32::try_from(SEATS - 1).expect("few")
}

fn quanta_are_as_the_reset_says<P: Policy>(policy: &mut P) {
    for quantum in [QUANTUM, 7] {
        policy.reset(quantum);
        assert_eq!(policy.quantum_ticks(), quantum);
        policy.ready(vm(0), 100).expect("good");
        assert_eq!(policy.next().map(|dispatch| (dispatch.vm, dispatch.quantum_ticks)), Some((vm(0).id, quantum)));
    }
}

fn a_reset_forgets_who_could_run<P: Policy>(policy: &mut P) {
    for seat in [0, last_seat()] {
        policy.reset(QUANTUM);
        policy.ready(vm(seat), 100).expect("good");
        policy.reset(QUANTUM);
        assert_eq!((policy.runnable(), policy.next()), (0, None));
        assert_eq!(policy.blocked(vm_of(seat, 2), 5, true), Ok(()));
    }
}

/// A reset also forgets a VM of which nothing was heard but that it has blocked.
fn a_reset_forgets_who_had_blocked<P: Policy>(policy: &mut P) {
    for seat in [0, last_seat()] {
        policy.reset(QUANTUM);
        policy.blocked(vm(seat), 5, true).expect("it may be the first that is heard of it");
        let successor = vm_of(seat, 2);
        assert_eq!(policy.blocked(successor, 5, true), Err(Oddity::UnknownVm(successor.id)));
        policy.reset(QUANTUM);
        assert_eq!(policy.blocked(successor, 5, true), Ok(()));
    }
}

fn seats_end_where_they_end<P: Policy>(policy: &mut P) {
    policy.reset(QUANTUM);
    let beyond = vm(last_seat() + 1);
    assert_eq!(policy.ready(beyond, 100), Err(Oddity::BadVm(beyond.id)));
    assert_eq!(policy.blocked(beyond, 5, true), Err(Oddity::BadVm(beyond.id)));
    policy.ended(beyond);
    assert_eq!(policy.runnable(), 0);
    policy.ready(vm(last_seat()), 100).expect("the last seat");
    assert_eq!(policy.next().map(|dispatch| dispatch.vm), Some(vm(last_seat()).id));
}

/// What it asks for is what it takes: with a byte less for each seat it cannot be made.
fn it_asks_for_no_more_than_it_takes<P: Policy>(_: &mut P) {
    let bytes = TableBytes { per_slot: 0, per_seat: P::SEAT_BYTES - 1, ..TableBytes::NONE };
    assert!(std::panic::catch_unwind(|| _ = P::new(&mut Tables::on_heap(bytes, 0, SEATS))).is_err());
}

macro_rules! every_policy {
    ($($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                super::$property(&mut new::<Policy>());
            }
        )*
    };
}

macro_rules! policies {
    ($($name:ident: $policy:ty;)*) => {
        $(
            mod $name {
                use super::*;
                type Policy = $policy;
                every_policy! {
                    quanta_are_as_the_reset_says
                    a_reset_forgets_who_could_run
                    a_reset_forgets_who_had_blocked
                    seats_end_where_they_end
                    it_asks_for_no_more_than_it_takes
                }
            }
        )*
    };
}

policies! {
    fair: Fair;
    round_robin: RoundRobin;
    stride: Stride;
    lottery: Lottery;
}

//! What every policy holds, whatever its order.

use super::test_cpu::{QUANTUM, boxed, vm};
use super::{Lottery, Policy, RoundRobin, Stride};
use crate::Oddity;
use abi::limits::MAX_VMS;
use abi::vm::VmId;

fn last_slot() -> u32 {
    u32::try_from(MAX_VMS - 1).expect("slots have 32 bits")
}

fn quanta_are_as_the_reset_says<P: Policy>(policy: &mut P) {
    for quantum in [QUANTUM, 7] {
        policy.reset(quantum);
        assert_eq!(policy.quantum_ticks(), quantum);
        policy.ready(vm(0), 100).expect("good");
        assert_eq!(policy.next().map(|dispatch| (dispatch.vm, dispatch.quantum_ticks)), Some((vm(0), quantum)));
    }
}

fn a_reset_forgets_who_could_run<P: Policy>(policy: &mut P) {
    for slot in [0, last_slot()] {
        policy.reset(QUANTUM);
        policy.ready(vm(slot), 100).expect("good");
        policy.reset(QUANTUM);
        assert_eq!((policy.runnable(), policy.next()), (0, None));
        assert_eq!(policy.blocked(VmId::new(slot, 2), 5, true), Ok(()));
    }
}

/// A reset also forgets a VM of which nothing was heard but that it has blocked.
fn a_reset_forgets_who_had_blocked<P: Policy>(policy: &mut P) {
    for slot in [0, last_slot()] {
        policy.reset(QUANTUM);
        policy.blocked(vm(slot), 5, true).expect("it may be the first that is heard of it");
        let successor = VmId::new(slot, 2);
        assert_eq!(policy.blocked(successor, 5, true), Err(Oddity::UnknownVm(successor)));
        policy.reset(QUANTUM);
        assert_eq!(policy.blocked(successor, 5, true), Ok(()));
    }
}

fn slots_end_where_they_end<P: Policy>(policy: &mut P) {
    policy.reset(QUANTUM);
    let beyond = vm(last_slot() + 1);
    assert_eq!(policy.ready(beyond, 100), Err(Oddity::BadVm(beyond)));
    assert_eq!(policy.blocked(beyond, 5, true), Err(Oddity::BadVm(beyond)));
    policy.ended(beyond);
    assert_eq!(policy.runnable(), 0);
    policy.ready(vm(last_slot()), 100).expect("the last slot");
    assert_eq!(policy.next().map(|dispatch| dispatch.vm), Some(vm(last_slot())));
}

macro_rules! every_policy {
    ($($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                super::$property(&mut *boxed(Policy::new));
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
                    slots_end_where_they_end
                }
            }
        )*
    };
}

policies! {
    round_robin: RoundRobin;
    stride: Stride;
    lottery: Lottery;
}

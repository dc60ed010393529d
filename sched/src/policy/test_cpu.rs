//! A CPU for tests: VMs that compute, or run for a while and sleep for a while, under a policy. Who ran how long is the
//! outcome. And random events, for what every policy has to hold.

use super::Policy;
use crate::vms::Seated;
use abi::note::TableBytes;
use abi::vm::{Seat, VmId};
use component::Tables;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// The quantum in ticks.
pub const QUANTUM: u64 = 1000;

/// Seats of the machine.
pub const SEATS: usize = 1000;

/// A policy that knows nobody.
pub fn new<P: Policy>() -> P {
    P::new(&mut Tables::on_heap(TableBytes { per_slot: 0, per_seat: P::SEAT_BYTES, ..TableBytes::NONE }, 0, SEATS))
}

/// How a VM behaves.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub weight: u16,
    /// Ticks that it runs until it sleeps.
    pub burst: u64,
    /// Ticks that it sleeps.
    pub pause: u64,
}

impl Load {
    /// One that always computes.
    pub fn computes(weight: u16) -> Load {
        Load { weight, burst: u64::MAX, pause: 0 }
    }
}

/// The first VM of a slot, in the seat of the same number.
pub fn vm(index: u32) -> Seated {
    vm_of(index, 1)
}

/// A VM of a slot, in the seat of the same number.
pub fn vm_of(index: u32, generation: u32) -> Seated {
    Seated { id: VmId::new(index, generation), seat: Seat::new(u16::try_from(index).expect("16 bits")) }
}

/// Runs VMs for `ticks` under a policy that plans `depth` turns ahead. For each VM the ticks that it ran.
pub fn run<P: Policy>(policy: &mut P, loads: &[Load], ticks: u64, depth: usize) -> Vec<u64> {
    policy.reset(QUANTUM);
    let index = |slot: u32| usize::try_from(slot).expect("small");
    let mut ran = vec![0; loads.len()];
    // Since it was ready; `None` while it sleeps.
    let mut burst: Vec<Option<u64>> = vec![Some(0); loads.len()];
    let mut sleeping = BinaryHeap::new();
    let mut plan = VecDeque::new();
    for (slot, load) in (0..).zip(loads) {
        policy.ready(vm(slot), load.weight).expect("good");
    }
    let mut now = 0;
    while now < ticks {
        while let Some(&(std::cmp::Reverse(due), slot)) = sleeping.peek()
            && due <= now
        {
            sleeping.pop();
            burst[index(slot)] = Some(0);
            policy.ready(vm(slot), loads[index(slot)].weight).expect("good");
        }
        while plan.len() < depth.min(usize::try_from(policy.runnable()).expect("few"))
            && let Some(dispatch) = policy.next()
        {
            assert_eq!(dispatch.quantum_ticks, QUANTUM);
            plan.push_back(dispatch.vm.slot.number());
        }
        let Some(slot) = plan.pop_front() else {
            let (std::cmp::Reverse(due), _) = sleeping.peek().expect("nobody runs and nobody sleeps");
            now = *due;
            continue;
        };
        let load = loads[index(slot)];
        // The turn of one that cannot run is passed over.
        let Some(done) = &mut burst[index(slot)] else { continue };
        let turn = QUANTUM.min(load.burst - *done);
        *done += turn;
        ran[index(slot)] += turn;
        now += turn;
        if *done == load.burst {
            policy.blocked(vm(slot), *done, true).expect("good");
            burst[index(slot)] = None;
            sleeping.push((std::cmp::Reverse(now + load.pause), slot));
        }
    }
    ran
}

/// An event or a question.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Ready(Seated, u16),
    Blocked(Seated, u64, bool),
    Ended(Seated),
    Next,
}

/// Steps about few seats, so that they meet, and now and then about any.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let vm = || {
        prop_oneof![
            9 => (0_u32..12, 1_u32..3).prop_map(|(slot, generation)| vm_of(slot, generation)),
            1 => (any::<u32>(), 1..=u32::MAX, any::<u16>())
                .prop_map(|(slot, generation, seat)| Seated { id: VmId::new(slot, generation), seat: Seat::new(seat) }),
        ]
    };
    let ticks = prop_oneof![9 => 0..3 * QUANTUM, 1 => any::<u64>()];
    let step = prop_oneof![
        4 => (vm(), any::<u16>()).prop_map(|(vm, weight)| Step::Ready(vm, weight)),
        3 => (vm(), ticks, any::<bool>()).prop_map(|(vm, ran, idle)| Step::Blocked(vm, ran, idle)),
        1 => vm().prop_map(Step::Ended),
        4 => Just(Step::Next),
    ];
    prop::collection::vec(step, 0..150)
}

/// Whatever has happened: events are refused when they make no sense, those that can run are counted, and only they are named.
/// Returns who can run in the end.
pub fn names_who_can_run<P: Policy>(policy: &mut P, steps: Vec<Step>) -> Result<BTreeSet<VmId>, TestCaseError> {
    policy.reset(QUANTUM);
    let mut model: BTreeMap<Seat, (VmId, bool)> = BTreeMap::new();
    let can_run = |model: &BTreeMap<Seat, (VmId, bool)>| {
        model.values().filter(|(_, able)| *able).map(|&(id, _)| id).collect::<BTreeSet<_>>()
    };
    for step in steps {
        match step {
            Step::Ready(vm, weight) => {
                let taken = policy.ready(vm, weight).is_ok();
                prop_assert_eq!(taken, vm.seat.index() < SEATS);
                if taken {
                    model.insert(vm.seat, (vm.id, true));
                }
            }
            Step::Blocked(vm, ran, idle) => {
                let other = model.get(&vm.seat).is_some_and(|known| known.0 != vm.id);
                let taken = policy.blocked(vm, ran, idle).is_ok();
                prop_assert_eq!(taken, vm.seat.index() < SEATS && !other);
                if taken {
                    model.insert(vm.seat, (vm.id, false));
                }
            }
            Step::Ended(vm) => {
                policy.ended(vm);
                if model.get(&vm.seat).is_some_and(|known| known.0 == vm.id) {
                    model.remove(&vm.seat);
                }
            }
            Step::Next => match policy.next() {
                Some(dispatch) => prop_assert!(can_run(&model).contains(&dispatch.vm)),
                None => prop_assert!(can_run(&model).is_empty()),
            },
        }
        let able = model.values().filter(|(_, able)| *able).count();
        prop_assert_eq!(usize::try_from(policy.runnable()).expect("few"), able);
    }
    Ok(model.into_values().filter(|(_, able)| *able).map(|(id, _)| id).collect())
}

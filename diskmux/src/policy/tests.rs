//! What every discipline has to hold, and what each of them promises.

use super::*;
use abi::note::TableBytes;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

/// Requests that the disks have at the same time.
const DEPTH: usize = 16;
/// Requests of a VM that are taken and have not ended, at most.
const AWAY: usize = 8;

/// A VM that asks.
#[derive(Clone)]
struct Asker {
    weight: u16,
    /// Its ring: blocks; none for a flush.
    ring: VecDeque<Option<u64>>,
    away: usize,
}

/// VMs, a discipline, and disks that end the oldest request first.
struct Lab<D> {
    discipline: D,
    vms: Vec<Asker>,
    disks: VecDeque<Waiting>,
    /// What has begun, in order.
    begun: Vec<Waiting>,
    ids: u32,
}

fn seat(index: usize) -> Seat {
    Seat::new(u16::try_from(index).expect("few"))
}

impl<D: Discipline> Lab<D> {
    fn new(vms: Vec<Asker>) -> Self {
        let bytes = TableBytes { per_seat: D::SEAT_BYTES, ..TableBytes::NONE };
        let mut discipline = D::new(&mut Tables::on_heap(bytes, 0, vms.len()));
        for (index, vm) in vms.iter().enumerate() {
            discipline.attach(seat(index), vm.weight);
            discipline.enqueue(seat(index));
        }
        Lab { discipline, vms, disks: VecDeque::new(), begun: Vec::new(), ids: 0 }
    }

    /// What the component does, with one request ended before.
    fn step(&mut self) {
        if let Some(ended) = self.disks.pop_front() {
            let vm = &mut self.vms[ended.seat.index()];
            vm.away -= 1;
            if vm.away + 1 == AWAY {
                self.discipline.enqueue(ended.seat);
            }
        }
        for _ in 0..1000 {
            if let Some(wanted) = self.discipline.wants() {
                let vm = &mut self.vms[wanted.index()];
                let Some(block) = (vm.away < AWAY).then(|| vm.ring.pop_front()).flatten() else {
                    self.discipline.nothing();
                    continue;
                };
                vm.away += 1;
                self.ids += 1;
                let order = block.map_or(DiskOrder::Flush, |block| DiskOrder::Read { block, slot: 0 });
                let at = block.unwrap_or(u64::MAX);
                let vm = VmId::new(u32::from(wanted.number()), 1);
                self.discipline.taken(Some(Waiting { vm, seat: wanted, id: self.ids, order, at }));
            } else if self.disks.len() < DEPTH
                && let Some(next) = self.discipline.next()
            {
                self.begun.push(next);
                self.disks.push_back(next);
            } else {
                return;
            }
        }
        panic!("it finds no end");
    }

    fn ask(&mut self, index: usize, block: Option<u64>) {
        self.vms[index].ring.push_back(block);
        self.discipline.enqueue(seat(index));
    }
}

fn asker(weight: u16, blocks: impl IntoIterator<Item = u64>) -> Asker {
    Asker { weight, ring: blocks.into_iter().map(Some).collect(), away: 0 }
}

/// Jain's index: 1 where all have the same, 1/n where one has all.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    sum * sum / (f64::from(u32::try_from(shares.len()).expect("few")) * squares)
}

/// Requests that each of 16 VMs has had begun, when all always have some and the first asks ten times as much as each other.
fn shares<D: Discipline>(steps: usize) -> Vec<f64> {
    let mut lab = Lab::<D>::new((0..16).map(|vm| asker(100, [vm * 40])).collect());
    for step in 0..steps {
        for vm in 0..16 {
            let more = if vm == 0 { 10 } else { 1 };
            for _ in 0..more {
                if lab.vms[vm].ring.len() < 100 * more {
                    lab.ask(vm, Some(vm as u64 * 40 + step as u64 % 40));
                }
            }
        }
        lab.step();
    }
    let of = |vm| lab.begun.iter().filter(|begun| begun.seat == seat(vm)).count();
    (0..16).map(|vm| f64::from(u32::try_from(of(vm)).expect("few"))).collect()
}

#[test]
fn one_that_asks_ten_times_as_much_gets_no_more() {
    let shares = shares::<Drr>(4000);
    assert!(jain(&shares) >= 0.95, "{shares:?}");
}

#[test]
fn turns_are_as_long_as_weights_say() {
    let mut lab = Lab::<Drr>::new(vec![asker(25, 0..3), asker(100, 0..9), asker(50, 0..2)]);
    (0..20).for_each(|_| lab.step());
    let order: Vec<u16> = lab.begun.iter().map(|begun| begun.seat.number()).collect();
    assert_eq!(order, [0, 1, 1, 1, 1, 2, 2, 0, 1, 1, 1, 1, 0, 1]);
    // Who weighs next to nothing is not forgotten.
    let mut lab = Lab::<Drr>::new(vec![asker(1, 0..2), asker(100, 0..5)]);
    (0..20).for_each(|_| lab.step());
    let order: Vec<u16> = lab.begun.iter().map(|begun| begun.seat.number()).collect();
    assert_eq!(order, [0, 1, 1, 1, 1, 0, 1]);
}

#[test]
fn who_comes_first_is_served_first() {
    let mut lab = Lab::<Fifo>::new(vec![asker(1, [7, 3, 5]), asker(100, []), asker(100, [9])]);
    lab.step();
    lab.ask(1, Some(1));
    lab.ask(0, Some(2));
    (0..9).for_each(|_| lab.step());
    let order: Vec<u64> = lab.begun.iter().map(|begun| begun.at).collect();
    assert_eq!(order, [7, 3, 5, 9, 1, 2]);
}

#[test]
fn the_elevator_goes_up_and_begins_anew() {
    let mut lab = Lab::<Elevator>::new(vec![asker(100, [50, 10, 30]), asker(100, [40, 20])]);
    lab.step();
    lab.ask(0, Some(15));
    lab.ask(1, Some(5));
    (0..9).for_each(|_| lab.step());
    let order: Vec<u64> = lab.begun.iter().map(|begun| begun.at).collect();
    assert_eq!(order, [10, 20, 30, 40, 50, 5, 15]);
}

/// Nobody waits for longer than some turns of all, whatever the others ask for.
fn nobody_starves<D: Discipline>(asked: &[Vec<u64>]) -> Result<(), TestCaseError> {
    // The last one asks once; the others for the same blocks for ever.
    let mut vms: Vec<Asker> = asked.iter().map(|blocks| asker(100, blocks.iter().copied())).collect();
    vms.push(asker(1, []));
    let (mut lab, patient) = (Lab::<D>::new(vms), asked.len());
    for round in 0..2 * (HELD + DEPTH) + (asked.len() + 2) * usize::from(TURN) * 4 {
        if round == 10 {
            lab.ask(patient, Some(500));
        }
        for (vm, blocks) in asked.iter().enumerate() {
            while lab.vms[vm].ring.len() < 16 {
                lab.ask(vm, Some(blocks[round % blocks.len()]));
            }
        }
        lab.step();
    }
    prop_assert!(lab.begun.iter().any(|begun| begun.seat == seat(patient)), "{} starves", D::NAME);
    Ok(())
}

/// Whatever is asked for begins once, and nothing passes what it must not.
fn in_order<D: Discipline>(asked: &[Vec<Option<u64>>]) -> Result<(), TestCaseError> {
    let vms = asked.iter().map(|ring| Asker { weight: 100, ring: ring.iter().copied().collect(), away: 0 }).collect();
    let mut lab = Lab::<D>::new(vms);
    let all: usize = asked.iter().map(Vec::len).sum();
    (0..all + 1).for_each(|_| lab.step());
    for (vm, ring) in asked.iter().enumerate() {
        let begun: Vec<&Waiting> = lab.begun.iter().filter(|begun| begun.seat == seat(vm)).collect();
        prop_assert_eq!(begun.len(), ring.len(), "{} forgets", D::NAME);
        for (index, one) in begun.iter().enumerate() {
            for before in &begun[..index] {
                let bound = one.at == before.at || one.is_flush() || before.is_flush();
                prop_assert!(!bound || before.id < one.id, "{}: {:?} passes {:?}", D::NAME, before, one);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_discipline_lets_anybody_starve(asked in prop::collection::vec(prop::collection::vec(0_u64..1000, 1..5), 1..12)) {
        nobody_starves::<Drr>(&asked)?;
        nobody_starves::<Elevator>(&asked)?;
        nobody_starves::<Fifo>(&asked)?;
    }

    #[test]
    fn no_discipline_forgets_or_overtakes(
        asked in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.8, 0_u64..6), 0..40), 1..12),
    ) {
        in_order::<Drr>(&asked)?;
        in_order::<Elevator>(&asked)?;
        in_order::<Fifo>(&asked)?;
    }

    /// One that asks for a hundred times as much gets no more than its share while others want theirs.
    #[test]
    fn nobody_is_crowded_out(greedy in 100_u64..1000, others in prop::collection::vec(1_u64..20, 1..12)) {
        let vms = core::iter::once(greedy).chain(others.iter().copied()).map(|requests| asker(100, 0..requests)).collect();
        let mut lab = Lab::<Drr>::new(vms);
        (0..1300).for_each(|_| lab.step());
        for (vm, own) in (1..).zip(&others) {
            let last = lab.begun.iter().rposition(|begun| begun.seat == seat(vm)).expect("served");
            let of_greedy = lab.begun[..last].iter().filter(|begun| begun.seat == seat(0)).count();
            prop_assert!(of_greedy <= usize::try_from(*own).expect("small") + 2 * 4, "{} before {} were done", of_greedy, own);
        }
    }
}

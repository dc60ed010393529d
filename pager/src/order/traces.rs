//! The orders on traces of wakes: each against its textbook form, and against each other under Zipf's law.

use super::*;
use abi::note::TableBytes;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

/// Ticks between two wakes: a VM has answered and idles long before the next one.
const STEP: u64 = 1000;
const GRACE: u64 = 100;

/// What orders see.
struct Eyes {
    now: u64,
    idle: RefCell<Vec<u64>>,
}

impl Look for Eyes {
    fn now(&self) -> u64 {
        self.now
    }

    fn idle_since(&self, seat: Seat) -> u64 {
        self.idle.borrow()[seat.index()]
    }

    fn is_refused(&self, _: Seat) -> bool {
        false
    }

    fn grace(&self) -> u64 {
        GRACE
    }
}

/// Whom it was necessary to let in for each wake, with room for so many: by this order.
fn misses<O: Order>(trace: &[u32], room: usize) -> Vec<u32> {
    let mut tables = Tables::on_heap(TableBytes { per_seat: O::SEAT_BYTES, ..TableBytes::NONE }, 0, room);
    let mut order = O::new(&mut tables);
    let mut eyes = Eyes { now: 1, idle: vec![0; room].into() };
    let mut seats: HashMap<u32, Seat> = HashMap::new();
    let mut who = vec![None; room];
    let mut missed = Vec::new();
    for &vm in trace {
        eyes.now += STEP;
        let seat = seats.get(&vm).copied().unwrap_or_else(|| {
            missed.push(vm);
            let free = (0..).map(Seat::new).take(room).find(|seat| who[seat.index()].is_none());
            let seat = free.unwrap_or_else(|| {
                // Twice round, and it comes to an end.
                let found = (0..2 * room + 3).find_map(|_| match order.next(&eyes) {
                    Search::Found(seat) => Some(seat),
                    _ => None,
                });
                found.expect("all idle")
            });
            if let Some(gone) = who[seat.index()].replace(vm) {
                order.remove(seat);
                seats.remove(&gone);
            }
            seats.insert(vm, seat);
            order.insert(seat, &eyes);
            seat
        });
        // It has answered, and idles.
        eyes.idle.borrow_mut()[seat.index()] = eyes.now + 1;
    }
    missed
}

/// The same as in the textbook.
fn textbook(trace: &[u32], room: usize, is_lru: bool) -> Vec<u32> {
    let (mut queue, mut missed) = (VecDeque::new(), Vec::new());
    for &vm in trace {
        match queue.iter().position(|&other| other == vm) {
            Some(at) if is_lru => {
                queue.remove(at);
                queue.push_back(vm);
            }
            Some(_) => {}
            None => {
                if queue.len() == room {
                    queue.pop_front();
                }
                queue.push_back(vm);
                missed.push(vm);
            }
        }
    }
    missed
}

/// SIEVE as in the paper: one list, a mark for each, and a hand.
fn sieve(trace: &[u32], room: usize) -> Vec<u32> {
    let (mut list, mut hand, mut missed): (Vec<(u32, bool)>, usize, Vec<u32>) = (Vec::new(), 0, Vec::new());
    for &vm in trace {
        if let Some(entry) = list.iter_mut().find(|(other, _)| *other == vm) {
            entry.1 = true;
            continue;
        }
        missed.push(vm);
        if list.len() == room {
            loop {
                if hand == list.len() {
                    hand = 0;
                }
                if !core::mem::take(&mut list[hand].1) {
                    break;
                }
                hand += 1;
            }
            list.remove(hand);
        }
        list.push((vm, false));
    }
    missed
}

/// Wakes of `vms` VMs by Zipf's law with exponent 1, the same in every run.
fn zipf(vms: u32, wakes: usize) -> Vec<u32> {
    let sums: Vec<f64> = (1..=vms)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    let mut state = 1_u64;
    (0..wakes)
        .map(|_| {
            // Knuth's generator (MMIX), of which the upper half is good.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = f64::from(u32::try_from(state >> 32).expect("half")) / f64::from(u32::MAX);
            let vm = sums.partition_point(|&sum| sum < chance * sums[sums.len() - 1]);
            u32::try_from(vm).expect("few")
        })
        .collect()
}

/// Room for a tenth of 2,000 VMs: which share of the wakes finds its VM out, in thousandths. `cargo xtask bench paging-policies` plays more.
#[test]
fn under_zipfs_law_sieve_wakes_fewest() {
    let trace = zipf(2000, 60_000);
    let share = |missed: Vec<u32>| missed.len() * 1000 / trace.len();
    let shares =
        [share(misses::<Sieve>(&trace, 200)), share(misses::<Lru>(&trace, 200)), share(misses::<Fifo>(&trace, 200))];
    let [sieve, lru, fifo] = shares;
    assert!(sieve < lru && lru < fifo, "{shares:?}");
    assert_eq!(shares, [311, 390, 441]);
}

proptest! {
    #[test]
    fn each_is_what_the_textbook_says(trace in prop::collection::vec(0..30_u32, 0..400), room in 1..20_usize) {
        prop_assert_eq!(misses::<Fifo>(&trace, room), textbook(&trace, room, false));
        prop_assert_eq!(misses::<Lru>(&trace, room), textbook(&trace, room, true));
        prop_assert_eq!(misses::<Sieve>(&trace, room), sieve(&trace, room));
    }
}

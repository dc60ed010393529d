//! Rates and bursts under token buckets.

use super::*;
use crate::policy::test_link::{Departure, HZ, Sender, bytes_by_vm, new, send};
use abi::share::BURST;
use proptest::prelude::*;
use std::vec::Vec;

fn sender(rate: u32, burst: u32, lengths: &[usize]) -> Sender {
    Sender { share: Share { rate, burst, ..Share::DEFAULT }, lengths: lengths.to_vec(), at_once: usize::MAX }
}

/// Fails when a VM sent more than `rate * t + burst` bytes in any time.
fn within(departures: &[Departure], slot: u16, rate: u32, burst: u32) -> Result<(), TestCaseError> {
    // The bucket as a counter, emptied exactly: it is never overdrawn.
    let (mut level, mut last) = (u128::from(burst) * u128::from(HZ), 0);
    for departure in departures.iter().filter(|departure| departure.seat == Seat::new(slot)) {
        let flowed = u128::from(departure.time - last) * u128::from(rate);
        level = (level + flowed).min(u128::from(burst) * u128::from(HZ));
        last = departure.time;
        let bytes = u128::try_from(departure.len).expect("small") * u128::from(HZ);
        // One tick's worth is lost in rounding.
        prop_assert!(level + u128::from(rate) >= bytes, "{departure:?} with {level} in the bucket");
        level = level.saturating_sub(bytes);
    }
    Ok(())
}

#[test]
fn a_limited_vm_gets_its_rate_though_the_wire_is_idle() {
    let senders = [sender(1_000_000, BURST, &[1514]), sender(50_000, 3000, &[60, 900])];
    let departures = send(&mut new::<TokenBucket>(4), &senders, 10 * HZ, 8);
    let bytes = bytes_by_vm(&departures, 2);
    assert!((9_900_000..=10_065_536).contains(&bytes[0]), "{bytes:?}");
    assert!((495_000..=503_000).contains(&bytes[1]), "{bytes:?}");
}

#[test]
fn others_share_what_the_limited_leave() {
    let senders =
        [sender(1_000_000, BURST, &[1514]), sender(UNLIMITED, BURST, &[1514]), sender(UNLIMITED, BURST, &[1514])];
    let bytes = bytes_by_vm(&send(&mut new::<TokenBucket>(4), &senders, HZ, 8), 3);
    assert!(bytes[0] <= 1_065_536 && bytes[0] >= 990_000, "{bytes:?}");
    assert!(bytes[1].abs_diff(bytes[2]) <= u64::from(BURST) && bytes[1] > 60_000_000, "{bytes:?}");
}

#[test]
fn who_waits_is_not_asked_before_its_time() {
    let mut buckets = new::<TokenBucket>(4);
    buckets.start(HZ);
    buckets.attach(Seat::new(0), Share { rate: 1000, burst: 2000, ..Share::DEFAULT }, 0);
    buckets.enqueue(Seat::new(0));
    // A frame's worth at first, not the burst.
    let turn = Next::Turn(Turn { seat: Seat::new(0), allowance: 1514, buffers: BUFFERS });
    assert_eq!(buckets.next(0), turn);
    buckets.finish(Seat::new(0), 0, More::Perhaps, 0);
    assert_eq!(buckets.next(0), Next::Turn(Turn { seat: Seat::new(0), allowance: 0, buffers: BUFFERS }));
    buckets.finish(Seat::new(0), 0, More::Frame(100), 0);
    // A tenth of a second, and a tick for rounding.
    let Next::At(due) = buckets.next(0) else { panic!("it has to wait") };
    assert!((HZ / 10..=HZ / 10 + 2).contains(&due), "{due}");
    assert!(!buckets.is_empty());
    buckets.enqueue(Seat::new(0));
    assert_eq!(buckets.next(due - 1), Next::At(due), "a kick does not shorten the time");
    assert!(matches!(buckets.next(due), Next::Turn(Turn { seat, allowance: 100, .. }) if seat == Seat::new(0)));
    buckets.finish(Seat::new(0), 100, More::Nothing, due);
    assert!(buckets.is_empty());
    // After a long pause it has its burst, and no more.
    buckets.enqueue(Seat::new(0));
    assert!(matches!(buckets.next(100 * HZ), Next::Turn(Turn { allowance: 2000, .. })));
    buckets.remove(Seat::new(0));
    assert_eq!((buckets.next(100 * HZ), buckets.is_empty()), (Next::Nobody, true));
}

#[test]
fn senseless_shares_do_no_harm() {
    let mut buckets = new::<TokenBucket>(4);
    for share in [
        Share::UNSAID,
        Share { rate: 1, burst: 0, weight: 0 },
        Share { rate: u32::MAX - 1, burst: u32::MAX, weight: 1 },
    ] {
        buckets.attach(Seat::new(9), share, 0);
        buckets.attach(Seat::new(3), share, u64::MAX);
        buckets.enqueue(Seat::new(9));
        buckets.enqueue(Seat::new(3));
        // Before the start the clock has no speed.
        assert!(matches!(buckets.next(u64::MAX), Next::Turn(_)));
        buckets.finish(Seat::new(3), i32::MIN, More::Frame(i32::MAX), u64::MAX);
        buckets.finish(Seat::new(9), 0, More::Perhaps, 0);
        buckets.remove(Seat::new(3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nobody_exceeds_rate_and_burst(
        senders in prop::collection::vec(
            (1_000_u32..20_000_000, BURST_MIN..100_000_u32, prop::collection::vec(14_usize..=1514, 1..5)), 1..6,
        ),
        ticks_per_byte in 0_u64..40,
    ) {
        let all: Vec<_> = senders.iter().map(|(rate, burst, lengths)| sender(*rate, *burst, lengths)).collect();
        let departures = send(&mut new::<TokenBucket>(8), &all, HZ, ticks_per_byte);
        for (slot, (rate, burst, _)) in (0..).zip(&senders) {
            within(&departures, slot, *rate, *burst)?;
        }
    }

    /// On a wire that has room for all, each gets its rate.
    #[test]
    fn nobody_starves(rates in prop::collection::vec(10_000_u32..1_000_000, 1..8), len in 60_usize..=1514) {
        let senders: Vec<_> = rates.iter().map(|&rate| sender(rate, 8 * 1514, &[len])).collect();
        let bytes = bytes_by_vm(&send(&mut new::<TokenBucket>(8), &senders, 2 * HZ, 8), rates.len());
        for (&bytes, &rate) in bytes.iter().zip(&rates) {
            // The last frame may still wait.
            prop_assert!(bytes + 1514 >= 2 * u64::from(rate) * 98 / 100, "{bytes} at {rate} a second");
        }
    }

    #[test]
    fn counts_who_is_queued(steps in prop::collection::vec((0..5_u8, 0..6_u16, 0..3000_i32), 0..200)) {
        let mut buckets = new::<TokenBucket>(6);
        buckets.start(1_000_000);
        let share = Share { rate: 1_000_000, burst: 2000, ..Share::DEFAULT };
        let mut queued = [false; 6];
        let mut now = 0;
        for slot in 0..6 {
            buckets.attach(Seat::new(slot), share, 0);
        }
        for (step, slot, number) in steps {
            match step {
                0 | 1 => {
                    buckets.enqueue(Seat::new(slot));
                    queued[usize::from(slot)] = true;
                }
                2 => {
                    buckets.remove(Seat::new(slot));
                    queued[usize::from(slot)] = false;
                }
                3 => now += u64::try_from(number).expect("positive"),
                _ => match buckets.next(now) {
                    Next::Turn(turn) => {
                        prop_assert!(queued[turn.seat.index()] && turn.allowance >= 0);
                        let more = if number % 2 == 0 { More::Frame(number.min(1514)) } else { More::Nothing };
                        buckets.finish(turn.seat, turn.allowance / 2, more, now);
                        queued[turn.seat.index()] = number % 2 == 0;
                    }
                    Next::At(time) => prop_assert!(time > now && queued.contains(&true)),
                    Next::Nobody => prop_assert!(!queued.contains(&true)),
                },
            }
            prop_assert_eq!(buckets.is_empty(), !queued.contains(&true));
        }
    }
}

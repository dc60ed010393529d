//! Shares of bytes under deficit round robin.

use super::*;
use crate::policy::test_link::{Sender, bytes_by_vm, new, send};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const SECOND: u64 = 1_000_000_000;

fn sender(weight: u16, lengths: &[usize]) -> Sender {
    Sender { share: Share { weight, ..Share::DEFAULT }, lengths: lengths.to_vec(), at_once: usize::MAX }
}

fn turn(drr: &mut Drr) -> Option<Turn> {
    match drr.next(0) {
        Next::Turn(turn) => Some(turn),
        Next::Nobody => None,
        Next::At(_) => panic!("nobody waits for a time"),
    }
}

#[test]
fn short_and_long_frames_get_the_same_bytes() {
    let senders = [sender(100, &[60]), sender(100, &[1514]), sender(100, &[60, 1514, 700])];
    let bytes = bytes_by_vm(&send(&mut new::<Drr>(4), &senders, SECOND, 8), 3);
    let (least, most) = (bytes.iter().min().expect("three"), bytes.iter().max().expect("three"));
    assert!(most - least <= u64::from(QUANTUM) + 1514, "{bytes:?}");
    assert!(*least > 40_000_000, "{bytes:?}");
}

#[test]
fn a_deficit_is_kept_while_there_is_more_and_then_forgotten() {
    let mut drr = new::<Drr>(4);
    drr.enqueue(Seat::new(1));
    let first = turn(&mut drr).expect("queued");
    assert_eq!(first, Turn { seat: Seat::new(1), allowance: 3028, buffers: BUFFERS });
    assert!(drr.affords(1514, 1514) && !drr.affords(1513, 1514));
    drr.finish(Seat::new(1), 1000, More::Frame(1514), 0);
    assert_eq!(turn(&mut drr).expect("queued again").allowance, 4028);
    drr.finish(Seat::new(1), 1000, More::Nothing, 0);
    assert!(drr.is_empty());
    drr.enqueue(Seat::new(1));
    assert_eq!(turn(&mut drr).expect("queued").allowance, 3028);
    // What a record without sense cost beyond the allowance is owed.
    drr.finish(Seat::new(1), -100, More::Nothing, 0);
    drr.enqueue(Seat::new(1));
    assert_eq!(turn(&mut drr).expect("queued").allowance, 2928);
    drr.remove(Seat::new(1));
    drr.enqueue(Seat::new(1));
    assert_eq!(turn(&mut drr).expect("queued").allowance, 3028);
}

#[test]
fn the_least_weight_sends_in_the_end() {
    let senders = [sender(1, &[1514]), sender(100, &[1514])];
    let bytes = bytes_by_vm(&send(&mut new::<Drr>(4), &senders, SECOND, 8), 2);
    assert!(bytes[0].abs_diff(bytes[1] / 100) <= 1514 + bytes[0] / 100, "{bytes:?}");
}

#[test]
fn weights_beyond_the_limits_are_brought_within() {
    let mut drr = new::<Drr>(2);
    for (slot, weight) in [(0, 0), (1, u16::MAX)] {
        drr.attach(Seat::new(slot), Share { weight, ..Share::DEFAULT }, 0);
        drr.enqueue(Seat::new(slot));
    }
    drr.attach(Seat::new(2), Share::DEFAULT, 0);
    drr.enqueue(Seat::new(2));
    let turns: Vec<_> = core::iter::from_fn(|| turn(&mut drr)).map(|turn| turn.allowance).collect();
    assert_eq!(turns, vec![30, 302_800]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Among VMs that always have more to send, bytes go by weight, to a hundredth.
    #[test]
    fn bytes_go_by_weight(senders in prop::collection::vec(
        (20_u16..600, prop::collection::vec(14_usize..=1514, 1..5)), 2..6,
    )) {
        // Frames so short that buffers bound a turn would get less.
        let long = |lengths: &[usize], weight: u16| {
            let mean = lengths.iter().sum::<usize>() / lengths.len();
            mean * usize::from(BUFFERS) * 9 / 10 > 3028 * usize::from(weight) / 100 + 1514
        };
        prop_assume!(senders.iter().all(|(weight, lengths)| long(lengths, *weight)));
        let weights: Vec<u64> = senders.iter().map(|(weight, _)| u64::from(*weight)).collect();
        let senders: Vec<_> = senders.iter().map(|(weight, lengths)| sender(*weight, lengths)).collect();
        let bytes = bytes_by_vm(&send(&mut new::<Drr>(8), &senders, SECOND, 8), senders.len());
        let (total, sum) = (bytes.iter().sum::<u64>(), weights.iter().sum::<u64>());
        for (&bytes, &weight) in bytes.iter().zip(&weights) {
            let share = total * weight / sum;
            prop_assert!(bytes.abs_diff(share) <= share / 100 + 20_000, "{bytes} where {share} were to be");
        }
    }

    /// Whoever has little to send gets it sent, whatever the others do.
    #[test]
    fn nobody_starves(at_once in 1_usize..4, others in 1_usize..6) {
        let modest = Sender { at_once, ..sender(100, &[200]) };
        let senders: Vec<_> = core::iter::once(modest).chain((0..others).map(|_| sender(100, &[1514]))).collect();
        let departures = send(&mut new::<Drr>(8), &senders, SECOND / 10, 8);
        let mut last = 0;
        for departure in departures.iter().filter(|departure| departure.seat == Seat::new(0)) {
            // A round: a quantum and a frame of each of the others.
            prop_assert!(departure.time - last <= 8 * (3028 + 1514 + 1000) * (u64::try_from(others).expect("few") + 1));
            last = departure.time;
        }
        prop_assert!(last > SECOND / 20);
    }
}

//! Flights over a path that delays and loses.

use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::VecDeque;

const MSS: u32 = 1460;
const MS: u64 = 1000;
/// One that wraps in the middle of every test.
const START: u32 = u32::MAX - 40_000;

/// When an acknowledgement arrives, of what, with which window, and with which ranges.
type Answer = (u64, u32, u32, Vec<(u32, u32)>);

/// The other end, and the way there and back.
struct Path {
    /// One way, in microseconds.
    delay: u64,
    /// The number of the next segment that is sent, and which of them get lost.
    sent: u64,
    loses: Box<dyn FnMut(u64) -> bool>,
    to_peer: VecDeque<(u64, u32, u32)>,
    to_us: VecDeque<Answer>,
    /// What has arrived, from `START` on.
    arrived: Vec<bool>,
    next: usize,
    window: u32,
    selective: bool,
    /// Segments that were sent for a second time, and how often the timer ran out.
    again: u64,
    timeouts: u64,
}

impl Path {
    fn new(delay: u64, window: u32, selective: bool, loses: impl FnMut(u64) -> bool + 'static) -> Path {
        Path {
            delay,
            sent: 0,
            loses: Box::new(loses),
            to_peer: VecDeque::new(),
            to_us: VecDeque::new(),
            arrived: Vec::new(),
            next: 0,
            window,
            selective,
            again: 0,
            timeouts: 0,
        }
    }

    fn take(&mut self, now: u64, seq: u32, len: u32) {
        let at = usize::try_from(seq.wrapping_sub(START)).unwrap();
        let end = at + usize::try_from(len).unwrap();
        if self.arrived.len() < end {
            self.arrived.resize(end, false);
        }
        self.arrived[at..end].fill(true);
        while self.arrived.get(self.next) == Some(&true) {
            self.next += 1;
        }
        let next = self.next;
        let seq = |at: usize| START.wrapping_add(u32::try_from(at).unwrap());
        let mut ranges = Vec::new();
        let mut from = next;
        while self.selective
            && ranges.len() < 3
            && let Some(start) = self.arrived[from..].iter().position(|arrived| *arrived).map(|at| from + at)
        {
            from =
                self.arrived[start..].iter().position(|arrived| !arrived).map_or(self.arrived.len(), |at| start + at);
            ranges.push((seq(start), seq(from)));
        }
        self.to_us.push_back((now + self.delay, seq(next), self.window, ranges));
    }
}

/// Sends `bytes`; how long it takes, in microseconds.
fn send(flight: &mut Flight, path: &mut Path, bytes: u32) -> u64 {
    let end = START.wrapping_add(bytes);
    flight.resume(START, path.window, 0);
    flight.set_len(usize::try_from(bytes).unwrap());
    let mut now = 0;
    let mut highest = 0;
    loop {
        while path.to_peer.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, seq, len) = path.to_peer.pop_front().unwrap();
            path.take(now, seq, len);
        }
        while path.to_us.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, ack, window, ranges) = path.to_us.pop_front().unwrap();
            flight.heard(ack, window, &ranges, true, now);
            let left = end.wrapping_sub(flight.sent().0);
            flight.set_len(usize::try_from(left).unwrap());
            if left == 0 {
                assert!(path.arrived.iter().all(|arrived| *arrived));
                assert_eq!(path.arrived.len(), usize::try_from(bytes).unwrap());
                return now;
            }
        }
        path.timeouts += u64::from(flight.expire(now) > 0);
        while let Some((seq, len)) = flight.segment(now) {
            let (una, next) = flight.sent();
            assert!(len > 0 && len <= MSS && seq.wrapping_sub(una) + len <= next.wrapping_sub(una));
            assert!(next.wrapping_sub(START) <= bytes, "nothing is sent that is not there");
            assert!(path.window == 0 || next.wrapping_sub(una) <= flight.widest.max(1), "no more than the peer takes");
            path.again += u64::from(seq.wrapping_sub(START) < highest);
            highest = highest.max(seq.wrapping_sub(START) + len);
            path.sent += 1;
            if !(path.loses)(path.sent) {
                path.to_peer.push_back((now + path.delay, seq, len));
            }
        }
        let arrivals =
            path.to_peer.front().map(|(at, ..)| *at).into_iter().chain(path.to_us.front().map(|(at, ..)| *at));
        now = arrivals.chain([flight.deadline()]).min().unwrap().max(now + 1);
        assert!(now < 3600 * 1000 * MS, "it stalls: {flight:?}");
    }
}

fn flight() -> Flight {
    Flight::new(START, MSS, 0)
}

#[test]
fn the_rate_is_a_window_for_each_round_trip() {
    let mut path = Path::new(50 * MS, 65_535, true, |_| false);
    let took = send(&mut flight(), &mut path, 4_000_000);
    // 4 MB at 64 KiB for each 100 ms are 6.1 s, and slow start takes three round trips more.
    assert!((6_000 * MS..6_600 * MS).contains(&took), "{took}");
    assert_eq!(path.again, 0);
}

#[test]
fn it_begins_with_ten_segments_and_doubles() {
    let mut flight = flight();
    flight.resume(START, 1 << 20, 0);
    flight.set_len(1 << 20);
    let mut next = |now| core::iter::from_fn(|| flight.segment(now)).count();
    assert_eq!(next(0), 10);
    for n in 1..=5 {
        flight.heard(START.wrapping_add(2 * n * MSS), 1 << 20, &[], true, 100 * MS);
    }
    assert_eq!(core::iter::from_fn(|| flight.segment(100 * MS)).count(), 20);
}

#[test]
fn one_loss_costs_half_of_the_window_and_no_time() {
    for selective in [true, false] {
        let mut path = Path::new(50 * MS, 1 << 17, selective, |number| number == 30);
        let mut flight = flight();
        let took = send(&mut flight, &mut path, 1_000_000);
        assert_eq!((path.again, path.timeouts), (1, 0), "what was lost, and nothing else");
        // From half of what was on its way then, a segment more each round trip.
        assert!((15..40).contains(&(flight.ssthresh / MSS)) && flight.cwnd >= flight.ssthresh, "{flight:?}");
        assert!(took < 5_000 * MS, "{took}");
    }
}

#[test]
fn many_losses_in_one_window() {
    let lost = |number| (40..60).contains(&number) && number % 3 == 0;
    let mut path = Path::new(50 * MS, 1 << 17, true, lost);
    send(&mut flight(), &mut path, 500_000);
    assert_eq!((path.again, path.timeouts), (6, 0), "all six, and without the timer");
}

#[test]
fn a_lost_tail_is_found_without_the_timer() {
    // A hundred segments, of which the last few are lost. RFC 6298 alone waits a second.
    for (lost, selective) in [(1, true), (1, false), (4, true)] {
        let mut path = Path::new(20 * MS, 1 << 17, selective, move |number| (101 - lost..101).contains(&number));
        let mut flight = flight();
        let took = send(&mut flight, &mut path, 100 * MSS);
        assert_eq!(path.timeouts, 0, "{lost}, {selective}");
        assert_eq!(path.again, lost, "{lost}, {selective}: what was lost, and nothing else");
        assert!(took < 600 * MS, "{lost}, {selective}: {took}");
        assert!(flight.cwnd < 60 * MSS, "a loss that was mended is a loss");
    }
    // Acknowledgements that are late, and not lost, cost a probe and no window.
    let mut flight = flight();
    let mut path = Path::new(20 * MS, 1 << 17, true, |_| false);
    send(&mut flight, &mut path, 20 * MSS);
    let (una, _) = flight.sent();
    flight.resume(una, 1 << 17, 1000 * MS);
    let cwnd = flight.cwnd;
    flight.set_len(3 * 1460);
    while flight.segment(1000 * MS).is_some() {}
    let due = flight.deadline();
    assert!((1000 * MS + 80 * MS..1000 * MS + 300 * MS).contains(&due), "{due}");
    assert_eq!((flight.expire(due), flight.segment(due)), (0, Some((una.wrapping_add(2 * MSS), MSS))));
    assert_eq!(flight.segment(due), None, "once");
    flight.heard(una.wrapping_add(3 * MSS), 1 << 17, &[], true, due + MS);
    assert_eq!(flight.cwnd, cwnd);
    // The probe is lost, too: then the timer, once.
    let mut path = Path::new(20 * MS, 1 << 17, true, |number| (100..102).contains(&number));
    let took = send(&mut self::flight(), &mut path, 100 * MSS);
    assert!(path.timeouts == 1 && took > 1_000 * MS, "{took}");
}

#[test]
fn a_silent_network_is_asked_less_and_less() {
    // The first ten arrive, then nothing: neither the twenty that follow, nor what is sent again three times.
    let mut path = Path::new(50 * MS, 1 << 16, true, |number| (11..34).contains(&number));
    let took = send(&mut flight(), &mut path, 100_000);
    assert!(path.timeouts == 4 && took > 15_000 * MS, "{} after {took}", path.timeouts);
    let mut flight = flight();
    flight.resume(START, 1 << 16, 0);
    flight.set_len(100_000);
    while flight.segment(0).is_some() {}
    let mut times = Vec::new();
    let mut now = 0;
    for _ in 0..8 {
        let deadline = flight.deadline();
        times.push(deadline - now);
        now = deadline;
        flight.expire(now);
        assert_eq!(flight.segment(now), Some((START, MSS)));
        assert_eq!(flight.segment(now), None, "one segment at a time");
    }
    assert_eq!(times, [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| seconds * 1000 * MS));
}

#[test]
fn the_timer_follows_what_is_measured() {
    let mut path = Path::new(900 * MS, 1 << 16, true, |_| false);
    let mut flight = flight();
    send(&mut flight, &mut path, 300_000);
    let (smooth, _) = flight.trip.measured.expect("measured");
    assert!((1_700 * MS..1_900 * MS).contains(&smooth), "{smooth}");
    assert!(flight.trip.timeout >= smooth && flight.trip.timeout < 3 * smooth, "{}", flight.trip.timeout);
}

#[test]
fn a_closed_window_is_probed_and_opens() {
    let mut flight = flight();
    flight.resume(START, 0, 0);
    flight.set_len(10_000);
    assert_eq!(flight.segment(0), None);
    let mut now = 0;
    for seconds in [1, 2, 4] {
        assert_eq!(flight.deadline(), now + seconds * 1000 * MS);
        now = flight.deadline();
        assert_eq!(flight.expire(now), 0, "that is no loss");
        assert_eq!(flight.segment(now), Some((START, 1)));
        assert_eq!(flight.segment(now), None);
        assert_eq!(flight.heard(START, 0, &[], true, now + 1), 0);
    }
    assert!(!flight.recovering && flight.cwnd == 10 * MSS);
    flight.heard(START, 3_000, &[], true, now + 2);
    assert_eq!(flight.segment(now + 2), Some((START, MSS)));
    assert_eq!(flight.segment(now + 2), Some((START.wrapping_add(MSS), MSS)));
    assert_eq!(flight.segment(now + 2), None, "80 bytes would be silly");
}

#[test]
fn after_a_pause_the_window_is_that_of_the_beginning() {
    let mut flight = flight();
    send(&mut flight, &mut Path::new(50 * MS, 1 << 17, true, |_| false), 1_000_000);
    assert!(flight.cwnd > 10 * MSS);
    let last = flight.last_sent;
    let (una, _) = flight.sent();
    flight.resume(una, 1 << 17, last + 900 * MS);
    assert!(flight.cwnd > 10 * MSS);
    flight.resume(una, 1 << 17, last + 3_000 * MS);
    assert_eq!(flight.cwnd, 10 * MSS);
}

#[test]
fn acknowledgements_of_what_was_not_sent_are_nothing() {
    let mut flight = flight();
    flight.resume(START, 1 << 16, 0);
    flight.set_len(10_000);
    flight.segment(0);
    for ack in [START.wrapping_add(MSS + 1), START.wrapping_sub(1), START.wrapping_add(1 << 31)] {
        assert_eq!(flight.heard(ack, 1 << 16, &[(ack, ack.wrapping_add(5))], true, 1), 0);
    }
    assert_eq!(flight.sent(), (START, START.wrapping_add(MSS)));
    assert!(flight.sacked.is_empty() && flight.duplicates == 0);
}

proptest! {
    /// Whatever is lost, everything arrives.
    #[test]
    fn everything_arrives(
        selective: bool,
        window in 200u32..100_000,
        bytes in 1u32..100_000,
        delay in 0u64..300_000,
        lost in prop::collection::vec(0u64..150, 0..60),
    ) {
        let mut path = Path::new(delay, window, selective, move |number| lost.contains(&number));
        send(&mut flight(), &mut path, bytes);
    }

    /// Ranges stay in order, apart, and above what is acknowledged; no count goes below zero.
    #[test]
    fn any_ranges(said in prop::collection::vec((0u32..20_000, 0u32..20_000, 0u32..300, 0u32..4), 1..60)) {
        let mut flight = flight();
        flight.resume(START, 1 << 16, 0);
        flight.set_len(1 << 20);
        let mut now = 0;
        for (start, end, ack, times) in said {
            while flight.segment(now).is_some() {}
            let (una, next) = flight.sent();
            for _ in 0..times {
                let range = (una.wrapping_add(start), una.wrapping_add(end));
                flight.heard(una.wrapping_add(ack.min(next.wrapping_sub(una))), 1 << 16, &[range], true, now);
                flight.set_len(1 << 20);
                let (una, next) = flight.sent();
                let mut last = 0;
                for &(start, end) in &flight.sacked {
                    prop_assert!(start.wrapping_sub(una) > last && start.wrapping_sub(una) < end.wrapping_sub(una));
                    last = end.wrapping_sub(una);
                }
                prop_assert!(last <= next.wrapping_sub(una) && flight.sacked.len() <= MAX_RANGES);
                prop_assert!(flight.pipe() <= next.wrapping_sub(una));
                prop_assert!(flight.at(flight.again) <= flight.at(next) && flight.at(flight.lost_to) <= flight.at(next));
            }
            now += 1000;
            flight.expire(now);
        }
    }
}

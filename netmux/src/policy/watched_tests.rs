//! Good disciplines are never blamed, and those that are no good are.

use super::super::{Drr, RoundRobin, TokenBucket, Turn};
use super::*;
use abi::note::TableBytes;
use proptest::prelude::*;

/// Ticks in a second.
const HZ: u64 = 1_000_000;

fn watched<D: Discipline>(seats: usize) -> Watched<D> {
    let bytes = TableBytes { per_slot: 0, per_seat: Watched::<D>::SEAT_BYTES, ..TableBytes::NONE };
    let mut watched = Watched::new(&mut Tables::on_heap(bytes, 0, seats));
    watched.start(HZ);
    watched
}

/// Round robin, but for one seat, and with other answers where there is nothing to say.
struct Bad<const LEFT_OUT: u16, const WHAT: u8> {
    inner: RoundRobin,
}

impl<const LEFT_OUT: u16, const WHAT: u8> Discipline for Bad<LEFT_OUT, WHAT> {
    const NAME: &'static str = "bad";
    const SEAT_BYTES: u32 = RoundRobin::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Bad { inner: RoundRobin::new(tables) }
    }

    fn enqueue(&mut self, seat: Seat) {
        if seat.number() != LEFT_OUT {
            self.inner.enqueue(seat);
        }
    }

    fn next(&mut self, now: u64) -> Next {
        match self.inner.next(now) {
            Next::Nobody if WHAT == 1 => Next::At(now),
            Next::Nobody if WHAT == 2 => Next::At(now + 1000),
            next => next,
        }
    }

    fn finish(&mut self, seat: Seat, left: i32, more: More, now: u64) {
        self.inner.finish(seat, left, more, now);
    }

    fn remove(&mut self, seat: Seat) {
        self.inner.remove(seat);
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

/// The fault after so many turns at most, a tick each, when all these seats always have something to send.
fn fault_of<D: Discipline>(seats: &[u16], turns: u64, ticks: u64) -> (Option<Fault>, u64) {
    let mut watched = watched::<D>(8);
    for &seat in seats {
        watched.attach(Seat::new(seat), Share::DEFAULT, 0);
        watched.enqueue(Seat::new(seat));
    }
    for turn in 0..turns {
        let now = turn * ticks;
        if let Next::Turn(Turn { seat, allowance, .. }) = watched.next(now) {
            watched.finish(seat, allowance - 100, More::Perhaps, now);
        }
        if watched.fault().is_some() {
            return (watched.fault(), turn);
        }
    }
    (None, turns)
}

#[test]
fn who_lets_nobody_send_is_found_out_at_once() {
    assert_eq!(fault_of::<Bad<3, 0>>(&[3], 10, 1), (Some(Fault::Swallows), 0));
}

#[test]
fn who_names_times_that_have_come_is_found_out() {
    assert_eq!(fault_of::<Bad<3, 1>>(&[3], 1000, 1), (Some(Fault::Dithers), u64::from(EARLY_MOST)));
}

#[test]
fn who_puts_off_for_ever_is_found_out() {
    let (fault, turns) = fault_of::<Bad<3, 2>>(&[3], 1000, 1000);
    assert_eq!(fault, Some(Fault::Starves(Seat::new(3))));
    // A quarter of a second, after a look at each seat in front.
    assert!((250..260).contains(&turns), "{turns}");
}

#[test]
fn who_leaves_one_out_is_found_out() {
    for seats in [&[3, 0, 1][..], &[3, 5], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        let (fault, turns) = fault_of::<Bad<3, 0>>(seats, 10_000, 1000);
        assert_eq!(fault, Some(Fault::Starves(Seat::new(3))), "{seats:?}");
        assert!((250..500).contains(&turns), "{turns}");
    }
    // However fast turns follow each other, nobody is blamed before it is time.
    let (fault, turns) = fault_of::<Bad<3, 0>>(&[3, 0, 1], HZ, 1);
    assert_eq!(fault, Some(Fault::Starves(Seat::new(3))));
    assert!(turns > HZ / 4);
}

#[test]
fn a_bucket_that_fills_slowly_starves_nobody() {
    let mut watched = watched::<TokenBucket>(4);
    let share = Share { rate: 100, burst: abi::share::BURST_MIN, ..Share::DEFAULT };
    let [slow, fast] = [0, 1].map(Seat::new);
    watched.attach(slow, share, 0);
    watched.attach(fast, Share::DEFAULT, 0);
    watched.enqueue(slow);
    let (mut now, mut turns_of_slow) = (0, 0);
    for step in 0..20_000 {
        // The fast one has something to send by times.
        if step % 3000 == 1 {
            watched.enqueue(fast);
        }
        now += 5000;
        if let Next::Turn(Turn { seat, allowance, .. }) = watched.next(now) {
            if seat == slow {
                turns_of_slow += 1;
                watched.finish(seat, allowance.min(1500) - 1500, More::Frame(1500), now);
            } else {
                watched.finish(seat, allowance, if step % 3000 > 1500 { More::Nothing } else { More::Perhaps }, now);
            }
        }
        assert_eq!(watched.fault(), None, "at {now}");
    }
    // A hundred seconds for 1,500 bytes each fifteen.
    assert!((4..10).contains(&turns_of_slow), "{turns_of_slow}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enqueue(u16),
    Remove(u16),
    Wait(u64),
    Turn(i32, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8_u16).prop_map(Step::Enqueue),
        (0..8_u16).prop_map(Step::Remove),
        prop_oneof![1..1000_u64, Just(HZ), Just(20 * HZ)].prop_map(Step::Wait),
        (0..8000_i32, 0..3_u8).prop_map(|(spent, more)| Step::Turn(spent, more)),
        (0..8000_i32, 0..3_u8).prop_map(|(spent, more)| Step::Turn(spent, more)),
    ]
}

fn never_blamed<D: Discipline>(steps: &[Step]) {
    let mut watched = watched::<D>(8);
    let mut now = 1;
    for seat in (0..8).map(Seat::new) {
        let rate = [0, 100, 100_000, abi::share::UNLIMITED][seat.index() % 4];
        watched.attach(seat, Share { rate, weight: 1 + 100 * seat.number(), ..Share::DEFAULT }, now);
    }
    // Again and again, so that what takes long can be seen.
    for &step in steps.iter().cycle().take(3000) {
        match step {
            Step::Enqueue(seat) => watched.enqueue(Seat::new(seat)),
            Step::Remove(seat) => watched.remove(Seat::new(seat)),
            Step::Wait(ticks) => now += ticks,
            Step::Turn(spent, more) => match watched.next(now) {
                Next::Turn(turn) => {
                    let more = [More::Nothing, More::Perhaps, More::Frame(1514)][usize::from(more)];
                    watched.finish(turn.seat, turn.allowance - spent.min(turn.allowance), more, now);
                }
                Next::At(time) => assert!(time > now),
                Next::Nobody => {}
            },
        }
        assert_eq!(watched.fault(), None);
    }
}

proptest! {
    #[test]
    fn good_ones_are_never_blamed(steps in proptest::collection::vec(step(), 1..60)) {
        never_blamed::<RoundRobin>(&steps);
        never_blamed::<Drr>(&steps);
        never_blamed::<TokenBucket>(&steps);
    }
}

use super::*;
use crate::policy::{Drr, RoundRobin, TokenBucket};
use abi::note::TableBytes;
use abi::share::{BURST, BURST_MIN};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

const HZ: u64 = 1_000_000_000;
const FRAME: usize = 1514;

fn new<D: Discipline>(seats: usize) -> Limited<D> {
    let bytes = TableBytes { per_slot: 0, per_seat: Limited::<D>::SEAT_BYTES, ..TableBytes::NONE };
    let mut limited = Limited::new(&mut Tables::on_heap(bytes, 0, seats));
    limited.start(HZ);
    limited
}

/// A VM that always has frames of this length.
#[derive(Clone, Debug)]
struct Sender {
    /// Its tenant's account, and what that may send.
    of: Option<(u32, u32)>,
    share: Share,
    len: usize,
}

fn sender(of: Option<(u32, u32)>) -> Sender {
    Sender { of, share: Share::DEFAULT, len: FRAME }
}

/// When each frame had left, whose it was, and its bytes.
type Departures = Vec<(u64, usize, usize)>;

fn attach<D: Discipline>(limited: &mut Limited<D>, senders: &[Sender]) {
    for (seat, sender) in (0..).map(Seat::new).zip(senders) {
        limited.attach(seat, sender.share, sender.of, 0);
        limited.enqueue(seat);
    }
}

/// Lets them send until then, as [`crate::Demux`] does, over a wire that takes a tick for a byte.
fn send<D: Discipline>(limited: &mut Limited<D>, senders: &[Sender], now: &mut u64, until: u64) -> Departures {
    let mut departures = Vec::new();
    let mut early = 0;
    while *now < until {
        let turn = match limited.next(*now) {
            Next::Turn(turn) => turn,
            Next::At(time) => {
                early = if time <= *now { early + 1 } else { 0 };
                assert!(early < 100, "nobody is let in");
                *now = time.max(*now);
                continue;
            }
            Next::Nobody => break,
        };
        early = 0;
        let sender = &senders[turn.seat.index()];
        let (mut left, mut buffers) = (turn.allowance, turn.buffers);
        let more = loop {
            let cost = limited.cost(sender.len);
            if !limited.affords(left, cost) {
                break More::Frame(cost);
            }
            *now += sender.len as u64;
            departures.push((*now, turn.seat.index(), sender.len));
            left -= cost;
            buffers -= 1;
            let may_go_on = limited.spend(turn.seat, sender.len, *now);
            if !may_go_on || left <= 0 || buffers == 0 {
                break More::Perhaps;
            }
        };
        limited.finish(turn.seat, left, more, *now);
        assert_eq!(limited.fault(), None);
        *now += 1;
    }
    departures
}

fn bytes_of(departures: &Departures, who: impl Fn(usize) -> bool) -> u64 {
    departures.iter().filter(|(_, seat, _)| who(*seat)).map(|(_, _, len)| *len as u64).sum()
}

/// Whether in any time these sent at most what their rate lets them, with the burst.
fn within(departures: &Departures, who: impl Fn(usize) -> bool, rate: u32) -> bool {
    let burst = u64::from(BURST.max(rate / 32)) + FRAME as u64;
    // The bucket's own model: what it holds, in bytes times ticks.
    let (mut level, mut before) = (u128::from(burst) * u128::from(HZ), 0);
    for &(time, _, len) in departures.iter().filter(|(_, seat, _)| who(*seat)) {
        level += u128::from(time - before) * u128::from(rate);
        level = level.min(u128::from(burst) * u128::from(HZ));
        let cost = len as u128 * u128::from(HZ);
        if cost > level {
            return false;
        }
        (level, before) = (level - cost, time);
    }
    true
}

fn shares<D: Discipline>() {
    let limit = Some((7, 2_000_000));
    let mut senders: Vec<Sender> = vec![sender(limit); 4];
    senders.extend(vec![sender(Some((9, 0))); 2]);
    senders.push(sender(None));
    let (mut limited, mut now) = (new::<D>(8), 0);
    attach(&mut limited, &senders);
    let departures = send(&mut limited, &senders, &mut now, HZ);
    assert!(within(&departures, |seat| seat < 4, 2_000_000));
    let all = bytes_of(&departures, |seat| seat < 4);
    assert!(all > 1_900_000, "{}: {all} bytes of 2,000,000", D::NAME);
    for seat in 0..4 {
        let own = bytes_of(&departures, |of| of == seat);
        assert!(own.abs_diff(all / 4) <= 30_000, "{}: {own} of {all}", D::NAME);
    }
    // The wire is never idle: others take what is left.
    assert!(bytes_of(&departures, |_| true) > HZ - 2_000_000, "{}", D::NAME);
}

#[test]
fn the_vms_of_a_tenant_share_what_it_may_send_and_others_have_the_rest() {
    shares::<RoundRobin>();
    shares::<Drr>();
    shares::<TokenBucket>();
}

#[test]
fn one_of_little_weight_or_with_a_rate_of_its_own_sends_in_the_end() {
    let light = Sender { share: Share { weight: 10, ..Share::DEFAULT }, ..sender(Some((0, 1_000_000))) };
    let senders = [light, sender(Some((0, 1_000_000))), sender(None)];
    let (mut limited, mut now) = (new::<Drr>(3), 0);
    attach(&mut limited, &senders);
    let departures = send(&mut limited, &senders, &mut now, HZ);
    let [own, other] = [0, 1].map(|seat| bytes_of(&departures, |of| of == seat));
    assert!(own > 20_000 && other > own, "{own} and {other}");
    let slow = Sender { share: Share { rate: 100_000, burst: BURST_MIN, ..Share::DEFAULT }, ..senders[1].clone() };
    let senders = [slow, senders[1].clone()];
    let (mut limited, mut now) = (new::<TokenBucket>(3), 0);
    attach(&mut limited, &senders);
    let departures = send(&mut limited, &senders, &mut now, HZ);
    let [own, other] = [0, 1].map(|seat| bytes_of(&departures, |of| of == seat));
    assert!((50_000..=110_000).contains(&own) && other > 800_000, "{own} and {other}");
}

#[test]
fn a_limit_that_is_taken_away_or_set_anew_holds_at_once() {
    let senders = vec![sender(Some((3, 1))); 3];
    let (mut limited, mut now) = (new::<RoundRobin>(3), 0);
    attach(&mut limited, &senders);
    // One frame is there at first, and takes a quarter of an hour then.
    let departures = send(&mut limited, &senders, &mut now, HZ);
    assert_eq!(departures.len(), 1);
    now = HZ;
    limited.set_rate(3, 1_000_000, now);
    let from = now;
    let departures = send(&mut limited, &senders, &mut now, from + HZ);
    let bytes = bytes_of(&departures, |_| true);
    assert!((950_000..=1_000_000 + FRAME as u64).contains(&bytes), "{bytes}");
    limited.set_rate(3, 0, now);
    let from = now;
    let departures = send(&mut limited, &senders, &mut now, from + 10_000_000);
    assert!(bytes_of(&departures, |_| true) > 9_000_000);
    for seat in 0..3 {
        assert!(bytes_of(&departures, |of| of == seat) > 2_900_000);
    }
}

#[test]
fn a_tenant_of_one_account_has_what_its_successor_is_given_and_no_such_account_has_no_limit() {
    let mut limited = new::<RoundRobin>(2);
    limited.set_rate(u32::MAX, 1, 0);
    limited.attach(Seat::new(0), Share::DEFAULT, Some((u32::MAX, 1)), 0);
    limited.attach(Seat::new(1), Share::DEFAULT, Some((255, 1)), 0);
    assert!(!limited.is_limited(Seat::new(0)) && limited.is_limited(Seat::new(1)));
    assert!(limited.may_spend(Seat::new(1), FRAME, 0) && !limited.may_spend(Seat::new(1), FRAME + 1, 0));
    assert!(limited.may_spend(Seat::new(0), usize::MAX, 0));
    limited.forget_tenants();
    assert!(!limited.is_limited(Seat::new(1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whoever comes, goes and has something to send, and whatever tenants may: no tenant sends more than it may, each VM that has something to send does in
    /// the end, and nobody is in two places.
    #[test]
    fn no_more_than_a_rate_and_nobody_for_ever(
        steps in prop::collection::vec((0_u8..8, 0_u16..6, 1_u64..4_000_000), 0..60),
        rates in prop::collection::vec(prop_oneof![Just(0_u32), 100_000_u32..5_000_000], 2),
    ) {
        let of = |seat: u16| (seat < 5).then(|| (u32::from(seat % 2), rates[usize::from(seat % 2)]));
        let senders: Vec<Sender> = (0..6).map(|seat| Sender { len: 60 + usize::from(seat) * 290, ..sender(of(seat)) }).collect();
        let (mut limited, mut now) = (new::<RoundRobin>(6), 0);
        let mut attached: BTreeMap<u16, bool> = BTreeMap::new();
        let mut all = Vec::new();
        for (what, seat, ticks) in steps {
            match what {
                0..2 => {
                    limited.remove(Seat::new(seat));
                    limited.attach(Seat::new(seat), Share::DEFAULT, of(seat), now);
                    limited.enqueue(Seat::new(seat));
                    attached.insert(seat, true);
                }
                2 => {
                    limited.remove(Seat::new(seat));
                    attached.remove(&seat);
                }
                3 if attached.contains_key(&seat) => limited.enqueue(Seat::new(seat)),
                _ => {
                    let until = now + ticks;
                    all.extend(send(&mut limited, &senders, &mut now, until));
                    now = now.max(until);
                }
            }
        }
        for (account, &rate) in rates.iter().enumerate().filter(|(_, rate)| **rate != 0) {
            prop_assert!(within(&all, |seat| seat < 5 && seat % 2 == account, rate));
        }
        let until = now + HZ / 8;
        let last = send(&mut limited, &senders, &mut now, until);
        for &seat in attached.keys() {
            prop_assert!(bytes_of(&last, |of| of == usize::from(seat)) > 0, "{seat} has sent nothing");
        }
    }
}

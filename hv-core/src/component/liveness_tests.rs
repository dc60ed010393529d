//! What is charged, and who is dead.

use super::{Liveness, Verdict};

/// Ticks of a millisecond, and those of a second.
const MS: u64 = 1_000;
const HZ: u64 = 1_000 * MS;

fn fresh(liveness: &mut Liveness, ticks: u64) -> &mut Liveness {
    liveness.fresh_ticks += ticks;
    liveness
}

#[test]
fn a_timer_interrupt_is_worth_a_period_at_most() {
    let mut liveness = Liveness::new(50 * MS, HZ);
    assert_eq!(fresh(&mut liveness, 3 * MS).charge(5 * MS, 0), (3 * MS, Verdict::Within));
    // The host has taken half a second away, again and again.
    for _ in 0..4 {
        assert_eq!(fresh(&mut liveness, 500 * MS).charge(0, 0), (10 * MS, Verdict::Within));
    }
    assert_eq!(liveness.used_ticks, 43 * MS);
    assert_eq!(fresh(&mut liveness, 7 * MS).charge(0, 0).1, Verdict::Within, "to the last tick");
    assert_eq!(fresh(&mut liveness, 1).charge(0, 0), (1, Verdict::Over));
    liveness.rest();
    assert_eq!(fresh(&mut liveness, 10 * MS).charge(0, 0).1, Verdict::Within);
}

#[test]
fn a_small_budget_is_counted_in_small_pieces() {
    let mut liveness = Liveness::new(MS, HZ);
    assert_eq!(fresh(&mut liveness, 500 * MS).charge(0, 0), (MS, Verdict::Within));
    assert_eq!(fresh(&mut liveness, 500 * MS).charge(0, 0), (MS, Verdict::Over));
}

#[test]
fn who_does_not_wait_dies_when_patience_is_over_and_it_has_had_its_part() {
    let mut liveness = Liveness::new(50 * MS, HZ);
    let mut steady = 77 * MS;
    // In turn with others it has half of the time.
    let dead = |liveness: &mut Liveness, steady| fresh(liveness, 10 * MS).charge(0, steady).1 == Verdict::Dead;
    while !dead(&mut liveness, steady) {
        steady += 20 * MS;
        assert!(steady < 10 * HZ, "it lives on");
    }
    assert_eq!((steady, liveness.used_ticks), (77 * MS - 10 * MS + 1010 * MS, 510 * MS));
    // One that has had hardly any is spared.
    let mut liveness = Liveness::new(50 * MS, HZ);
    assert!((0..24).all(|turn| !dead(&mut liveness, turn * HZ)));
    assert!(dead(&mut liveness, 25 * HZ), "a quarter of a second");
}

#[test]
fn patience_ends_with_its_last_tick() {
    let mut liveness = Liveness::new(50 * MS, HZ);
    let mut dead = |turn: u64| fresh(&mut liveness, 10 * MS).charge(0, turn * 10 * MS).1 == Verdict::Dead;
    assert!((1..100).all(|turn| !dead(turn)));
    assert!(dead(100), "a second after it began");
}

#[test]
fn who_sleeps_on_a_bit_dies_after_a_second() {
    let mut liveness = Liveness::new(50 * MS, HZ);
    let looks = || (0_u64..100).map(|look| look * 100 * MS);
    let death = looks().find(|&now| liveness.look(now, 4, false, 0, false));
    // At the second look it is seen to be left.
    assert_eq!(death, Some(1100 * MS));
    let mut liveness = Liveness::new(50 * MS, HZ);
    let death = looks().find(|&now| {
        // Set again by now, but taken in between.
        liveness.taken |= if now % (900 * MS) == 0 { 4 } else { 0 };
        liveness.look(now, 4, false, 0, false)
    });
    assert_eq!(death, None);
    assert!(liveness.owes());
    // Another bit each time.
    assert_eq!(looks().find(|&now| liveness.look(now, 1 << (now / (100 * MS) % 2), false, 0, false)), None);
}

#[test]
fn who_leaves_messages_dies_unless_it_had_no_chance() {
    let mut liveness = Liveness::new(50 * MS, HZ);
    let looks = || (0..100).map(|look| look * 100 * MS);
    assert_eq!(looks().find(|&now| liveness.look(now, 0, true, 0, false)), Some(1000 * MS));
    let mut liveness = Liveness::new(50 * MS, HZ);
    assert_eq!(looks().find(|&now| liveness.look(now, 0, true, 7, true)), None, "others do not let it");
    assert!(!liveness.look(0, 0, false, 7, true) && !liveness.owes());
    // One that runs and takes nothing.
    assert_eq!(looks().find(|&now| liveness.look(now, 0, true, now, true)), Some(1000 * MS));
    // One that never waits dies of that.
    let mut liveness = Liveness::new(50 * MS, HZ);
    liveness.used_ticks = 1;
    assert_eq!(looks().find(|&now| liveness.look(now, 0, true, now, true)), None);
}

#[test]
fn a_successor_begins_anew_but_for_its_lines() {
    let mut liveness = Liveness::new(50 * MS, HZ);
    (liveness.used_ticks, liveness.taken, liveness.past_waits) = (7, 7, 7);
    let _ = liveness.look(0, 4, true, 1, false);
    assert_eq!(liveness.log.allow(HZ, HZ), Some(0));
    liveness.restart();
    assert!(!liveness.owes());
    assert_eq!((liveness.used_ticks, liveness.taken, liveness.past_waits), (0, 0, 0));
    assert!((0..99).all(|_| liveness.log.allow(HZ, HZ).is_some()));
    assert_eq!(liveness.log.allow(HZ, HZ), None);
}

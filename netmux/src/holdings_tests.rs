//! A receive ring between senders that flood it and some that do not.

use super::*;
use crate::policy::{Discipline, RoundRobin};
use abi::note::TableBytes;
use proptest::prelude::*;
use std::collections::VecDeque;

const CAPACITY: u32 = 256;

fn holdings(seats: usize) -> Holdings {
    let bytes = TableBytes { per_seat: Holdings::SEAT_BYTES, ..TableBytes::NONE };
    Holdings::new(&mut Tables::on_heap(bytes, 1, seats))
}

fn seat(number: u16) -> Seat {
    Seat::new(number)
}

/// What the rule says with nothing else in a policy.
fn most(free: u32) -> u32 {
    RoundRobin::new(&mut Tables::on_heap(TableBytes { per_seat: RoundRobin::SEAT_BYTES, ..TableBytes::NONE }, 1, 8))
        .may_hold(free)
}

/// A ring, and whose its slots are.
struct Ring {
    read: u32,
    frames: VecDeque<(u16, u32)>,
}

impl Ring {
    fn new(read: u32) -> Self {
        Ring { read, frames: VecDeque::new() }
    }

    fn used(&self) -> u32 {
        self.frames.iter().map(|(_, slots)| slots).sum()
    }

    fn held_by(&self, from: u16) -> u32 {
        self.frames.iter().filter(|(whose, _)| *whose == from).map(|(_, slots)| slots).sum()
    }

    /// A frame of a VM; true when it got in.
    fn send(&mut self, holdings: &mut Holdings, from: u16, slots: u32) -> bool {
        let fill = Fill { read: self.read, used: self.used(), capacity: CAPACITY };
        let goes = slots <= fill.free()
            && holdings.lets_in((seat(from), seat(0)), slots, fill, most(fill.free()), Pace::default(), |_| u32::MAX);
        if goes {
            self.frames.push_back((from, slots));
        }
        goes
    }

    /// The receiver takes a frame.
    fn take(&mut self) {
        if let Some((_, slots)) = self.frames.pop_front() {
            self.read = self.read.wrapping_add(slots);
        }
    }
}

#[test]
fn one_that_floods_leaves_a_third() {
    let (mut holdings, mut ring) = (holdings(64), Ring::new(0));
    for _ in 0..1000 {
        ring.send(&mut holdings, 1, 2);
    }
    assert!((CAPACITY * 2 / 3 - 2..=CAPACITY * 2 / 3 + 2).contains(&ring.used()), "{}", ring.used());
    // Others find room, and what they hold is their own.
    assert!(ring.send(&mut holdings, 2, 24));
    assert!(!ring.send(&mut holdings, 1, 2));
}

#[test]
fn many_that_flood_leave_room_for_one_that_does_not() {
    for floods in [2, 4, 10] {
        let (mut holdings, mut ring) = (holdings(4096), Ring::new(u32::MAX - 100));
        for _ in 0..200 {
            for from in 1..=floods {
                ring.send(&mut holdings, from, 2);
            }
        }
        assert!(ring.send(&mut holdings, 100, 4), "beside {floods}: {} slots are used", ring.used());
    }
}

#[test]
fn a_window_of_six_full_frames_gets_through() {
    let (mut holdings, mut ring) = (holdings(64), Ring::new(7));
    for _ in 0..20 {
        for frame in 0..6 {
            assert!(ring.send(&mut holdings, 3, 24), "frame {frame}");
        }
        for _ in 0..6 {
            ring.take();
        }
    }
}

#[test]
fn whoever_has_the_seat_next_begins_with_nothing() {
    let (mut holdings, mut ring) = (holdings(64), Ring::new(500));
    while ring.send(&mut holdings, 1, 24) {}
    // Another receiver in the same seat, whose ring begins anew.
    let mut ring = Ring::new(0);
    assert!(ring.send(&mut holdings, 1, 24));
}

#[test]
fn what_does_not_go_counts_neither_as_held_nor_as_brought() {
    let mut holdings = holdings(64);
    let mut send = |number, read, used, may| {
        let (ring, pace) = (Fill { read, used, capacity: CAPACITY }, Pace { number, came: 0 });
        holdings.lets_in((seat(1), seat(0)), 2, ring, 4, pace, |_| may)
    };
    // One frame in this pace: those that are refused then are not held in the next one, where none of the other's slots was read.
    assert_eq!([0, 2, 2, 2].map(|used| send(1, 0, used, 1)), [true, false, false, false]);
    assert_eq!([2, 4, 4].map(|used| send(2, 0, used, 9)), [true, false, false], "as much as it may hold");
    // What was refused for that was not brought.
    assert_eq!([4, 6, 8].map(|read| send(2, read, 0, 3)), [true, true, false]);
}

proptest! {
    /// Whatever is sent and taken: a sender that holds nothing is never refused while there is room by the rule, and none holds much more
    /// than the rule allows.
    #[test]
    fn nobody_holds_more_than_the_rule_says_nor_is_refused_for_others(
        start: u32,
        steps in prop::collection::vec((1_u16..6, 1_u32..25, 0_usize..4), 1..400)
    ) {
        let (mut holdings, mut ring) = (holdings(4096), Ring::new(start));
        for (from, slots, taken) in steps {
            let (before, free) = (ring.held_by(from), CAPACITY - ring.used());
            let went = ring.send(&mut holdings, from, slots);
            if before == 0 && slots <= free.min(most(free)) {
                // What it had is read, but of the part that was rounded away.
                prop_assert!(went || slots + 24 * 6 > most(free), "refused {slots} with {free} free");
            }
            if went {
                prop_assert!(before + slots <= most(free) + CAPACITY / 3, "{before} and {slots} with {free} free");
            }
            for _ in 0..taken {
                ring.take();
            }
        }
    }
}

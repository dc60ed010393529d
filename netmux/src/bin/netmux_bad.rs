//! A discipline that is no good, in the way that the name of its policy says: for tests.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use netmux::component::abi::vm::Seat;
use netmux::component::{Component, Tables};
use netmux::policy::{Discipline, More, Next, RoundRobin};

netmux::component::main!(main, netmux::tables::<Bad<true>>());

fn main(component: Component) -> ! {
    match component.info().policy.as_str() {
        "swallows" => netmux::run::<Bad<true>>(&component),
        // "starves"
        _ => netmux::run::<Bad<false>>(&component),
    }
}

/// Round robin that says nobody has anything to send, or does not hear of the first seat.
struct Bad<const SWALLOWS: bool>(RoundRobin);

impl<const SWALLOWS: bool> Discipline for Bad<SWALLOWS> {
    const NAME: &'static str = if SWALLOWS { "swallows" } else { "starves" };
    const SEAT_BYTES: u32 = RoundRobin::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Bad(RoundRobin::new(tables))
    }

    fn enqueue(&mut self, seat: Seat) {
        if SWALLOWS || seat.number() != 0 {
            self.0.enqueue(seat);
        }
    }

    fn next(&mut self, now: u64) -> Next {
        match self.0.next(now) {
            _ if SWALLOWS => Next::Nobody,
            // As if it were only late.
            Next::Nobody => Next::At(now + 1_000_000),
            next => next,
        }
    }

    fn finish(&mut self, seat: Seat, left: i32, more: More, now: u64) {
        self.0.finish(seat, left, more, now);
    }

    fn remove(&mut self, seat: Seat) {
        self.0.remove(seat);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

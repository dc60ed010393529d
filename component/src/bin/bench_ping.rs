//! Measures what a message between two components costs: this end sends the time-stamp counter, `bench-pong` takes the
//! difference as soon as it has the message and sends it back.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::Message;
use component::log::Level;
use component::{Component, Error, Once, now, wait};

component::main!(main);

/// Messages before the measurement, so that nothing is touched for the first time in it.
const WARM_UP: usize = 32;
const SAMPLES: usize = 1000;
/// Between two looks for room in the log.
const PAUSE_TICKS: u64 = 1_000_000;

static COSTS: Once<[u64; SAMPLES]> = Once::new([0; SAMPLES]);

fn main(component: Component) -> ! {
    let mut ping = component.outbox("ping-pong");
    let mut pong = component.inbox("pong-ping");
    let costs = COSTS.take().expect("taken once");
    for sample in 0..WARM_UP + SAMPLES {
        let message = Message::new(1, [now()]);
        if ping.ring.push(&message).is_err() {
            component::log::error!("bench: component_message: the ring to bench-pong does not take a message");
            break;
        }
        let mut answer = None;
        let mut doorbells = ping.doorbell;
        while answer.is_none() {
            wait(pong.doorbell, u64::MAX, doorbells);
            doorbells = 0;
            answer = pong.ring.pop().ok().flatten();
        }
        if let (Some(index), Some(answer)) = (sample.checked_sub(WARM_UP), answer) {
            costs[index] = answer.words[0];
        }
    }
    costs.sort_unstable();
    let (least, median, most) = (costs[0], costs[SAMPLES / 2], costs[SAMPLES - 1]);
    let line = format_args!("bench: component_message instructions={median} min={least} max={most} samples={SAMPLES}");
    while component::print(Level::Info, line) == Err(Error::Busy) {
        wait(0, now().saturating_add(PAUSE_TICKS), 0);
    }
    loop {
        wait(0, u64::MAX, 0);
    }
}

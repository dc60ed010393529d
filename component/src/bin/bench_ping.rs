//! Measures what a message between two components costs: this end sends the time-stamp counter, `bench-pong` takes the
//! difference as soon as it has the message and sends it back.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::Message;
use component::log::Level;
use component::{Component, Error, Inbox, Once, Outbox, now, wait};

component::main!(main);

/// Messages before the measurement, so that nothing is touched for the first time in it.
const WARM_UP: usize = 32;
const SAMPLES: usize = 1000;
/// Between two tries where something has no room.
const PAUSE_TICKS: u64 = 1_000_000;

static COSTS: Once<[u64; SAMPLES]> = Once::new([0; SAMPLES]);

fn main(component: Component) -> ! {
    let mut ping = component.outbox("ping-pong");
    let mut pong = component.inbox("pong-ping");
    let costs = COSTS.take().expect("taken once");
    let mut sample = 0;
    while sample < WARM_UP + SAMPLES {
        let Some(cost) = exchange(&mut ping, &mut pong) else { continue };
        if let Some(index) = sample.checked_sub(WARM_UP) {
            costs[index] = cost;
        }
        sample += 1;
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

/// Sends one message and waits for what it has cost. `None` when the other end was restarted meanwhile.
#[inline]
fn exchange(ping: &mut Outbox, pong: &mut Inbox) -> Option<u64> {
    if !ping.send(&Message::new(1, [now()])) {
        // No space although nothing is under way: a message of before a restart, which the other end has yet to take.
        wait(pong.doorbell, now().saturating_add(PAUSE_TICKS), ping.doorbell);
        return None;
    }
    let mut doorbells = ping.doorbell;
    loop {
        wait(pong.doorbell, u64::MAX, doorbells);
        doorbells = 0;
        if let Some(answer) = pong.ring.pop().ok()? {
            return Some(answer.words[0]);
        }
    }
}

//! The other end of `bench-ping`: answers each message with the time that it took to get here.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::message::Message;
use component::{Component, now, wait};

component::main!(main);

fn main(component: Component) -> ! {
    let mut ping = component.inbox("ping-pong");
    let mut pong = component.outbox("pong-ping");
    let mut doorbells = 0;
    loop {
        wait(ping.doorbell, u64::MAX, doorbells);
        doorbells = 0;
        // Without a message there is nothing to answer: the ring was reset, and the other end begins again.
        if let Ok(Some(message)) = ping.ring.pop() {
            let cost = now().wrapping_sub(message.words[0]);
            if pong.send(&Message::new(2, [cost])) {
                doorbells = pong.doorbell;
            }
        }
    }
}

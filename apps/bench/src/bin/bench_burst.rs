//! Keeps the demultiplexer from running for some milliseconds at a time, so that frames pile up in the NIC, then lets go. It
//! says when it let go, and how long the NIC's interrupt held it up; the guest `bench` with `bench=packet_rx` says when it
//! had the frames, and how many. More important than the demultiplexer, which only this measurement's manifest allows.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::{Component, now, wait};

component::main!(main);

/// Rounds; the host sends frames all the while.
const ROUNDS: usize = 60;
/// Bochs gives the NIC a frame each millisecond of the machine's time.
const HOLD_MS: u64 = 32;
/// Time for the others between two rounds.
const REST_MS: u64 = 20;

fn main(component: Component) -> ! {
    let ms = component.info().tsc_hz / 1000;
    wait(0, now() + 500 * ms, 0);
    for _ in 0..ROUNDS {
        let end = now() + HOLD_MS * ms;
        let (mut before, mut step, mut interrupt) = (now(), u64::MAX, 0);
        loop {
            let time = now();
            let passed = time - before;
            step = step.min(passed);
            interrupt = interrupt.max(passed);
            before = time;
            if time >= end {
                break;
            }
        }
        let released = now();
        wait(0, released + REST_MS * ms, 0);
        component::log::info!("bench: packet_rx released={released} interrupt={}", interrupt - step);
    }
    component::log::info!("bench: packet_rx done");
    loop {
        wait(0, u64::MAX, 0);
    }
}

//! A scheduler that hears everything, admits nobody and plans nothing.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::{Component, wait};

component::main!(main);

fn main(component: Component) -> ! {
    let mut events = component.inbox("core-sched");
    component::log::info!("silent, start {}", component.info().incarnation);
    loop {
        let empty = events.drain(|_| {});
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

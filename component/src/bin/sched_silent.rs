//! A scheduler that hears everything, admits nobody and plans nothing.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::service::Service;
use component::{Component, wait};

component::main!(main);

fn main(component: Component) -> ! {
    let (mut events, _) = component.service(Service::Plan);
    component::log::info!("silent, start {}", component.info().incarnation);
    loop {
        let empty = events.drain(|_| {});
        wait(events.doorbell, if empty { u64::MAX } else { 0 }, 0);
    }
}

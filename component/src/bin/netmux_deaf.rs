//! A network demultiplexer that takes what the core shares with it and never gives anything back.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use component::abi::component::bits;
use component::abi::net::NetEvent;
use component::abi::service::Service;
use component::{Component, wait};

component::main!(main);

/// Interrupts of all devices.
const IRQS: u64 = 0xffff << bits::IRQ_SHIFT;

fn main(component: Component) -> ! {
    let (mut events, _) = component.service(Service::Net);
    component::log::info!("deaf, start {}", component.info().incarnation);
    loop {
        let empty = events.drain(|message| {
            if let Ok(NetEvent::Detach { vm, .. }) = NetEvent::try_from(message) {
                component::log::info!("{vm} is asked for, but stays here");
            }
        });
        wait(events.doorbell | bits::KICK | IRQS, if empty { u64::MAX } else { 0 }, 0);
    }
}

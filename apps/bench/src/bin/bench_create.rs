//! Measures what creating a VM costs, from the request of its controller to the first instruction of the guest. Stands in
//! the place of the monitor. The guest is `bench` with `bench=vm_create`, which is told the time of the request and says
//! what has passed since.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod controller;

use component::{Component, wait};
use controller::Controller;

component::main!(main);

/// VMs that are created; the first ones bring what all share into memory.
const VMS: usize = 20;

fn main(component: Component) -> ! {
    Controller::new(&component).measure(VMS);
    component::log::info!("bench: vm_create done");
    loop {
        wait(0, u64::MAX, 0);
    }
}

//! Measures what creating a VM costs beside few others and beside many. Stands in the place of the monitor. The guest is `bench`
//! with `bench=vm_create` for those that are measured, which say what has passed since they were asked for, and end; and with
//! `bench=stay` for those that stay and idle.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod controller;

use component::{Component, wait};
use controller::Controller;

component::main!(main);

/// VMs that live when the first ones are measured, and when the others are.
const FEW: usize = 9;
const MANY: usize = 9_999;
/// VMs that are measured each time; the first ones bring what all share into memory.
const MEASURED: usize = 12;
/// Parts of a second that a VM which stays has for coming to its idle.
const STAYS_PER_SECOND: u64 = 500;
/// Its boot arguments.
const STAYING: &[u8] = b"bench=stay";

fn main(component: Component) -> ! {
    let mut controller = Controller::new(&component);
    stay(&mut controller, FEW);
    controller.measure(MEASURED);
    component::log::info!("bench: crowd: beside {FEW}");
    stay(&mut controller, MANY - FEW);
    controller.measure(MEASURED);
    component::log::info!("bench: crowd: beside {MANY}");
    loop {
        wait(0, u64::MAX, 0);
    }
}

fn stay(controller: &mut Controller, count: usize) {
    let args = controller.lay(&[STAYING]);
    for _ in 0..count {
        controller.create(args, STAYS_PER_SECOND);
    }
}

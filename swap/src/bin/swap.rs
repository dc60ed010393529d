//! The component that holds VMs that are out.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

component::main!(main, swap::tables());

fn main(component: component::Component) -> ! {
    swap::run(&component)
}

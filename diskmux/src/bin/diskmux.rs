//! The disk striper.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

diskmux::component::main!(main, diskmux::TABLES);

fn main(component: diskmux::component::Component) -> ! {
    diskmux::run(&component)
}

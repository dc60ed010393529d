//! The network demultiplexer of a machine whose wire is a benchmark's.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

netmux::component::main!(main, netmux::load::TABLES);

fn main(component: netmux::component::Component) -> ! {
    netmux::load::run(&component)
}

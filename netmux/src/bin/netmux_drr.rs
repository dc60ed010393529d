//! The network demultiplexer with the policy `drr`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

netmux::main!(netmux::policy::Drr);

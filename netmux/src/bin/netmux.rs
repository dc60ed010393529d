//! The network demultiplexer with the policy `round-robin`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

netmux::main!(netmux::policy::RoundRobin);

//! The network demultiplexer with the policy `token-bucket`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

netmux::main!(netmux::policy::TokenBucket);

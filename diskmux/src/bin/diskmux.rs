//! The disk striper with the policy `drr`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

diskmux::main!(diskmux::policy::Drr);

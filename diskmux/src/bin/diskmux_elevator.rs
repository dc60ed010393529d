//! The disk striper with the policy `elevator`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

diskmux::main!(diskmux::policy::Elevator);

//! The disk striper with the policy `fifo`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

diskmux::main!(diskmux::policy::Fifo);

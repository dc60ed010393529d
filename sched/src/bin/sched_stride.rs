//! The scheduler with the policy `stride`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

sched::main!(sched::policy::Stride);

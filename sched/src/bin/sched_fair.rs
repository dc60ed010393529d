//! The scheduler with the policy `fair`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

sched::main!(sched::policy::Fair);

//! The scheduler with the policy `round-robin`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

sched::main!(sched::policy::RoundRobin);

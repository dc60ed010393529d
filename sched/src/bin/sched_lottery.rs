//! The scheduler with the policy `lottery`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

sched::main!(sched::policy::Lottery);

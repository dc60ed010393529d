//! The pager with the policy `demand`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

pager::main!(pager::policy::demand::Demand);

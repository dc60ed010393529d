//! The pager with the policy `vm-sieve`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

pager::main!(pager::policy::demand::Demand, pager::order::Sieve);

//! The pager with the policy `demand`: nobody goes out.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

pager::main!(pager::policy::demand::Demand, pager::order::Nobody);

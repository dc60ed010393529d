//! The pager with the policy `fifo`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

pager::main!(pager::policy::demand::Demand, pager::order::Lru, pager::pages::Single<pager::pages::Fifo>);

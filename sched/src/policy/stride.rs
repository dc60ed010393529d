//! Stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", 1995): the
//! CPU is shared by weight, exactly and without chance.
//!
//! The VM with the least pass in virtual time ([`VirtualTime`]) is next. One that wakes goes on from *now*, the paper's *global pass*, or from its
//! own pass when that is further. So nobody saves up time by sleeping, and nobody gets rid by sleeping of what it has run in advance.

use super::virtual_time::VirtualTime;
use super::{Dispatch, Policy};
use crate::Oddity;
use crate::vms::Seated;
use component::Tables;

/// The policy `stride`.
#[derive(Debug)]
pub struct Stride(VirtualTime);

impl Policy for Stride {
    const NAME: &'static str = "stride";
    const SEAT_BYTES: u32 = VirtualTime::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Stride(VirtualTime::new(tables))
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.0.reset(quantum_ticks);
    }

    #[inline]
    fn ready(&mut self, vm: Seated, weight: u16) -> Result<(), Oddity> {
        self.0.ready(vm, weight, 0)?;
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        self.0.blocked(vm, ran_ticks)?;
        Ok(())
    }

    fn ended(&mut self, vm: Seated) {
        self.0.ended(vm);
    }

    fn quantum_ticks(&self) -> u64 {
        self.0.quantum_ticks()
    }

    #[inline]
    fn runnable(&self) -> u32 {
        self.0.runnable()
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        Some(Dispatch { vm: self.0.next(0)?, quantum_ticks: self.0.quantum_ticks() })
    }
}

#[cfg(test)]
#[path = "stride_tests.rs"]
mod tests;

//! Stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", 1995): the
//! CPU is shared by weight, exactly and without chance.
//!
//! Each VM has a *pass*, which grows by the time that it gets divided by its weight; the one with the least pass is next. The plan
//! is ahead of the core, so a VM is charged a whole quantum when it is named; when it blocks, what it was named for is replaced
//! by what it ran. *Global pass* is the pass of whoever was named last: a VM that wakes goes on from there, or from its own pass when
//! that is further. So nobody saves up time by sleeping, and nobody gets rid by sleeping of what it has run in advance.

use super::{Dispatch, Policy};
use crate::vms::{Known, Seated, Vms};
use crate::{Oddity, PLAN_DEPTH};
use abi::share::WEIGHT_MAX;
use component::{Heap, Tables};

/// Pass for one tick of a VM of weight 1. Far above [`WEIGHT_MAX`], so that the division by a weight costs no precision; 2^32 times
/// the ticks of centuries still fit 128 bits.
const SCALE: u64 = 1 << 32;

/// What is kept of a VM.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Of a VM that can run: the pass that it had when it became ready. Of one that cannot: its pass.
    pass: u128,
    weight: u16,
    /// It can run: it is in the heap.
    ready: bool,
}

/// The policy `stride`.
#[derive(Debug)]
pub struct Stride {
    vms: Vms<Entry>,
    ready: Heap<u128>,
    global: u128,
    quantum_ticks: u64,
}

impl Stride {
    /// By how much the pass of a VM of this weight grows in so many ticks.
    #[inline]
    fn way(ticks: u64, weight: u16) -> u128 {
        u128::from(ticks) * u128::from(SCALE / u64::from(weight.max(1)))
    }

    /// The pass of a VM that was charged up to `charged`, and ran `ran_ticks` since its pass was `start`. What it was charged for
    /// but did not run is at most what was planned; and a VM that the core ran without a plan pays back no more than that.
    #[inline]
    fn settled(&self, start: u128, charged: u128, ran_ticks: u64, weight: u16) -> u128 {
        let most = Self::way(self.quantum_ticks.saturating_mul(PLAN_DEPTH.into()), weight);
        (start + Self::way(ran_ticks, weight)).clamp(charged.saturating_sub(most), charged + most)
    }
}

impl Policy for Stride {
    const NAME: &'static str = "stride";
    const SEAT_BYTES: u32 = Vms::<Entry>::SEAT_BYTES + Heap::<u128>::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Stride { vms: Vms::new(tables), ready: Heap::new(tables), global: 0, quantum_ticks: 0 }
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.vms.clear();
        self.ready.clear();
        self.global = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: Seated, weight: u16) -> Result<(), Oddity> {
        let (known, entry) = self.vms.look(vm)?;
        let weight = weight.clamp(1, WEIGHT_MAX);
        if known == Known::Same && entry.ready {
            self.vms.set(vm, Entry { weight, ..entry });
            return Ok(());
        }
        let pass = if known == Known::Same {
            entry.pass.max(self.global)
        } else {
            // Behind those that are there: whoever ends and comes again and again gains nothing by that.
            self.global + Self::way(self.quantum_ticks, weight)
        };
        self.vms.set(vm, Entry { pass, weight, ready: true });
        self.ready.set(vm.seat, pass);
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        let (known, entry) = self.vms.look(vm)?;
        let pass = match known {
            Known::Other => return Err(Oddity::UnknownVm(vm.id)),
            Known::Nobody => self.global,
            Known::Same => match self.ready.remove(vm.seat) {
                Some(charged) => self.settled(entry.pass, charged, ran_ticks, entry.weight),
                None => entry.pass,
            },
        };
        self.vms.set(vm, Entry { pass, ready: false, ..entry });
        Ok(())
    }

    fn ended(&mut self, vm: Seated) {
        if self.vms.forget(vm).is_some() {
            self.ready.remove(vm.seat);
        }
    }

    fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    #[inline]
    fn runnable(&self) -> u32 {
        // At most as many as there are seats.
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        let (seat, pass) = self.ready.first()?;
        let (vm, entry) = self.vms.at(seat);
        self.global = pass;
        self.ready.set(seat, pass + Self::way(self.quantum_ticks, entry.weight));
        Some(Dispatch { vm, quantum_ticks: self.quantum_ticks })
    }
}

#[cfg(test)]
#[path = "stride_tests.rs"]
mod tests;

//! Stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", 1995): the
//! CPU is shared by weight, exactly and without chance.
//!
//! Each VM has a *pass*, which grows by the time that it gets divided by its weight; the one with the least pass is next. The plan
//! is ahead of the core, so a VM is charged a whole quantum when it is named; when it blocks, what it was named for is replaced
//! by what it ran. *Global pass* is the pass of whoever was named last: a VM that wakes goes on from there, or from its own pass when
//! that is further. So nobody saves up time by sleeping, and nobody gets rid by sleeping of what it has run in advance.

use super::{Dispatch, Policy};
use crate::{Oddity, PLAN_DEPTH};
use abi::limits::MAX_VMS;
use abi::share::WEIGHT_MAX;
use abi::vm::{Slot, VmId};
use component::Heap;

/// Pass for one tick of a VM of weight 1. Far above [`WEIGHT_MAX`], so that the division by a weight costs no precision; 2^32 times
/// the ticks of centuries still fit 128 bits.
const SCALE: u64 = 1 << 32;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody lives there, as far as this policy knows.
    Unknown,
    /// Cannot run.
    Blocked,
    /// In the heap.
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of a VM that can run: the pass that it had when it became ready. Of one that cannot: its pass.
    pass: u128,
    generation: u32,
    weight: u16,
    state: State,
}

/// The policy `stride`: 52 bytes for each slot.
#[derive(Debug)]
pub struct Stride {
    slots: [Entry; MAX_VMS],
    /// No slot from this index on was written since the last reset.
    used: usize,
    ready: Heap<u128, MAX_VMS>,
    global: u128,
    quantum_ticks: u64,
}

const NOBODY: Entry = Entry { pass: 0, generation: 0, weight: 0, state: State::Unknown };

impl Stride {
    /// Knows no VMs. All zeros, so that the tables take no room in the image.
    pub const fn new() -> Self {
        Stride { slots: [NOBODY; MAX_VMS], used: 0, ready: Heap::new(0), global: 0, quantum_ticks: 0 }
    }

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

impl Default for Stride {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Stride {
    const NAME: &'static str = "stride";

    fn reset(&mut self, quantum_ticks: u64) {
        // Not all of them: on a slow machine that takes longer than a scheduler may run.
        self.slots[..self.used].fill(NOBODY);
        self.used = 0;
        self.ready.clear();
        self.global = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: VmId, weight: u16) -> Result<(), Oddity> {
        let index = vm.slot.index();
        let known = *self.slots.get(index).ok_or(Oddity::BadVm(vm))?;
        let weight = weight.clamp(1, WEIGHT_MAX);
        let same = known.generation == vm.generation;
        if same && known.state == State::Ready {
            self.slots[index].weight = weight;
            return Ok(());
        }
        let pass = if same && known.state == State::Blocked {
            known.pass.max(self.global)
        } else {
            // Behind those that are there: whoever ends and comes again and again gains nothing by that.
            self.global + Self::way(self.quantum_ticks, weight)
        };
        self.slots[index] = Entry { pass, generation: vm.generation, weight, state: State::Ready };
        self.used = self.used.max(index + 1);
        self.ready.set(vm.slot.number(), pass);
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: VmId, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        let index = vm.slot.index();
        let known = *self.slots.get(index).ok_or(Oddity::BadVm(vm))?;
        if known.generation != vm.generation && known.state != State::Unknown {
            return Err(Oddity::UnknownVm(vm));
        }
        let pass = match (known.state, self.ready.remove(vm.slot.number())) {
            (State::Ready, Some(charged)) => self.settled(known.pass, charged, ran_ticks, known.weight),
            (State::Blocked, _) => known.pass,
            _ => self.global,
        };
        self.slots[index] = Entry { pass, generation: vm.generation, state: State::Blocked, ..known };
        self.used = self.used.max(index + 1);
        Ok(())
    }

    fn ended(&mut self, vm: VmId) {
        let Some(slot) = self.slots.get_mut(vm.slot.index()) else { return };
        if slot.generation == vm.generation && slot.state != State::Unknown {
            *slot = NOBODY;
            self.ready.remove(vm.slot.number());
        }
    }

    fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    #[inline]
    fn runnable(&self) -> u32 {
        // At most MAX_VMS.
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        let (number, pass) = self.ready.first()?;
        let place = Slot::new(number);
        let slot = &self.slots[place.index()];
        let vm = VmId { slot: place, generation: slot.generation };
        self.global = pass;
        self.ready.set(number, pass + Self::way(self.quantum_ticks, slot.weight));
        Some(Dispatch { vm, quantum_ticks: self.quantum_ticks })
    }
}

#[cfg(test)]
#[path = "stride_tests.rs"]
mod tests;

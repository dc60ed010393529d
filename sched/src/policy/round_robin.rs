//! Round robin with credit for idling: whoever idled before its quantum ended goes to the front once when it can run again.
//!
//! So a server that sleeps most of the time answers at once although others compute, and pays for that by having
//! given its quantum away. Those with credit come before the others, but after [`CREDIT_RUN`] of them one of the others runs:
//! VMs that idle and wake all the time cannot starve one that computes.

use super::{Dispatch, Policy};
use crate::Oddity;
use crate::queue::{Links, List};
use abi::limits::MAX_VMS;
use abi::vm::{Slot, VmId};

/// VMs with credit that run in a row while others wait.
pub const CREDIT_RUN: u32 = 8;

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody lives there, as far as this policy knows.
    Unknown,
    /// Cannot run.
    Blocked,
    /// Cannot run, and idled before its quantum ended.
    BlockedWithCredit,
    /// In the rotation.
    Rotating,
    /// In the list of those with credit.
    Credited,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    generation: u32,
    state: State,
}

/// The policy `round-robin`: eight bytes for each slot.
#[derive(Debug)]
pub struct RoundRobin {
    slots: [Entry; MAX_VMS],
    /// No slot from this index on was written since the last reset.
    used: usize,
    links: Links,
    rotation: List,
    credited: List,
    /// VMs with credit that were named since one without was.
    credit_run: u32,
    quantum_ticks: u64,
}

impl RoundRobin {
    /// Knows no VMs. All zeros, so that the tables take no room in the image.
    pub const fn new() -> Self {
        RoundRobin {
            slots: [Entry { generation: 0, state: State::Unknown }; MAX_VMS],
            used: 0,
            links: Links::new(),
            rotation: List::new(),
            credited: List::new(),
            credit_run: 0,
            quantum_ticks: 0,
        }
    }

    /// Takes a slot out of the list that it is in.
    #[inline]
    fn unlink(&mut self, index: Slot, state: State) {
        match state {
            State::Rotating => self.rotation.remove(&mut self.links, index),
            State::Credited => self.credited.remove(&mut self.links, index),
            State::Unknown | State::Blocked | State::BlockedWithCredit => {}
        }
    }

    /// `vm` lives in its slot, which there is, in this state.
    #[inline]
    fn set(&mut self, vm: VmId, state: State) {
        let index = vm.slot.index();
        self.slots[index] = Entry { generation: vm.generation, state };
        self.used = self.used.max(index + 1);
    }

    /// The state of `vm`; `None` when another VM, or none, is known in its slot.
    fn state(&self, vm: VmId) -> Option<State> {
        let slot = self.slots.get(vm.slot.index())?;
        (slot.generation == vm.generation && slot.state != State::Unknown).then_some(slot.state)
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for RoundRobin {
    const NAME: &'static str = "round-robin";

    fn reset(&mut self, quantum_ticks: u64) {
        // Not all of them: on a slow machine that takes longer than a scheduler may run.
        self.slots[..self.used].fill(Entry { generation: 0, state: State::Unknown });
        self.used = 0;
        self.rotation = List::new();
        self.credited = List::new();
        self.credit_run = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: VmId, _weight: u16) -> Result<(), Oddity> {
        let Entry { generation, state } = *self.slots.get(vm.slot.index()).ok_or(Oddity::BadVm(vm))?;
        let known = generation == vm.generation;
        if known && matches!(state, State::Rotating | State::Credited) {
            return Ok(());
        }
        let state = if known && state == State::BlockedWithCredit {
            self.credited.push_back(&mut self.links, vm.slot);
            State::Credited
        } else {
            // Whoever lived in the slot before is gone, even if nobody said so.
            self.unlink(vm.slot, state);
            self.rotation.push_back(&mut self.links, vm.slot);
            State::Rotating
        };
        self.set(vm, state);
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: VmId, ran_ticks: u64, idle: bool) -> Result<(), Oddity> {
        let Entry { generation, state } = *self.slots.get(vm.slot.index()).ok_or(Oddity::BadVm(vm))?;
        if generation != vm.generation && state != State::Unknown {
            return Err(Oddity::UnknownVm(vm));
        }
        self.unlink(vm.slot, state);
        let earned = idle && ran_ticks < self.quantum_ticks;
        let state = if earned { State::BlockedWithCredit } else { State::Blocked };
        self.set(vm, state);
        Ok(())
    }

    fn ended(&mut self, vm: VmId) {
        if let Some(state) = self.state(vm) {
            self.unlink(vm.slot, state);
            self.slots[vm.slot.index()].state = State::Unknown;
        }
    }

    fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    #[inline]
    fn runnable(&self) -> u32 {
        self.rotation.len() + self.credited.len()
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        let credit = !self.credited.is_empty() && (self.credit_run < CREDIT_RUN || self.rotation.is_empty());
        let index = if credit {
            self.credit_run = self.credit_run.saturating_add(1);
            self.credited.pop_front(&mut self.links)?
        } else {
            self.credit_run = 0;
            self.rotation.pop_front(&mut self.links)?
        };
        self.rotation.push_back(&mut self.links, index);
        let slot = &mut self.slots[index.index()];
        slot.state = State::Rotating;
        Some(Dispatch { vm: VmId { slot: index, generation: slot.generation }, quantum_ticks: self.quantum_ticks })
    }
}

#[cfg(test)]
#[path = "round_robin_tests.rs"]
mod tests;

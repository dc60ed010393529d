//! Lottery scheduling (Waldspurger and Weihl, "Lottery Scheduling: Flexible Proportional-Share Resource Management", OSDI 1994): each
//! turn is drawn among the VMs that can run, and a VM's chance is its weight.
//!
//! *Compensation tickets*: a VM that used the fraction `f` of its quantum before it blocked holds 1 / `f` times its tickets from
//! when it can run again until it is drawn, so that VMs that idle early get their share, too, and soon. `f` is what it ran
//! of all the quanta that it was drawn for since it was last ready: the plan is ahead of the core, and a VM may be drawn again
//! before it blocks in its first turn. What is drawn ahead is drawn without the compensation that is still to come; so this policy
//! plans one turn at a time.

use super::{Dispatch, Policy};
use crate::Oddity;
use crate::random::Random;
use crate::tickets::Tickets;
use abi::limits::MAX_VMS;
use abi::share::WEIGHT_MAX;
use abi::vm::{Slot, VmId};

/// Tickets for one unit of weight, so that a compensation need not be a whole number.
const TICKETS: u64 = 256;
/// The largest compensation: a VM that uses less than this part of its quanta does not get its whole share.
const COMPENSATION_MAX: u64 = 1024;
// All tickets there can ever be are countable.
const _: () = assert!((WEIGHT_MAX as u64 * TICKETS * COMPENSATION_MAX).checked_mul(MAX_VMS as u64).is_some());

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody lives there, as far as this policy knows.
    Unknown,
    /// Cannot run.
    Blocked,
    /// Takes part in the draw.
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of a VM that can run: how often it was drawn since it became ready. Of one that cannot: in units of 1 / [`TICKETS`], how many
    /// times its tickets it gets; 0 counts as once.
    turns: u32,
    generation: u32,
    weight: u16,
    state: State,
}

/// The policy `lottery`: 28 bytes for each slot.
#[derive(Debug)]
pub struct Lottery {
    slots: [Entry; MAX_VMS],
    /// No slot from this index on was written since the last reset.
    used: usize,
    tickets: Tickets,
    ready: u32,
    random: Random,
    quantum_ticks: u64,
}

const NOBODY: Entry = Entry { turns: 0, generation: 0, weight: 0, state: State::Unknown };

impl Lottery {
    /// Knows no VMs. All zeros, so that the tables take no room in the image.
    pub const fn new() -> Self {
        Lottery {
            slots: [NOBODY; MAX_VMS],
            used: 0,
            tickets: Tickets::new(),
            ready: 0,
            random: Random::new(0),
            quantum_ticks: 0,
        }
    }

    /// The compensation, in units of 1 / [`TICKETS`], of a VM that ran `ran_ticks` of `turns` quanta.
    fn compensation(&self, turns: u32, ran_ticks: u64) -> u32 {
        let given = self.quantum_ticks.saturating_mul(turns.into());
        let most = TICKETS * COMPENSATION_MAX;
        let times = match u128::from(given) * u128::from(TICKETS) {
            _ if ran_ticks >= given => TICKETS,
            _ if ran_ticks == 0 => most,
            scaled => u64::try_from(scaled / u128::from(ran_ticks)).unwrap_or(most).min(most),
        };
        u32::try_from(times).unwrap_or(u32::MAX)
    }

    /// Takes a slot out of the draw, if it takes part.
    #[inline]
    fn withdraw(&mut self, index: Slot) {
        if self.slots[index.index()].state == State::Ready {
            self.ready -= 1;
            self.tickets.set(index, 0);
        }
    }
}

impl Default for Lottery {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Lottery {
    const NAME: &'static str = "lottery";
    /// A draw knows the compensation of those only who have blocked and woken by then.
    const AHEAD: u32 = 1;

    fn seed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    fn reset(&mut self, quantum_ticks: u64) {
        // Not all of them: on a slow machine that takes longer than a scheduler may run.
        self.tickets.clear(self.used);
        self.slots[..self.used].fill(NOBODY);
        self.used = 0;
        self.ready = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: VmId, weight: u16) -> Result<(), Oddity> {
        let index = vm.slot.index();
        let known = *self.slots.get(index).ok_or(Oddity::BadVm(vm))?;
        let same = known.generation == vm.generation;
        if same && known.state == State::Ready {
            return Ok(());
        }
        let weight = weight.clamp(1, WEIGHT_MAX);
        let times = if same && known.state == State::Blocked { u64::from(known.turns) } else { 0 };
        self.withdraw(vm.slot);
        self.slots[index] = Entry { turns: 0, generation: vm.generation, weight, state: State::Ready };
        self.used = self.used.max(index + 1);
        self.ready += 1;
        self.tickets.set(vm.slot, u64::from(weight) * times.max(TICKETS));
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: VmId, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        let index = vm.slot.index();
        let known = *self.slots.get(index).ok_or(Oddity::BadVm(vm))?;
        if known.generation != vm.generation && known.state != State::Unknown {
            return Err(Oddity::UnknownVm(vm));
        }
        self.withdraw(vm.slot);
        let turns = match known.state {
            State::Ready => self.compensation(known.turns, ran_ticks),
            State::Blocked => known.turns,
            State::Unknown => 0,
        };
        self.slots[index] = Entry { turns, generation: vm.generation, state: State::Blocked, ..known };
        self.used = self.used.max(index + 1);
        Ok(())
    }

    fn ended(&mut self, vm: VmId) {
        let Some(slot) = self.slots.get(vm.slot.index()) else { return };
        if slot.generation == vm.generation && slot.state != State::Unknown {
            self.withdraw(vm.slot);
            self.slots[vm.slot.index()] = NOBODY;
        }
    }

    fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    #[inline]
    fn runnable(&self) -> u32 {
        self.ready
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        let index = self.tickets.holder(self.random.below(self.tickets.total()))?;
        let slot = &mut self.slots[index.index()];
        slot.turns = slot.turns.saturating_add(1);
        let vm = VmId { slot: index, generation: slot.generation };
        let own = u64::from(slot.weight) * TICKETS;
        if self.tickets.of(index) != own {
            self.tickets.set(index, own);
        }
        Some(Dispatch { vm, quantum_ticks: self.quantum_ticks })
    }
}

#[cfg(test)]
#[path = "lottery_tests.rs"]
mod tests;

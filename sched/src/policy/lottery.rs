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
use crate::vms::{Known, Seated, Vms};
use abi::limits::MAX_SEATS;
use abi::share::WEIGHT_MAX;
use component::Tables;

/// Tickets for one unit of weight, so that a compensation need not be a whole number.
const TICKETS: u64 = 256;
/// The largest compensation: a VM that uses less than this part of its quanta does not get its whole share.
const COMPENSATION_MAX: u64 = 1024;
// All tickets there can ever be are countable.
const _: () = assert!((WEIGHT_MAX as u64 * TICKETS * COMPENSATION_MAX).checked_mul(MAX_SEATS as u64).is_some());

/// What is kept of a VM.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Of a VM that can run: how often it was drawn since it became ready. Of one that cannot: in units of 1 / [`TICKETS`], how many
    /// times its tickets it gets; 0 counts as once.
    turns: u32,
    weight: u16,
    /// It can run: it takes part in the draw.
    ready: bool,
}

/// The policy `lottery`.
#[derive(Debug)]
pub struct Lottery {
    vms: Vms<Entry>,
    tickets: Tickets,
    ready: u32,
    random: Random,
    quantum_ticks: u64,
}

impl Lottery {
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

    /// Takes a VM out of the draw, if it takes part.
    #[inline]
    fn withdraw(&mut self, vm: Seated, entry: Entry) {
        if entry.ready {
            self.ready -= 1;
            self.tickets.set(vm.seat, 0);
        }
    }
}

impl Policy for Lottery {
    const NAME: &'static str = "lottery";
    /// A draw knows the compensation of those only who have blocked and woken by then.
    const AHEAD: u32 = 1;
    const SEAT_BYTES: u32 = Vms::<Entry>::SEAT_BYTES + Tickets::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        Lottery {
            vms: Vms::new(tables),
            tickets: Tickets::new(tables),
            ready: 0,
            random: Random::new(0),
            quantum_ticks: 0,
        }
    }

    fn seed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.tickets.clear();
        self.vms.clear();
        self.ready = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: Seated, weight: u16) -> Result<(), Oddity> {
        let (known, entry) = self.vms.look(vm)?;
        if known == Known::Same && entry.ready {
            return Ok(());
        }
        let weight = weight.clamp(1, WEIGHT_MAX);
        let times = if known == Known::Same { u64::from(entry.turns) } else { 0 };
        // Whoever had the seat before is gone, even if nobody said so.
        self.withdraw(vm, entry);
        self.vms.set(vm, Entry { turns: 0, weight, ready: true });
        self.ready += 1;
        self.tickets.set(vm.seat, u64::from(weight) * times.max(TICKETS));
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        let (known, entry) = self.vms.look(vm)?;
        if known == Known::Other {
            return Err(Oddity::UnknownVm(vm.id));
        }
        self.withdraw(vm, entry);
        let turns = if entry.ready { self.compensation(entry.turns, ran_ticks) } else { entry.turns };
        self.vms.set(vm, Entry { turns, ready: false, ..entry });
        Ok(())
    }

    fn ended(&mut self, vm: Seated) {
        if let Some(entry) = self.vms.forget(vm) {
            self.withdraw(vm, entry);
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
        let seat = self.tickets.holder(self.random.below(self.tickets.total()))?;
        let (vm, entry) = self.vms.at(seat);
        entry.turns = entry.turns.saturating_add(1);
        let own = u64::from(entry.weight) * TICKETS;
        if self.tickets.of(seat) != own {
            self.tickets.set(seat, own);
        }
        Some(Dispatch { vm, quantum_ticks: self.quantum_ticks })
    }
}

#[cfg(test)]
#[path = "lottery_tests.rs"]
mod tests;

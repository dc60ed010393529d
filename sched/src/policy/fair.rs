//! Shares by weight in virtual time, for those that compute and those that sleep alike; who sleeps and wakes is served at once.
//!
//! As in stride scheduling each VM has a *pass*, which grows by the time that it runs divided by its weight, and the one with the least
//! pass is planned next. *Now* is the pass of whoever was planned last. How far a VM is behind that is what it is *owed* (its lag, in the
//! words of EEVDF: Stoica and Abdel-Wahab 1995; borrowed virtual time, Duda and Cheriton 1999, lets threads run ahead in the same
//! way). Who sleeps keeps what it is owed, up to [`OWED_QUANTA`], and what it has run in advance, all of it.
//!
//! What a VM is owed it may run ahead of the plan when it wakes: the core is told how much ([`SchedCommand::Allow`]), and to let those go first
//! that wake ([`SchedCommand::Rules`]). As the core takes off what a VM runs, whoever has chosen its turns, and *now* only grows, nobody
//! runs ahead of its share; and the scheduler need not be asked when somebody wakes.
//!
//! [`SchedCommand::Allow`]: abi::sched::SchedCommand::Allow
//! [`SchedCommand::Rules`]: abi::sched::SchedCommand::Rules

use super::{Allowance, Dispatch, Policy, Rules};
use crate::queue::{Links, List};
use crate::vms::{Known, Seated, Vms};
use crate::{Oddity, PLAN_DEPTH};
use abi::share::{WEIGHT, WEIGHT_MAX};
use abi::vm::Seat;
use component::{Heap, Tables};

/// Pass for one tick of a VM of weight 1. Far above [`WEIGHT_MAX`], so that the division by a weight costs no precision; 2^32 times
/// the ticks of centuries still fit 128 bits.
const SCALE: u64 = 1 << 32;

/// Quanta that somebody who sleeps is owed at most: more than one, or VMs that sleep for an instant would lose what they are owed for turns of
/// others that are as long.
pub const OWED_QUANTA: u64 = 4;

/// Turns in a row of those that wake while a planned one waits. What they are owed bounds them before.
const MOST_IN_ROW: u32 = 1024;

/// What is kept of a VM.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Of a VM that can run: the pass that it had when it became ready. Of one that cannot: its pass.
    pass: u128,
    /// Ticks that the core lets it run ahead still, as far as is known here: never less.
    allowed: u64,
    weight: u16,
    /// It can run: it is in the heap.
    ready: bool,
    /// It is to be allowed more.
    queued: bool,
}

/// The policy `fair`.
#[derive(Debug)]
pub struct Fair {
    vms: Vms<Entry>,
    ready: Heap<u128>,
    links: Links,
    /// Those that are to be allowed more.
    grants: List<Seat>,
    now: u128,
    /// The greatest pass of those that have blocked.
    furthest: u128,
    quantum_ticks: u64,
}

impl Fair {
    /// By how much the pass of a VM of this weight grows in so many ticks.
    #[inline]
    fn way(ticks: u64, weight: u16) -> u128 {
        u128::from(ticks) * u128::from(SCALE / u64::from(weight.max(1)))
    }

    /// Ticks that a VM is owed at most.
    #[inline]
    fn most(&self) -> u64 {
        self.quantum_ticks.saturating_mul(OWED_QUANTA)
    }

    /// Ticks that a VM with this pass is owed.
    #[inline]
    fn owed(&self, pass: u128, weight: u16) -> u64 {
        let behind = self.now.saturating_sub(pass);
        if behind >= Self::way(self.most(), weight) {
            return self.most();
        }
        // Less than the quotient of what has just been compared.
        u64::try_from(behind / u128::from(SCALE / u64::from(weight.max(1)))).unwrap_or(0)
    }

    /// The pass of a VM that was charged up to `charged`, and ran `ran_ticks` since its pass was `start`. What it was charged for
    /// but did not run is at most what was planned; and a VM that the core ran without a plan pays back no more than that.
    #[inline]
    fn settled(&self, start: u128, charged: u128, ran_ticks: u64, weight: u16) -> u128 {
        let most = Self::way(self.quantum_ticks.saturating_mul(PLAN_DEPTH.into()), weight);
        (start + Self::way(ran_ticks, weight)).clamp(charged.saturating_sub(most), charged + most)
    }

    /// Forgets what a seat is to be allowed.
    #[inline]
    fn unqueue(&mut self, seat: Seat, queued: bool) {
        if queued {
            self.grants.remove(&mut self.links, seat);
        }
    }
}

impl Policy for Fair {
    const NAME: &'static str = "fair";
    const SEAT_BYTES: u32 = Vms::<Entry>::SEAT_BYTES + Heap::<u128>::SEAT_BYTES + Links::BYTES;
    const RULES: Rules = Rules { most_in_row: MOST_IN_ROW, preempts: true };

    fn new(tables: &mut Tables) -> Self {
        Fair {
            vms: Vms::new(tables),
            ready: Heap::new(tables),
            links: Links::new(tables.per_seat()),
            grants: List::new(),
            now: 0,
            furthest: 0,
            quantum_ticks: 0,
        }
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.vms.clear();
        self.ready.clear();
        self.grants = List::new();
        self.now = 0;
        self.furthest = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: Seated, weight: u16) -> Result<(), Oddity> {
        let (known, entry) = self.vms.look(vm)?;
        let weight = weight.clamp(1, WEIGHT_MAX);
        if known == Known::Same {
            if entry.ready {
                self.vms.set(vm, Entry { weight, ..entry });
                return Ok(());
            }
            let pass = entry.pass.max(self.now.saturating_sub(Self::way(self.most(), weight)));
            self.vms.set(vm, Entry { pass, weight, ready: true, ..entry });
            self.ready.set(vm.seat, pass);
            return Ok(());
        }
        // Whoever had the seat before is gone, even if nobody said so.
        self.unqueue(vm.seat, entry.queued);
        // Behind those that are there: whoever ends and comes again and again gains nothing by that.
        let pass = self.now + Self::way(self.quantum_ticks, weight);
        self.vms.set(vm, Entry { pass, weight, ready: true, ..Entry::default() });
        self.ready.set(vm.seat, pass);
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        let (known, entry) = self.vms.look(vm)?;
        let pass = match known {
            Known::Other => return Err(Oddity::UnknownVm(vm.id)),
            Known::Nobody => self.now,
            Known::Same => match self.ready.remove(vm.seat) {
                Some(charged) => self.settled(entry.pass, charged, ran_ticks, entry.weight),
                None => entry.pass,
            },
        };
        self.furthest = self.furthest.max(pass);
        let mut entry = Entry { pass, ready: false, allowed: entry.allowed.saturating_sub(ran_ticks), ..entry };
        // Not for each little thing, so that there are few messages.
        let owed = self.owed(pass, entry.weight);
        if !entry.queued && entry.allowed < self.quantum_ticks / 2 && owed > entry.allowed + self.quantum_ticks / 8 {
            entry.queued = true;
            self.grants.push_back(&mut self.links, vm.seat);
        }
        self.vms.set(vm, entry);
        Ok(())
    }

    fn ended(&mut self, vm: Seated) {
        if let Some(entry) = self.vms.forget(vm) {
            self.ready.remove(vm.seat);
            self.unqueue(vm.seat, entry.queued);
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
        self.now = self.now.max(pass);
        self.ready.set(seat, pass + Self::way(self.quantum_ticks, entry.weight));
        Some(Dispatch { vm, quantum_ticks: self.quantum_ticks })
    }

    #[inline]
    fn allow(&mut self) -> Option<Allowance> {
        let seat = self.grants.pop_front(&mut self.links)?;
        let (vm, entry) = self.vms.at(seat);
        entry.queued = false;
        let (pass, weight) = (entry.pass, entry.weight);
        let ticks = self.owed(pass, weight);
        self.vms.at(seat).1.allowed = ticks;
        Some(Allowance { vm, ticks })
    }

    #[inline]
    fn rest(&mut self) {
        // The time that nobody wanted is everybody's: all are owed as much as they can be.
        self.now = self.now.max(self.furthest + Self::way(self.most(), WEIGHT));
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;

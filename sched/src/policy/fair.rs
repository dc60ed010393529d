//! Shares by weight in virtual time, for those that compute and those that sleep alike; who sleeps and wakes is served at once.
//!
//! As in stride scheduling the VM with the least pass in virtual time ([`VirtualTime`]) is planned next. How far a VM is behind *now* is what it is
//! *owed* (its lag, in the words of EEVDF: Stoica and Abdel-Wahab 1995; borrowed virtual time, Duda and Cheriton 1999, lets threads run ahead in the same
//! way). Who sleeps keeps what it is owed, up to [`OWED_QUANTA`], and what it has run in advance, all of it.
//!
//! What a VM is owed it may run ahead of the plan when it wakes: the core is told how much ([`SchedCommand::Allow`]), and to let those go first
//! that wake ([`SchedCommand::Rules`]). As the core takes off what a VM runs, whoever has chosen its turns, and *now* only grows, nobody
//! runs ahead of its share; and the scheduler need not be asked when somebody wakes.
//!
//! [`SchedCommand::Allow`]: abi::sched::SchedCommand::Allow
//! [`SchedCommand::Rules`]: abi::sched::SchedCommand::Rules

use super::virtual_time::{VirtualTime, way};
use super::{Allowance, Dispatch, Policy, Rules};
use crate::Oddity;
use crate::queue::{Links, List};
use crate::vms::{Known, Seated};
use abi::share::WEIGHT;
use abi::vm::Seat;
use component::{Table, Tables};

/// Quanta that somebody who sleeps is owed at most: more than one, or VMs that sleep for an instant would lose what they are owed for turns of
/// others that are as long.
pub const OWED_QUANTA: u64 = 4;

/// Turns in a row of those that wake while a planned one waits. What they are owed bounds them before.
const MOST_IN_ROW: u32 = 1024;

/// Turns ahead that a quantum is cut into: 0.1 ms of 10. VMs that wake, and then compute for as long as they may, keep others that wake waiting for no longer
/// than that each; a server with many of them as neighbours comes to its turn before its ring is full. And a request is done within one.
const SLICES: u64 = 100;

/// Planned turns are an eighth of a quantum where VMs block. What others run ahead is taken in between turns only: a planned one that they interrupt again and again lasts
/// ten times as long and more, and who is owed something should hear of it before it has used up what it was allowed.
const SHORT_LOG2: u32 = 3;

/// What is kept of a VM beside its pass.
#[derive(Clone, Copy, Debug, Default)]
struct Grant {
    /// Ticks that the core lets it run ahead still, as far as is known here: never less.
    allowed: u64,
    /// It is to be allowed more.
    queued: bool,
}

/// The policy `fair`.
#[derive(Debug)]
pub struct Fair {
    time: VirtualTime,
    grants: Table<Grant>,
    links: Links,
    /// Those that are to be allowed more.
    waiting: List<Seat>,
    /// The greatest pass of those that have blocked.
    furthest: u128,
    /// Turns are to be short.
    short: bool,
}

impl Fair {
    /// Ticks that a VM is owed at most.
    #[inline]
    fn most(&self) -> u64 {
        self.time.quantum_ticks().saturating_mul(OWED_QUANTA)
    }

    /// Whoever is in a seat now is allowed nothing yet.
    fn forget(&mut self, seat: Seat) {
        if let Some(grant) = self.grants.get_mut(seat.index())
            && core::mem::take(grant).queued
        {
            self.waiting.remove(&mut self.links, seat);
        }
    }
}

impl Policy for Fair {
    const NAME: &'static str = "fair";
    // Sixteen and eight.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = VirtualTime::SEAT_BYTES + size_of::<Grant>() as u32 + Links::BYTES;
    const RULES: Rules = Rules { most_in_row: MOST_IN_ROW, preempts: true, slices: SLICES };

    fn new(tables: &mut Tables) -> Self {
        let (time, links) = (VirtualTime::new(tables), Links::new(tables.per_seat()));
        Fair { time, grants: tables.per_seat(), links, waiting: List::new(), furthest: 0, short: false }
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.time.reset(quantum_ticks);
        self.grants.clear();
        self.waiting = List::new();
        self.furthest = 0;
        self.short = false;
    }

    #[inline]
    fn ready(&mut self, vm: Seated, weight: u16) -> Result<(), Oddity> {
        if self.time.ready(vm, weight, self.most())? != Known::Same {
            self.forget(vm.seat);
        }
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, _idle: bool) -> Result<(), Oddity> {
        let (now, quantum, most) = (self.time.now(), self.time.quantum_ticks(), self.most());
        let account = self.time.blocked(vm, ran_ticks)?;
        self.furthest = self.furthest.max(account.pass());
        let grant = self.grants.reach(vm.seat.index()).ok_or(Oddity::BadVm(vm.id))?;
        grant.allowed = grant.allowed.saturating_sub(ran_ticks);
        // Not for each little thing, so that there are few messages; but before what is left is less than another burst like this one, or than it may run
        // until the next
        // plan: while somebody computes for a quantum, those that wake go ahead for as long and longer.
        let enough = ran_ticks.max(2 * quantum);
        if !grant.queued && grant.allowed < enough && account.behind(now, most) > grant.allowed + quantum / 8 {
            grant.queued = true;
            self.waiting.push_back(&mut self.links, vm.seat);
        }
        Ok(())
    }

    fn ended(&mut self, vm: Seated) {
        if self.time.ended(vm) {
            self.forget(vm.seat);
        }
    }

    fn quantum_ticks(&self) -> u64 {
        self.time.quantum_ticks()
    }

    #[inline]
    fn runnable(&self) -> u32 {
        self.time.runnable()
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        let log2 = if self.short { SHORT_LOG2 } else { 0 };
        Some(Dispatch { vm: self.time.next(log2)?, quantum_ticks: self.time.quantum_ticks() >> log2 })
    }

    #[inline]
    fn shorten(&mut self, sleeps: bool) {
        self.short = sleeps;
    }

    #[inline]
    fn allow(&mut self) -> Option<Allowance> {
        let seat = self.waiting.pop_front(&mut self.links)?;
        let (now, most) = (self.time.now(), self.most());
        let (vm, account) = self.time.at(seat);
        let ticks = account.behind(now, most);
        *self.grants.reach(seat.index())? = Grant { allowed: ticks, queued: false };
        Some(Allowance { vm, ticks })
    }

    #[inline]
    fn rest(&mut self) {
        // The time that nobody wanted is everybody's: all are owed as much as they can be.
        self.time.rest(self.furthest + way(self.most(), WEIGHT));
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;

//! Shares by weight in virtual time, for those that compute and those that sleep alike; who sleeps and wakes is served at once.
//!
//! As in stride scheduling the VM with the least pass in virtual time ([`VirtualTime`]) is planned next. How far a VM is behind *now* is what it is
//! *owed* (its lag, in the words of EEVDF: Stoica and Abdel-Wahab 1995; borrowed virtual time, Duda and Cheriton 1999, lets threads run ahead in the same
//! way). Who sleeps keeps what it is owed, up to [`OWED_QUANTA`], and what it has run in advance, all of it.
//!
//! What a VM is owed it may run ahead of the plan when it wakes: the core is told how much ([`SchedCommand::Allow`]), and to let those go first
//! that wake ([`SchedCommand::Rules`]). As the core takes off what a VM runs, whoever has chosen its turns, and *now* only grows, nobody
//! runs ahead of its share by more than a little that is lent; and the scheduler need not be asked when somebody wakes.
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

/// What a VM may run ahead beyond what it is owed, as a part of a quantum at the usual weight. Who sleeps with nothing owed, as all do that have just begun, is told of this
/// while it sleeps: else its first wake would wait for the plan, behind turns of others of whole quanta, and only then be told of what it is owed by now. It is
/// lent: *now* passes it before there is more.
const LENT_LOG2: u32 = 2;

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
    place: Place,
}

/// The list that a VM is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    /// It is to be allowed more.
    Waiting,
    /// It has blocked when it had not enough, and was owed no more than it was allowed.
    Short,
}

/// The policy `fair`.
#[derive(Debug)]
pub struct Fair {
    time: VirtualTime,
    grants: Table<Grant>,
    links: Links,
    /// Those that are to be allowed more.
    waiting: List<Seat>,
    /// Those that may be, when they have slept for a while. One of them is looked at for each plan.
    shorts: List<Seat>,
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

    /// The pass up to which VMs may run ahead.
    #[inline]
    fn until(&self) -> u128 {
        self.time.now() + way(self.time.quantum_ticks() >> LENT_LOG2, WEIGHT)
    }

    /// Whoever is in a seat now is allowed nothing yet.
    fn forget(&mut self, seat: Seat) {
        match self.grants.get_mut(seat.index()).map(core::mem::take) {
            Some(Grant { place: Place::Waiting, .. }) => self.waiting.remove(&mut self.links, seat),
            Some(Grant { place: Place::Short, .. }) => self.shorts.remove(&mut self.links, seat),
            _ => {}
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
        Fair {
            time,
            grants: tables.per_seat(),
            links,
            waiting: List::new(),
            shorts: List::new(),
            furthest: 0,
            short: false,
        }
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.time.reset(quantum_ticks);
        self.grants.clear();
        self.waiting = List::new();
        self.shorts = List::new();
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
        let (until, quantum, most) = (self.until(), self.time.quantum_ticks(), self.most());
        let account = self.time.blocked(vm, ran_ticks)?;
        self.furthest = self.furthest.max(account.pass());
        let grant = self.grants.reach(vm.seat.index()).ok_or(Oddity::BadVm(vm.id))?;
        grant.allowed = grant.allowed.saturating_sub(ran_ticks);
        // Not for each little thing, so that there are few messages; but before what is left is less than another burst like this one, or than it may run
        // until the next plan: while somebody computes for a quantum, those that wake go ahead for as long and longer.
        let enough = ran_ticks.max(2 * quantum);
        if grant.allowed >= enough || grant.place == Place::Waiting {
            return Ok(());
        }
        let gains = account.behind(until, most) > grant.allowed + quantum / 8;
        let place = core::mem::replace(&mut grant.place, if gains { Place::Waiting } else { Place::Short });
        if gains && place == Place::Short {
            self.shorts.remove(&mut self.links, vm.seat);
        }
        if gains {
            self.waiting.push_back(&mut self.links, vm.seat);
        } else if place == Place::Nowhere {
            self.shorts.push_back(&mut self.links, vm.seat);
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
        let (until, most, quantum) = (self.until(), self.most(), self.time.quantum_ticks());
        let (seat, is_short) = match self.waiting.pop_front(&mut self.links) {
            Some(seat) => (seat, false),
            None => (self.shorts.pop_front(&mut self.links)?, true),
        };
        let (vm, account) = self.time.at(seat);
        let ticks = account.behind(until, most);
        let grant = self.grants.reach(seat.index())?;
        // Of one that can run it is not known how much of it is used up.
        if is_short && (account.is_ready() || ticks <= grant.allowed + (quantum / 8).max(grant.allowed)) {
            self.shorts.push_back(&mut self.links, seat);
            return None;
        }
        // Who sleeps on is told again, each time of twice as much, until it is enough.
        let place = if ticks < 2 * quantum { Place::Short } else { Place::Nowhere };
        *grant = Grant { allowed: ticks, place };
        if place == Place::Short {
            self.shorts.push_back(&mut self.links, seat);
        }
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

//! Gatekeeper and policy together: from the core's events to the plan.

use crate::Oddity;
use crate::gatekeeper::Gatekeeper;
use crate::policy::{PLAN_DEPTH, Policy, Rules};
use crate::vms::Seated;
use abi::note::TableBytes;
use abi::sched::{Admission, SchedCommand, SchedEvent};
use component::Tables;

/// Times in a row that entries are used within a quantum, until VMs count as such that pass the CPU on.
const QUICK: u32 = 2;

/// Entries that are planned ahead at most where VMs block, of a policy that lets those go ahead that wake: what these may run is told behind the entries.
const WITH_SLEEPERS: u32 = 2;

/// Commands on their way at most beyond which nobody is let in or kept back.
const MOST_OTHERS: u32 = 64;

/// The scheduler with the policy `P`.
#[derive(Debug)]
pub struct Scheduler<P> {
    gatekeeper: Gatekeeper,
    policy: P,
    /// Turns in the ring, and the time, when the core had last taken some. (Who is let in is taken many at a time, which says nothing of how long turns last.)
    published: u32,
    published_at: u64,
    /// Of the commands that were sent last one bit each, the last one's the lowest: set for those that name a turn. No more than there are bits are on their way.
    turns: u128,
    /// A VM has blocked since then.
    blocked: bool,
    /// When the core had taken some, and one was last found to have blocked.
    blocked_at: Option<u64>,
    /// Ticks of the turn that was planned last.
    turn_ticks: u64,
    /// Entries that are planned ahead at most: about as many as are used in such a turn.
    ahead: u32,
    /// Times in a row that entries were used within a quantum and nobody had blocked for one.
    quick: u32,
    /// Somebody has blocked within the last quantum.
    sleeps: bool,
    /// The rules for those that wake have been laid down.
    ruled: bool,
}

impl<P: Policy> Scheduler<P> {
    /// What its tables take, the policy's included.
    pub const TABLES: TableBytes = TableBytes { per_seat: P::SEAT_BYTES, ..Gatekeeper::TABLES };

    /// A scheduler that knows no VMs.
    pub fn new(tables: &mut Tables) -> Self {
        let (gatekeeper, policy) = (Gatekeeper::new(tables), P::new(tables));
        Scheduler {
            gatekeeper,
            policy,
            published: 0,
            published_at: 0,
            turns: 0,
            blocked: false,
            blocked_at: None,
            turn_ticks: 0,
            ahead: PLAN_DEPTH,
            quick: 0,
            sleeps: false,
            ruled: false,
        }
    }

    /// Sets how many frames VMs can have on this machine.
    pub fn set_capacity(&mut self, frames: u64) {
        self.gatekeeper.set_capacity(frames);
    }

    /// Gives the policy a number that differs from start to start.
    pub fn seed(&mut self, seed: u64) {
        self.policy.seed(seed);
    }

    /// Takes one event in. What follows from it comes with the next [`Scheduler::plan`].
    ///
    /// # Errors
    ///
    /// An [`Oddity`] when the event makes no sense; it is dropped.
    #[inline]
    pub fn handle(&mut self, event: SchedEvent) -> Result<(), Oddity> {
        match event {
            SchedEvent::Hello { quantum_ticks, room, admission } => {
                say(admission);
                self.gatekeeper.set_admission(admission, quantum_ticks);
                self.gatekeeper.reset(room);
                self.policy.reset(quantum_ticks);
                self.turn_ticks = quantum_ticks;
                self.ruled = false;
                Ok(())
            }
            SchedEvent::Arrived { vm, frames, room, tenant } => self.gatekeeper.arrived(vm, tenant, frames, room),
            SchedEvent::Ready { vm, seat, weight } => {
                self.gatekeeper.ready(vm);
                self.policy.ready(Seated { id: vm, seat }, weight)
            }
            SchedEvent::Blocked { vm, seat, ran_ticks, idle } => {
                self.blocked = true;
                self.policy.blocked(Seated { id: vm, seat }, ran_ticks, idle)
            }
            SchedEvent::Room { room } => {
                self.gatekeeper.has_room(room);
                Ok(())
            }
            SchedEvent::Gatekeeper { admission } => {
                say(admission);
                self.gatekeeper.change(admission);
                Ok(())
            }
            SchedEvent::Later { vm } => {
                self.gatekeeper.later(vm);
                Ok(())
            }
            SchedEvent::Ended { vm, seat, room } => {
                self.gatekeeper.ended(vm, room);
                if let Some(seat) = seat {
                    self.policy.ended(Seated { id: vm, seat });
                }
                Ok(())
            }
        }
    }

    /// Keeps back who cannot be admitted, admits who can be, and fills the plan up, when `outstanding` of the ring's `capacity` commands have not been
    /// taken by the core at TSC `now`. Never more commands go to `send` than fit.
    #[inline]
    pub fn plan(&mut self, now: u64, outstanding: u32, capacity: u32, send: &mut impl FnMut(SchedCommand)) {
        self.gatekeeper.set_time(now);
        let (mut outstanding, named) = (outstanding, self.named(outstanding));
        if named < self.published {
            self.adapt(now, now.wrapping_sub(self.published_at));
            self.published_at = now;
        }
        let before = outstanding;
        // Those who are let in leave room for what VMs may run ahead, and both for turns: the core may read nothing of it for as long as a turn lasts.
        let [for_others, for_turns, capacity] =
            [MOST_OTHERS, MOST_OTHERS + 2 * PLAN_DEPTH, u128::BITS].map(|most| most.min(capacity));
        if !self.ruled && P::RULES.most_in_row != 0 && outstanding < capacity {
            self.ruled = true;
            let Rules { most_in_row, preempts, slices } = P::RULES;
            let slice_ticks = self.policy.quantum_ticks() / slices.max(1);
            send(SchedCommand::Rules { most_in_row, preempts, slice_ticks });
            outstanding += 1;
        }
        while outstanding < for_others
            && let Some(vm) = self.gatekeeper.hold()
        {
            send(SchedCommand::Hold { vm });
            outstanding += 1;
        }
        while outstanding < for_others
            && let Some(vm) = self.gatekeeper.admit()
        {
            send(SchedCommand::Admit { vm });
            outstanding += 1;
        }
        if outstanding < for_others
            && let Some(vm) = self.gatekeeper.announce()
        {
            send(SchedCommand::First { vm });
            outstanding += 1;
        }
        while outstanding < for_turns
            && let Some(allowance) = self.policy.allow()
        {
            send(SchedCommand::Allow { vm: allowance.vm, ticks: allowance.ticks });
            outstanding += 1;
        }
        if self.policy.runnable() == 0 {
            self.policy.rest();
        }
        self.turns = self.turns.checked_shl(outstanding.wrapping_sub(before)).unwrap_or(0);
        // What names no turn does not count: the core, which has asked for a turn, does not ask again when all that comes is what somebody is allowed.
        let most = self.depth().saturating_sub(named).min(capacity.saturating_sub(outstanding));
        let mut more = 0;
        while more < most
            && let Some(dispatch) = self.policy.next()
        {
            self.turn_ticks = dispatch.quantum_ticks;
            send(SchedCommand::Run { vm: dispatch.vm, quantum_ticks: dispatch.quantum_ticks });
            more += 1;
        }
        // No more than `PLAN_DEPTH`, which is far below 128.
        self.turns = !(!self.turns << more);
        self.published = named + more;
    }

    /// How many of the last `outstanding` commands name a turn.
    #[inline]
    fn named(&self, outstanding: u32) -> u32 {
        // Mostly all were taken, or nearly all: to count 128 bits takes twice as long.
        match outstanding {
            0 => 0,
            1..64 => {
                let low = u64::try_from(self.turns & u128::from(u64::MAX)).unwrap_or(0);
                (low & !(1_u64 << outstanding).wrapping_neg()).count_ones()
            }
            _ => {
                let others = 1_u128.checked_shl(outstanding).map_or(0, u128::wrapping_neg);
                (self.turns & !others).count_ones()
            }
        }
    }

    /// The core has taken entries by `now`, for the first time in `ticks`. Those that are used up quickly are made more, as with few of them it would have to
    /// ask each time; where each lasts, one has to do, since whoever wakes waits behind all of them.
    #[inline]
    fn adapt(&mut self, now: u64, ticks: u64) {
        let quantum = self.turn_ticks;
        self.ahead = match ticks {
            _ if ticks < quantum => (self.ahead * 2).min(PLAN_DEPTH),
            _ if ticks < 2 * quantum => (self.ahead / 2).max(1),
            _ => 1,
        };
        if core::mem::take(&mut self.blocked) {
            self.blocked_at = Some(now);
        }
        // Entries of VMs that have blocked meanwhile are used up at once, before anybody can block again.
        self.sleeps = self.blocked_at.is_some_and(|at| now.wrapping_sub(at) < self.policy.quantum_ticks());
        self.quick = if self.sleeps || ticks >= quantum { 0 } else { self.quick.saturating_add(1) };
        // Many turns ahead last no longer than a few: whoever is named in them need not give them up for ever, and others are told behind them what they may run.
        self.policy.shorten(self.sleeps || self.quick >= QUICK);
    }

    /// How many entries are to be ahead of the core. More than one for each VM only where VMs pass the CPU on again and again without blocking: once
    /// may be the end of a turn that began long ago.
    #[inline]
    fn depth(&self) -> u32 {
        let most = self.ahead.min(P::AHEAD);
        match self.policy.runnable() {
            _ if self.quick >= QUICK => most,
            runnable if self.sleeps && P::RULES.preempts => most.min(runnable).min(WITH_SLEEPERS),
            runnable => most.min(runnable),
        }
    }
}

/// The log says how VMs are admitted, at each start and change.
#[cold]
#[inline(never)]
fn say(admission: Admission) {
    log::info!("gatekeeper={}", admission.name());
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;

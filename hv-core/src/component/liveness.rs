//! Whether a component does its work: how long it runs without a wait, and what it was rung for and does not take.
//!
//! Time is stolen: a busy host, system management, a suspended laptop. So a *budget* counts timer interrupts that found the component
//! running, each worth a period at most, and *patience* is measured by [`crate::kernel::Steady`]. Over its budget a component is
//! demoted ([`super::shares`]): it has the CPU in turn with VMs until it waits. It dies when it makes no progress for its patience: it does not
//! wait, waits only for what is past, or sleeps on what it was rung for.

use crate::log::RateLimit;
use abi::vm::VmId;

/// Milliseconds of one period of a budget: what a timer interrupt is worth at most.
pub const TICK_MS: u64 = 10;
/// Milliseconds that a component may make no progress.
pub const PATIENCE_MS: u64 = 1000;
/// It must have had one part in this many of them for itself before it dies of running.
const OWN_PART: u64 = 4;
/// Lines a second, and at once, that a component can log.
const LOG_RATE: (u32, u32) = (10, 100);
/// The same for lines that say of a component that it has reached that.
const FLOODS_RATE: (u32, u32) = (1, 1);

/// What a charge for running has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on as before.
    Within,
    /// It has run longer than its budget.
    Over,
    /// It has run for its patience.
    Dead,
}

/// What is known of a component's progress.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    /// Ticks that it ran since the last timer interrupt that found it running, or since its last wait.
    pub fresh_ticks: u64,
    /// What timer interrupts that found it running since its last wait were worth, in ticks. 0 for nearly all turns.
    pub used_ticks: u64,
    /// The same since its start.
    pub charged_ticks: u64,
    /// Steady time at which it began to run without a wait, where `used_ticks` is not 0.
    since: u64,
    /// TSC of the same.
    pub began: u64,
    /// Waits until a time that had come already, since its last wait that was one.
    pub past_waits: u32,
    /// Notification bits that it has taken since the last look at it.
    pub taken: u64,
    /// Bits that were set at the last look.
    left: u64,
    /// Steady time since which it has not taken what it was rung for.
    owing_since: Option<u64>,
    /// Ticks that it had run at the last look.
    ran_ticks: u64,
    /// The VM that kicked it last, and the TSC at which that began to run.
    pub kicked: Option<(VmId, u64)>,
    /// Limits what it can log, and what is said of that.
    pub log: RateLimit,
    /// See `log`.
    pub floods: RateLimit,
    /// What it may use between two waits, what a timer interrupt is worth at most, and its patience, in ticks.
    pub budget_ticks: u64,
    /// See `budget_ticks`.
    pub tick_ticks: u64,
    patience_ticks: u64,
}

impl Liveness {
    /// Of a component that is about to start for the first time.
    pub const fn new(budget_ticks: u64, tsc_hz: u64) -> Self {
        let tick_ticks = tsc_hz / 1000 * TICK_MS;
        Liveness {
            fresh_ticks: 0,
            used_ticks: 0,
            charged_ticks: 0,
            since: 0,
            began: 0,
            past_waits: 0,
            taken: 0,
            left: 0,
            owing_since: None,
            ran_ticks: 0,
            kicked: None,
            log: RateLimit::new(LOG_RATE.0, LOG_RATE.1),
            floods: RateLimit::new(FLOODS_RATE.0, FLOODS_RATE.1),
            budget_ticks,
            // A small budget is counted in small pieces.
            tick_ticks: if tick_ticks < budget_ticks { tick_ticks } else { budget_ticks },
            patience_ticks: tsc_hz / 1000 * PATIENCE_MS,
        }
    }

    /// A successor has done nothing yet; only its lines count on, or each restart would bring more of them.
    pub const fn restart(&mut self) {
        let mut new = *self;
        new.fresh_ticks = 0;
        new.used_ticks = 0;
        new.charged_ticks = 0;
        new.past_waits = 0;
        new.taken = 0;
        new.left = 0;
        new.owing_since = None;
        new.kicked = None;
        *self = new;
    }

    /// It has really waited.
    pub const fn rest(&mut self) {
        self.fresh_ticks = 0;
        self.used_ticks = 0;
        self.past_waits = 0;
    }

    /// A timer interrupt has found it running, at the TSC `now`, which is `steady`: what that is worth, and what has come of it.
    pub fn charge(&mut self, now: u64, steady: u64) -> (u64, Verdict) {
        let worth = core::mem::take(&mut self.fresh_ticks).min(self.tick_ticks);
        if self.used_ticks == 0 {
            self.since = steady.saturating_sub(worth);
            self.began = now.saturating_sub(worth);
        }
        self.used_ticks = self.used_ticks.saturating_add(worth);
        self.charged_ticks = self.charged_ticks.saturating_add(worth);
        let verdict = match self.used_ticks {
            used if used <= self.budget_ticks => Verdict::Within,
            used if used < self.patience_ticks / OWN_PART || steady - self.since.min(steady) < self.patience_ticks => {
                Verdict::Over
            }
            _ => Verdict::Dead,
        };
        (worth, verdict)
    }

    /// A look at what it was rung for and what it has taken, at the steady time `now`: `watched` of its `notified` bits are to be taken,
    /// `stuck` says that it has left messages where they were, and `ran_ticks` how long it ran since boot. With `can_run` it would go on
    /// if others let it. True when it has slept on something for its patience.
    #[must_use]
    pub fn look(&mut self, now: u64, watched: u64, stuck: bool, ran_ticks: u64, can_run: bool) -> bool {
        let left = core::mem::replace(&mut self.left, watched);
        let slept_on = left & watched & !core::mem::take(&mut self.taken) != 0 || stuck;
        let ran = core::mem::replace(&mut self.ran_ticks, ran_ticks) != ran_ticks;
        if !slept_on {
            self.owing_since = None;
            return false;
        }
        // Who has not had the chance is not to blame; who never waits is found out otherwise.
        if can_run && !ran || self.used_ticks != 0 {
            return false;
        }
        now.saturating_sub(*self.owing_since.get_or_insert(now)) >= self.patience_ticks
    }

    /// The VM whose kicks have made it run, if one has kicked it in the quantum before it began to, or since.
    pub fn kicker(&self, quantum_ticks: u64) -> Option<VmId> {
        self.kicked.filter(|&(_, at)| at.saturating_add(quantum_ticks) >= self.began).map(|(vm, _)| vm)
    }

    /// Ticks of steady time for which it has not taken something, at the last look, which was at `now`; `None` when it owes nothing.
    pub fn owed_ticks(&self, now: u64) -> Option<u64> {
        self.owing_since.map(|since| now.saturating_sub(since))
    }

    /// Whether it has something to take, or has not taken something.
    pub const fn owes(&self) -> bool {
        self.left != 0 || self.owing_since.is_some()
    }
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;

//! The policies that can fill a component's role: their programs, which of them runs, and which one takes its place when it
//! is no good.
//!
//! The one that was chosen at boot counts as good. One that replaces another is on trial: once it has run for
//! [`GOOD_MS`] without fault it is good, and before that any fault gives the role back to the last good one. One that is
//! good and still dies [`IN_A_ROW`] times in a row, each time soon after its start, gives way to the good one before it.

use super::program::Program;
use abi::limits::{MAX_POLICIES, Name};

/// How long a policy runs without fault until it counts as good, in milliseconds.
pub const GOOD_MS: u64 = 1000;
/// Deaths in a row, each soon after a start, after which a good policy is good no more.
const IN_A_ROW: u32 = 3;

/// Why a policy cannot run; the log of the boot says more.
#[derive(Clone, Copy, Debug)]
pub enum Unfit {
    /// Its module was not among the boot modules.
    NoModule,
    /// Its module was refused.
    BadModule,
}

/// A policy that can fill the role.
pub struct Policy {
    pub name: Name,
    pub program: Result<Program, Unfit>,
}

/// All that can fill the role.
pub struct Policies {
    list: heapless::Vec<Policy, MAX_POLICIES>,
    running: usize,
    /// The last good one.
    good: usize,
    /// The good one before that.
    before: Option<usize>,
    /// Deaths of a good one in a row.
    deaths: u32,
}

impl Policies {
    /// Those of `list`, of which `running` was chosen. `None` when there is no such one or it cannot run.
    pub fn new(list: heapless::Vec<Policy, MAX_POLICIES>, running: usize) -> Option<Self> {
        list.get(running)?.program.as_ref().ok()?;
        Some(Policies { list, running, good: running, before: None, deaths: 0 })
    }

    /// How many there are, those that cannot run included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, index: usize) -> Option<&Policy> {
        self.list.get(index)
    }

    /// The number of the one that runs.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The name of the one that runs.
    pub fn name(&self) -> Name {
        self.list[self.running].name
    }

    /// The program of a policy that can run.
    pub fn program(&self, index: usize) -> Option<&Program> {
        self.list.get(index)?.program.as_ref().ok()
    }

    /// Those that can run.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.list.iter().filter_map(|policy| policy.program.as_ref().ok())
    }

    /// Whether the one that runs has still to show that it is good.
    pub fn on_trial(&self) -> bool {
        self.running != self.good
    }

    /// By the operator's wish `with` runs from now on. One that cannot run changes nothing.
    pub fn replace(&mut self, with: usize) {
        if self.program(with).is_some() {
            self.running = with;
            self.deaths = 0;
        }
    }

    /// The one that runs has shown that it is good.
    pub fn prove(&mut self) {
        if self.on_trial() {
            self.before = Some(self.good);
            self.good = self.running;
        }
        self.deaths = 0;
    }

    /// The one that runs has died by its own fault, soon after its start or not. True when the last good one has taken its
    /// place.
    #[must_use]
    pub fn fall(&mut self, soon: bool) -> bool {
        if self.on_trial() {
            self.running = self.good;
            return true;
        }
        self.deaths = if soon { self.deaths + 1 } else { 0 };
        match self.before.filter(|&before| before != self.running) {
            Some(before) if self.deaths >= IN_A_ROW => {
                (self.running, self.good, self.before, self.deaths) = (before, before, None, 0);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;

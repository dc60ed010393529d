//! Whose turn it is, and what is known of whose is next.

use abi::vm::VmId;

/// One part of a second that a quantum has at least: a plan of empty turns cannot keep the core busy.
const LEAST_QUANTUM_PART: u64 = 100_000;
/// Seconds that a quantum has at most: whatever is planned, others have their turn.
const MOST_QUANTUM: u64 = 1;

/// The VM that has the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub vm: VmId,
    /// TSC at which its quantum ends.
    pub until: u64,
}

/// The core's end of the plan that the scheduler publishes.
#[derive(Debug)]
pub struct Plan {
    /// Who has the CPU, as long as its quantum lasts.
    pub turn: Option<Turn>,
    /// The next entry that can run: VM and quantum in ticks.
    pub next: Option<(VmId, u64)>,
    /// The next entry admits this VM, and those who hear of it have no space in their rings yet.
    pub admit: Option<VmId>,
    /// The plan is empty, and the scheduler was asked for more.
    pub asked: bool,
    /// It is news when the scheduler plans: it is its first turn, or the core has chosen some in between.
    pub news: bool,
    /// Turns in a row that the core chose, since the plan last came.
    pub unnamed: u32,
    /// The scheduler that lives has planned a turn.
    pub came: bool,
    /// It has kept a VM back that can run.
    pub held: bool,
    /// Ticks that were not idle when the last scheduler was stopped, until a turn goes on that it or its successor has planned; 0 otherwise.
    lost_at: u64,
    /// The turn that somebody had then is one that was planned.
    planned: bool,
    /// Default quantum in ticks.
    quantum_ticks: u64,
    /// Shortest quantum in ticks.
    least_quantum_ticks: u64,
    /// Longest quantum in ticks.
    most_quantum_ticks: u64,
}

impl Plan {
    /// Nobody has the CPU, and nothing is planned. The default quantum is in ticks.
    pub fn new(quantum_ticks: u64, tsc_hz: u64) -> Self {
        let least_quantum_ticks = tsc_hz / LEAST_QUANTUM_PART;
        Plan {
            turn: None,
            next: None,
            admit: None,
            asked: false,
            news: true,
            unnamed: 0,
            came: false,
            held: false,
            lost_at: 0,
            planned: false,
            quantum_ticks,
            least_quantum_ticks,
            most_quantum_ticks: tsc_hz.saturating_mul(MOST_QUANTUM),
        }
    }

    /// Default quantum in ticks.
    pub fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    /// The scheduler is gone, and with it what it had planned. Its successor is asked by its start.
    pub fn forget(&mut self, now: u64) {
        self.next = None;
        self.admit = None;
        self.asked = true;
        self.news = true;
        self.planned = self.unnamed == 0;
        self.unnamed = 0;
        self.came = false;
        self.held = false;
        self.lost_at = now;
    }

    /// Whether it is still to be seen when a planned turn goes on after the last stop of the scheduler.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.lost_at != 0
    }

    /// A turn goes on that was begun before. Ticks since the scheduler was stopped, where this is the first after that, and
    /// the turn was planned.
    pub fn go_on(&mut self, now: u64) -> Option<u64> {
        let lost_at = if self.planned { core::mem::take(&mut self.lost_at) } else { 0 };
        (lost_at != 0).then(|| now.saturating_sub(lost_at))
    }

    /// The core has chosen whose turn it is.
    pub fn choose(&mut self) {
        self.news = true;
        self.unnamed = self.unnamed.saturating_add(1);
        self.planned = false;
    }

    /// The scheduler has planned a turn, which is [`Plan::news`]. Ticks since its predecessor was stopped, where no planned turn has
    /// gone on since then.
    pub fn come(&mut self, now: u64) -> Option<u64> {
        self.news = false;
        self.unnamed = 0;
        self.came = true;
        let lost_at = core::mem::take(&mut self.lost_at);
        (lost_at != 0).then(|| now.saturating_sub(lost_at))
    }

    /// A turn that begins at `now` for the quantum that the plan gives.
    #[inline]
    pub fn turn_of(&self, vm: VmId, now: u64, quantum_ticks: u64) -> Turn {
        Turn { vm, until: now.saturating_add(quantum_ticks.clamp(self.least_quantum_ticks, self.most_quantum_ticks)) }
    }

    /// The VM gives its turn up.
    #[inline]
    pub fn give_up(&mut self, vm: VmId) {
        if self.turn.is_some_and(|turn| turn.vm == vm) {
            self.turn = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_lost_from_the_stop_of_its_scheduler_until_one_plans_again() {
        let mut plan = Plan::new(10_000, 1_000_000_000);
        assert!(!plan.is_lost());
        plan.forget(700);
        assert!(plan.is_lost());
        assert_eq!(plan.come(1_000), Some(300));
        assert!(!plan.is_lost());
        assert_eq!((plan.come(1_100), plan.go_on(1_100)), (None, None));
    }

    #[test]
    fn a_turn_that_was_planned_before_the_stop_goes_on_as_planned() {
        let mut plan = Plan::new(10_000, 1_000_000_000);
        plan.come(100);
        plan.forget(700);
        assert_eq!((plan.go_on(900), plan.is_lost()), (Some(200), false));
        // One that the core chose says nothing of the plan.
        plan.choose();
        plan.forget(1_000);
        assert_eq!((plan.go_on(1_200), plan.is_lost()), (None, true));
    }
}

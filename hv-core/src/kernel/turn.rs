//! Whose turn it is, and what is known of whose is next.

use abi::share::WEIGHT;
use abi::vm::VmId;

/// One part of a second that a quantum has at least: a plan of empty turns cannot keep the core busy.
const LEAST_QUANTUM_PART: u64 = 100_000;
/// Seconds that a quantum has at most: whatever is planned, others have their turn.
const MOST_QUANTUM: u64 = 1;

/// The VM that has the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub vm: VmId,
    /// Ticks of its quantum that are left to it. Only those that it runs itself count, so that whoever is preempted loses nothing.
    pub left_ticks: u64,
    /// It runs ahead of the plan, as it has woken.
    pub ahead: bool,
}

/// What the scheduler has laid down for those that wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Turns ahead of the plan until one by the plan begins, or has a slice; 0: nobody runs ahead.
    pub most_in_row: u32,
    /// They interrupt the turn that somebody has.
    pub preempts: bool,
    /// Ticks of a turn ahead of a VM of the usual weight.
    pub slice_ticks: u64,
}

/// The core's end of the plan that the scheduler publishes.
#[derive(Debug)]
pub struct Plan {
    /// Who has the CPU, as long as its quantum lasts.
    pub turn: Option<Turn>,
    /// The turn that somebody had when others went ahead.
    pub paused: Option<Turn>,
    pub rules: Rules,
    /// Somebody has woken who may go ahead, or somebody's turn is paused: [`Plan::turn`] alone does not say who goes on.
    pub aside: bool,
    /// Turns ahead of the plan since the last one by the plan, or by the core, began, or went on since no more may in a row.
    row: u32,
    /// The next entry that can run: VM and quantum in ticks.
    pub next: Option<(VmId, u64)>,
    /// The next entry admits this VM, and those who hear of it have no space in their rings yet.
    pub admit: Option<VmId>,
    /// The plan is empty, and the scheduler was asked for more.
    pub asked: bool,
    /// It was told of VMs that go ahead without being woken: it may never have heard of them.
    pub unheard: bool,
    /// It is news when the scheduler plans: it is its first turn, or the core has chosen some in between.
    pub news: bool,
    /// Turns in a row that the core chose, since the plan last came.
    pub unnamed: u32,
    /// The scheduler that lives has planned a turn.
    pub came: bool,
    /// It has kept a VM back that can run.
    pub held: bool,
    /// Ticks that were not idle when the last scheduler was stopped, until a turn goes on that it or its successor has planned, or let go
    /// ahead; 0 otherwise.
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
            paused: None,
            rules: Rules::default(),
            aside: false,
            row: 0,
            next: None,
            admit: None,
            asked: false,
            unheard: false,
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
        self.rules = Rules::default();
        self.admit = None;
        self.asked = true;
        self.unheard = false;
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
        self.resume(now)
    }

    /// Somebody has the CPU by the choice of the scheduler that lives. Ticks since its predecessor was stopped, where nobody had it by
    /// the choice of either since then.
    #[inline]
    pub fn resume(&mut self, now: u64) -> Option<u64> {
        let lost_at = core::mem::take(&mut self.lost_at);
        (lost_at != 0).then(|| now.saturating_sub(lost_at))
    }

    /// A turn for the quantum that the plan, or the core, gives: those that wake can go ahead again.
    #[inline]
    pub fn turn_of(&mut self, vm: VmId, quantum_ticks: u64) -> Turn {
        self.row = 0;
        let left_ticks = quantum_ticks.min(self.most_quantum_ticks).max(self.least_quantum_ticks);
        Turn { vm, left_ticks, ahead: false }
    }

    /// Whether a VM that wakes, and may run so many ticks ahead, goes ahead.
    #[inline]
    pub fn lets_ahead(&self, ahead_ticks: u64) -> bool {
        self.rules.most_in_row != 0 && ahead_ticks >= self.least_quantum_ticks
    }

    /// Whether one that has woken goes ahead of whoever has the CPU now. Those that go ahead do not interrupt each other.
    #[inline]
    pub fn makes_way(&self) -> bool {
        let interrupts = self.turn.is_none_or(|turn| turn.left_ticks == 0 || !turn.ahead && self.rules.preempts);
        interrupts && self.row < self.rules.most_in_row
    }

    /// A turn of a VM that has woken, has this weight and may run so many ticks ahead. Whoever had the CPU goes on afterwards.
    pub fn go_ahead(&mut self, vm: VmId, weight: u16, ahead_ticks: u64) -> Turn {
        if let Some(turn) = self.turn.take().filter(|turn| !turn.ahead && turn.left_ticks != 0) {
            self.paused = Some(turn);
        }
        self.row += 1;
        Turn { vm, left_ticks: ahead_ticks.min(self.slice_ticks(weight)).max(self.least_quantum_ticks), ahead: true }
    }

    /// The turn goes on that somebody had when others went ahead. Where no more of them may in a row, it does so for a slice that nobody interrupts, and they
    /// go ahead of what is left of it.
    pub fn go_back(&mut self) -> Option<Turn> {
        let turn = self.paused.take()?;
        if self.row < self.rules.most_in_row {
            return Some(turn);
        }
        self.row = 0;
        let slice_ticks = self.slice_ticks(WEIGHT).max(self.least_quantum_ticks).min(turn.left_ticks);
        let left_ticks = turn.left_ticks - slice_ticks;
        self.paused = (left_ticks != 0).then_some(Turn { left_ticks, ..turn });
        Some(Turn { left_ticks: slice_ticks, ahead: true, ..turn })
    }

    /// Ticks of a turn ahead of a VM of this weight: no more than a quantum.
    #[inline]
    fn slice_ticks(&self, weight: u16) -> u64 {
        // Nearly all have the usual one.
        let ticks = self.rules.slice_ticks;
        if weight == WEIGHT {
            ticks
        } else {
            (ticks.saturating_mul(weight.into()) / u64::from(WEIGHT)).min(self.quantum_ticks)
        }
    }

    /// The scheduler has laid this down for those that wake.
    pub fn rule(&mut self, rules: Rules) {
        self.rules = Rules { slice_ticks: rules.slice_ticks.min(self.quantum_ticks), ..rules };
    }

    /// The turn that is over, or goes on, is one ahead of the plan, and over.
    #[inline(always)]
    pub fn slice_is_over(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.ahead && turn.left_ticks == 0)
    }

    /// Whoever has the turn has run so many ticks of it. Whether that counts against what it may run ahead.
    #[inline(always)]
    pub fn ran(&mut self, ticks: u64) -> bool {
        if let Some(turn) = &mut self.turn {
            turn.left_ticks = turn.left_ticks.saturating_sub(ticks);
        }
        self.rules.most_in_row != 0
    }

    /// The plan is empty. Whether the scheduler is to be asked for more now: it was not yet, or there is one whom it need not have heard of then.
    #[inline]
    pub fn asks(&mut self) -> bool {
        let unheard = core::mem::take(&mut self.unheard);
        !core::mem::replace(&mut self.asked, true) || unheard
    }

    /// The VM gives its turn up.
    #[inline]
    pub fn give_up(&mut self, vm: VmId) {
        for turn in [&mut self.turn, &mut self.paused] {
            if turn.is_some_and(|turn| turn.vm == vm) {
                *turn = None;
            }
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
        assert_eq!((plan.come(1_100), plan.go_on(1_100), plan.resume(1_100)), (None, None, None));
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

    #[test]
    fn where_no_more_may_go_ahead_in_a_row_the_planned_turn_goes_on_for_a_slice() {
        let mut plan = Plan::new(50_000, 1_000_000_000);
        plan.rules = Rules { most_in_row: 2, preempts: true, slice_ticks: 20_000 };
        let vm = |slot| VmId::new(slot, 1);
        plan.turn = Some(Turn { vm: vm(1), left_ticks: 45_000, ahead: false });
        // One is fewer than may.
        plan.go_ahead(vm(2), WEIGHT, 30_000);
        assert_eq!(plan.go_back(), Some(Turn { vm: vm(1), left_ticks: 45_000, ahead: false }));
        plan.turn = Some(Turn { vm: vm(1), left_ticks: 45_000, ahead: false });
        for left_ticks in [25_000, 5_000] {
            let ahead = plan.go_ahead(vm(2), WEIGHT, 30_000);
            assert_eq!((ahead.left_ticks, ahead.ahead), (20_000, true));
            if left_ticks == 5_000 {
                plan.go_ahead(vm(3), WEIGHT, 30_000);
            }
            let slice = Turn { vm: vm(1), left_ticks: 20_000, ahead: true };
            assert_eq!(plan.go_back(), Some(slice));
            assert_eq!(plan.paused, Some(Turn { vm: vm(1), left_ticks, ahead: false }));
            plan.turn = Some(slice);
            assert!(!plan.makes_way(), "nobody interrupts it");
            plan.turn = Some(Turn { left_ticks: 0, ..slice });
            assert!(plan.makes_way(), "others may again");
        }
        // The last of it is shorter, and nothing of it is left.
        for slot in [2, 3] {
            plan.go_ahead(vm(slot), WEIGHT, 30_000);
        }
        assert_eq!(plan.go_back(), Some(Turn { vm: vm(1), left_ticks: 5_000, ahead: true }));
        assert_eq!((plan.paused, plan.go_back()), (None, None));
    }

    #[test]
    fn a_slice_is_over_when_nothing_of_it_is_left() {
        let mut plan = Plan::new(10_000, 1_000_000_000);
        assert!(!plan.slice_is_over(), "there is none");
        for (left_ticks, ahead) in [(0, false), (5, false), (5, true), (0, true)] {
            plan.turn = Some(Turn { vm: VmId::new(1, 1), left_ticks, ahead });
            assert_eq!(plan.slice_is_over(), (left_ticks, ahead) == (0, true), "{left_ticks} {ahead}");
        }
    }

    #[test]
    fn only_a_planned_turn_that_is_not_over_goes_on_after_those_that_go_ahead() {
        let mut plan = Plan::new(10_000, 1_000_000_000);
        let vm = |slot| VmId::new(slot, 1);
        for (left_ticks, ahead) in [(0, false), (500, true), (0, true)] {
            plan.turn = Some(Turn { vm: vm(1), left_ticks, ahead });
            plan.go_ahead(vm(2), WEIGHT, 700);
            assert_eq!(plan.paused, None, "{left_ticks} {ahead}");
        }
        let planned = Turn { vm: vm(1), left_ticks: 500, ahead: false };
        plan.turn = Some(planned);
        plan.go_ahead(vm(2), WEIGHT, 700);
        assert_eq!(plan.paused, Some(planned));
    }
}

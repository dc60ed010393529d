//! The policy against a simulated core that lets those go ahead that wake: shares, waits, and senseless events.

use super::*;
use crate::policy::test_cpu::{Load, QUANTUM, names_who_can_run, new, run, steps, vm, vm_of};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

fn fair() -> Fair {
    new()
}

/// What a core does with the rules and allowances of the policy, which it asks only when its plan is empty, or for one that may not run ahead.
struct Core<'l> {
    policy: Fair,
    loads: &'l [Load],
    now: u64,
    vms: Vec<Guest>,
    sleeping: BinaryHeap<(Reverse<u64>, u32)>,
    /// Those that have woken and go ahead.
    wakers: VecDeque<u32>,
    /// The planned turn: who, and ticks left of it.
    turn: Option<(u32, u64)>,
    /// What the policy has still to be told: who is ready, or has blocked after so long.
    untold: Vec<(u32, Option<u64>)>,
    events: u64,
}

#[derive(Clone, Copy, Default)]
struct Guest {
    ran: u64,
    /// Left of its burst; 0 while it sleeps.
    left: u64,
    allowed: u64,
    since: u64,
    burst: u64,
    worst_wait: u64,
    waited: u64,
    wakes: u64,
}

impl<'l> Core<'l> {
    fn new(loads: &'l [Load]) -> Self {
        let mut policy = fair();
        policy.reset(QUANTUM);
        let vms = vec![Guest::default(); loads.len()];
        let sleeping = (0..).zip(loads).map(|(slot, _)| (Reverse(0), slot)).collect();
        let (wakers, untold) = (VecDeque::new(), Vec::new());
        Core { policy, loads, now: 0, vms, sleeping, wakers, turn: None, untold, events: 0 }
    }

    fn guest(&mut self, slot: u32) -> &mut Guest {
        &mut self.vms[usize::try_from(slot).expect("few")]
    }

    fn load(&self, slot: u32) -> Load {
        self.loads[usize::try_from(slot).expect("few")]
    }

    /// Who is due wakes.
    fn wake(&mut self) {
        while let Some(&(Reverse(due), slot)) = self.sleeping.peek()
            && due <= self.now
        {
            self.sleeping.pop();
            let burst = self.load(slot).burst;
            let guest = self.guest(slot);
            (guest.left, guest.since) = (burst, due);
            guest.wakes += 1;
            if guest.allowed > 0 {
                self.wakers.push_back(slot);
            }
            self.untold.push((slot, None));
            self.events += 1;
        }
    }

    /// The policy is told everything, and says whom it allows what, and who is next.
    fn plan(&mut self) -> Option<(u32, u64)> {
        let blocks = self.untold.iter().any(|(_, ran)| ran.is_some());
        self.policy.shorten(blocks);
        for (slot, ran) in core::mem::take(&mut self.untold) {
            match ran {
                None => {
                    self.policy.ready(vm(slot), self.loads[usize::try_from(slot).expect("few")].weight).expect("good")
                }
                Some(ran) => self.policy.blocked(vm(slot), ran, true).expect("good"),
            }
        }
        while let Some(allowance) = self.policy.allow() {
            assert!(allowance.ticks <= QUANTUM * OWED_QUANTA);
            self.guest(allowance.vm.slot.number()).allowed = allowance.ticks;
        }
        if self.policy.runnable() == 0 {
            self.policy.rest();
        }
        self.policy.next().map(|dispatch| (dispatch.vm.slot.number(), dispatch.quantum_ticks))
    }

    /// Runs somebody for `most` ticks at most, and no longer than until somebody wakes. What it ran.
    fn run(&mut self, slot: u32, most: u64) -> u64 {
        let now = self.now;
        let next = self.sleeping.peek().map_or(u64::MAX, |(Reverse(due), _)| *due);
        let pause = self.load(slot).pause;
        let guest = self.guest(slot);
        if guest.left == self.loads[usize::try_from(slot).expect("few")].burst {
            let wait = now - self.vms[usize::try_from(slot).expect("few")].since;
            let guest = self.guest(slot);
            guest.worst_wait = guest.worst_wait.max(wait);
            guest.waited += wait;
        }
        let guest = self.guest(slot);
        let ran = most.min(guest.left).min(next.saturating_sub(now).max(1));
        guest.left -= ran;
        guest.ran += ran;
        guest.burst += ran;
        guest.allowed = guest.allowed.saturating_sub(ran);
        if guest.left == 0 {
            let burst = core::mem::take(&mut guest.burst);
            self.untold.push((slot, Some(burst)));
            self.sleeping.push((Reverse(now + ran + pause), slot));
        }
        self.now += ran;
        ran
    }

    fn until(mut self, ticks: u64) -> Self {
        while self.now < ticks {
            self.wake();
            if let Some(&slot) = self.wakers.front() {
                let guest = *self.guest(slot);
                if guest.left == 0 || guest.allowed == 0 {
                    self.wakers.pop_front();
                } else {
                    self.run(slot, guest.allowed);
                }
                continue;
            }
            let (slot, left) = match self.turn.take() {
                Some((slot, left)) if left > 0 && self.guest(slot).left > 0 => (slot, left),
                _ => match self.plan() {
                    Some(turn) => turn,
                    None => {
                        self.now = self.sleeping.peek().expect("somebody").0.0;
                        continue;
                    }
                },
            };
            // A plan is made of what was known when it was made.
            if self.guest(slot).left > 0 {
                let ran = self.run(slot, left);
                self.turn = Some((slot, left - ran));
            }
        }
        self
    }
}

/// A second of quanta of 10 ms.
const SECOND: u64 = 100 * QUANTUM;

fn ran(core: &Core) -> Vec<u64> {
    core.vms.iter().map(|guest| guest.ran).collect()
}

/// Everybody's share by weight where those that want less than theirs get all that they want.
fn entitled(loads: &[Load], ticks: u64) -> Vec<f64> {
    // Small numbers.
    #[allow(clippy::cast_precision_loss)]
    let wants: Vec<f64> = loads
        .iter()
        .map(|load| {
            if load.pause == 0 {
                f64::INFINITY
            } else {
                ticks as f64 * load.burst as f64 / (load.burst + load.pause) as f64
            }
        })
        .collect();
    let weight = |index: usize| f64::from(loads[index].weight);
    let mut content = vec![false; loads.len()];
    loop {
        #[allow(clippy::cast_precision_loss)]
        let left = ticks as f64 - (0..loads.len()).filter(|&i| content[i]).map(|i| wants[i]).sum::<f64>();
        let weights: f64 = (0..loads.len()).filter(|&i| !content[i]).map(weight).sum();
        let share = |i: usize| left * weight(i) / weights;
        match (0..loads.len()).find(|&i| !content[i] && wants[i] <= share(i)) {
            Some(index) => content[index] = true,
            None => return (0..loads.len()).map(|i| if content[i] { wants[i] } else { share(i) }).collect(),
        }
    }
}

/// What everybody gets of a CPU that runs all who want it at once, each at the rate of its weight. Who pauses gets less of it than its share,
/// since it cannot want in its next burst what it waits for in this one.
// Ticks of a few simulated seconds.
#[allow(clippy::cast_precision_loss)]
fn at_once(loads: &[Load], ticks: u64) -> Vec<f64> {
    let ticks = ticks as f64;
    let mut ran = vec![0.0; loads.len()];
    // Left of its burst, and when it wakes where nothing is left.
    let mut vms: Vec<(f64, f64)> = loads.iter().map(|load| (load.burst as f64, 0.0)).collect();
    let mut now = 0.0;
    while now < ticks {
        let weights: f64 =
            loads.iter().zip(&vms).filter(|(_, vm)| vm.1 <= now).map(|(load, _)| f64::from(load.weight)).sum();
        let rate = |index: usize| f64::from(loads[index].weight) / weights;
        let next =
            (0..).zip(&vms).map(|(index, &(left, wakes))| if wakes <= now { left / rate(index) } else { wakes - now });
        let step = next.fold(ticks - now, f64::min).max(1e-3);
        for (index, (left, wakes)) in vms.iter_mut().enumerate() {
            if *wakes > now {
                continue;
            }
            let runs = (step * rate(index)).min(*left);
            ran[index] += runs;
            *left -= runs;
            if *left < 1e-6 {
                (*left, *wakes) = (loads[index].burst as f64, now + step + loads[index].pause as f64);
            }
        }
        now += step;
    }
    ran
}

/// The largest deviation of a share from what somebody is entitled to, of all the CPU.
fn error(loads: &[Load], ticks: u64) -> f64 {
    let core = Core::new(loads).until(ticks);
    #[allow(clippy::cast_precision_loss)]
    let off =
        ran(&core).into_iter().zip(entitled(loads, ticks)).map(|(ran, due)| (ran as f64 - due).abs() / ticks as f64);
    off.fold(0.0, f64::max)
}

#[test]
fn weights_hold_to_a_hundredth_over_a_second_whatever_vms_do() {
    let abuser = Load { weight: 100, burst: QUANTUM * 99 / 100, pause: 1 };
    let half_busy = Load { weight: 100, burst: QUANTUM / 2, pause: QUANTUM / 2 };
    let server = Load { weight: 100, burst: QUANTUM / 100, pause: QUANTUM };
    let game = Load { weight: 300, burst: QUANTUM / 50, pause: 10 * QUANTUM };
    let loops = [Load::computes(100); 4];
    for others in [
        &[abuser][..],
        &[abuser; 2],
        &[half_busy],
        &[server; 3],
        &[game, server, half_busy, abuser],
        &[Load::computes(300)],
    ] {
        let loads = [&loops[..], others].concat();
        let error = error(&loads, 10 * SECOND);
        assert!(error <= 0.01, "{error} with {others:?}");
    }
}

#[test]
fn who_has_not_enough_left_for_another_burst_is_allowed_more_before_it() {
    // They want half of the CPU and are entitled to two thirds, so they should never wait.
    let errors = (QUANTUM..2 * QUANTUM).step_by(37).map(|burst| {
        let loads = [Load { weight: 200, burst, pause: burst }, Load::computes(100)];
        (error(&loads, 10 * SECOND), burst)
    });
    let worst = errors.max_by(|one, other| one.0.total_cmp(&other.0));
    assert!(worst.is_some_and(|(error, _)| error <= 0.01), "{worst:?}");
}

#[test]
fn who_sleeps_is_served_at_once_beside_many_that_compute() {
    // It wants a hundredth, and is entitled to a seventeenth.
    let mut loads = vec![Load::computes(100); 17];
    loads[0] = Load { weight: 100, burst: QUANTUM / 20, pause: 5 * QUANTUM };
    let core = Core::new(&loads).until(100 * SECOND);
    let guest = core.vms[0];
    assert!(
        guest.wakes > 1_900 && guest.waited / guest.wakes < QUANTUM / 10,
        "{} in {} wakes",
        guest.waited,
        guest.wakes
    );
}

#[test]
fn what_somebody_may_run_ahead_lasts_until_the_scheduler_is_heard_again() {
    // Two want 29 hundredths each, in small bursts, and are entitled to a third. The scheduler is asked once in a turn of the third one, which lasts for more
    // than two
    // quanta with theirs: more than half of a quantum of each of them.
    let small = Load { weight: 100, burst: QUANTUM / 500, pause: QUANTUM / 500 * 71 / 29 };
    let loads = [small, small, Load::computes(100)];
    let core = Core::new(&loads).until(100 * SECOND);
    for guest in &core.vms[..2] {
        let mean = guest.waited / guest.wakes;
        assert!(mean <= small.burst, "{mean} in {} wakes", guest.wakes);
    }
}

#[test]
fn a_million_events() {
    let mut loads = vec![Load::computes(100), Load::computes(50)];
    loads.extend((1..30).map(|index| Load { weight: 100, burst: 3 + index % 5, pause: 400 + 7 * index }));
    let core = Core::new(&loads).until(20_000 * QUANTUM);
    assert!(core.events > 1_000_000 / 2, "{}", core.events);
    let worst = core.vms[2..].iter().map(|guest| guest.worst_wait).max();
    assert!(worst.is_some_and(|worst| worst <= 4 * QUANTUM), "{worst:?}");
    let off = ran(&core).into_iter().zip(entitled(&loads, core.now)).map(|(ran, due)| {
        #[allow(clippy::cast_precision_loss)]
        let off = (ran as f64 - due).abs() / core.now as f64;
        off
    });
    let off = off.fold(0.0, f64::max);
    assert!(off <= 0.01, "{off}");
}

#[test]
fn by_the_plan_alone_shares_are_by_weight() {
    let loads = [100, 300, 50].map(Load::computes);
    let ran = run(&mut fair(), &loads, 900 * QUANTUM, 1);
    assert_eq!(ran.iter().map(|ran| (ran + QUANTUM) / QUANTUM / 20).collect::<Vec<_>>(), [10, 30, 5]);
}

/// What is lent to a VM of the usual weight, and to one of weight 1.
const LENT: u64 = QUANTUM / 4;
const LENT_TO_ONE: u64 = LENT / 100;

#[test]
fn nobody_is_allowed_more_than_it_is_owed_and_each_once() {
    let mut policy = fair();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    policy.ready(vm(1), 100).expect("good");
    // A newcomer is behind those that are there.
    policy.blocked(vm(1), 10, true).expect("known");
    assert_eq!(policy.allow(), None);
    for _ in 0..10 {
        policy.next();
    }
    // Nine quanta of the other have passed: it can be owed some of them.
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), 0, true).expect("known");
    policy.blocked(vm(1), 0, true).expect("known");
    assert_eq!(policy.allow(), Some(Allowance { vm: vm(1).id, ticks: OWED_QUANTA * QUANTUM }));
    assert_eq!(policy.allow(), None);
    // It has enough until less than two quanta are left.
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), 2 * QUANTUM, true).expect("known");
    assert_eq!(policy.allow(), None);
    // Beyond what it is owed a little is lent to it, once.
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), QUANTUM, true).expect("known");
    assert_eq!(policy.allow(), Some(Allowance { vm: vm(1).id, ticks: QUANTUM + LENT }));
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), QUANTUM + LENT, true).expect("known");
    assert_eq!(policy.allow(), None);
    // Another one in its seat is owed nothing.
    policy.next();
    policy.ready(vm(1), 100).expect("good");
    policy.blocked(vm(1), QUANTUM, true).expect("known");
    policy.ready(vm_of(1, 2), 100).expect("good");
    assert_eq!(policy.allow(), None);
}

#[test]
fn time_that_nobody_wanted_is_owed_to_all() {
    let mut policy = fair();
    policy.reset(QUANTUM);
    for slot in 0..2 {
        policy.ready(vm(slot), 100).expect("good");
        policy.blocked(vm(slot), 5, true).expect("known");
    }
    assert_eq!(policy.allow(), None);
    policy.rest();
    policy.ready(vm(0), 100).expect("good");
    policy.blocked(vm(0), 5, true).expect("known");
    // What it has just run is lent to it.
    assert_eq!(policy.allow(), Some(Allowance { vm: vm(0).id, ticks: OWED_QUANTA * QUANTUM }));
}

/// So many ticks pass in which a VM of slot 0 runs, with the weight that makes ticks and passes the same.
fn elapse(policy: &mut Fair, ticks: u64) {
    for ran in [ticks, 0] {
        policy.ready(vm(0), 1).expect("good");
        policy.next();
        policy.blocked(vm(0), ran, true).expect("known");
    }
}

/// Whether a VM that was allowed [`OWED_QUANTA`] quanta is allowed more at the end of its second burst, when `between` ticks pass between the two.
fn is_allowed_more(first: u64, between: u64, second: u64) -> bool {
    let mut policy = fair();
    policy.reset(QUANTUM);
    policy.ready(vm(1), 1).expect("good");
    policy.blocked(vm(1), 0, true).expect("known");
    elapse(&mut policy, OWED_QUANTA * QUANTUM - LENT_TO_ONE);
    policy.ready(vm(1), 1).expect("good");
    policy.blocked(vm(1), 0, true).expect("known");
    assert_eq!(policy.allow(), Some(Allowance { vm: vm(1).id, ticks: OWED_QUANTA * QUANTUM }));
    policy.ready(vm(1), 1).expect("good");
    policy.blocked(vm(1), first, true).expect("known");
    assert_eq!(policy.allow(), None, "it is owed what it is allowed");
    elapse(&mut policy, between);
    policy.ready(vm(1), 1).expect("good");
    policy.blocked(vm(1), second, true).expect("known");
    policy.allow().is_some()
}

#[test]
fn more_is_allowed_below_two_quanta_and_when_an_eighth_of_one_is_gained() {
    let eighth = QUANTUM / 8;
    assert!(!is_allowed_more(QUANTUM, QUANTUM, QUANTUM), "two quanta are left");
    assert!(is_allowed_more(QUANTUM, QUANTUM, QUANTUM + 1));
    assert!(!is_allowed_more(2 * QUANTUM, eighth, 1), "it would gain an eighth of a quantum only");
    assert!(is_allowed_more(2 * QUANTUM, eighth + 1, 1));
}

#[test]
fn who_sleeps_is_told_of_what_it_comes_to_be_owed_before_it_wakes() {
    let mut policy = fair();
    policy.reset(QUANTUM);
    for slot in [1, 2] {
        policy.ready(vm(slot), 1).expect("good");
    }
    for slot in [1, 2] {
        policy.blocked(vm(slot), 0, true).expect("known");
        assert_eq!(policy.allow(), None, "a newcomer is owed nothing");
    }
    elapse(&mut policy, QUANTUM);
    policy.ready(vm(2), 1).expect("good");
    // Who is second is looked at the next time; what it runs at the moment is not known of one that can run.
    let told: Vec<_> = (0..6).filter_map(|_| policy.allow()).collect();
    assert_eq!(told, [Allowance { vm: vm(1).id, ticks: QUANTUM + LENT_TO_ONE }]);
    policy.blocked(vm(2), QUANTUM, true).expect("known");
    assert_eq!(policy.allow(), None, "it has run that, and what is lent to it is not worth a word");
    // Each once, and nobody who is gone, or whose seat another one has.
    for slot in [1, 2] {
        policy.ready(vm(slot), 1).expect("good");
        policy.blocked(vm(slot), 2 * QUANTUM, true).expect("known");
    }
    elapse(&mut policy, 9 * QUANTUM);
    policy.ended(vm(1));
    policy.ready(vm_of(2, 2), 1).expect("good");
    assert!((0..6).all(|_| policy.allow().is_none()));
}

#[test]
fn time_that_nobody_wants_is_owed_however_often_that_is_so() {
    let mut policy = fair();
    policy.reset(QUANTUM);
    policy.ready(vm(0), 100).expect("good");
    policy.blocked(vm(0), 2 * QUANTUM, true).expect("known");
    for _ in 0..100 {
        policy.rest();
        policy.ready(vm(0), 100).expect("good");
        policy.blocked(vm(0), 2 * QUANTUM, true).expect("known");
        assert_eq!(policy.allow(), Some(Allowance { vm: vm(0).id, ticks: (OWED_QUANTA - 2) * QUANTUM + LENT }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn senseless_events(steps in steps()) {
        names_who_can_run(&mut fair(), steps)?;
    }

    /// Whatever mix of VMs: nobody starves, and nobody gets less than both what it is entitled to and what it would get of a CPU that ran all
    /// at once, by more than 8 % of the CPU. It is that much for those that sleep for an instant after each short burst: they wait for longer
    /// bursts of others that have woken, and what they may run ahead is used up before the next plan.
    #[test]
    fn nobody_starves_and_what_anybody_lags_is_bounded(
        loads in prop::collection::vec(prop_oneof![
            (1_u16..5).prop_map(|weight| Load::computes(100 * weight)),
            (1_u16..5, 1..2 * QUANTUM, 1..20 * QUANTUM).prop_map(|(weight, burst, pause)| Load { weight: 100 * weight, burst, pause }),
        ], 2..20)
    ) {
        let ticks = 20 * SECOND;
        let core = Core::new(&loads).until(ticks);
        let hungry = loads.iter().any(|load| load.pause == 0);
        let due = entitled(&loads, ticks).into_iter().zip(at_once(&loads, ticks)).map(|(share, served)| share.min(served));
        for (guest, due) in core.vms.iter().zip(due) {
            prop_assert!(guest.ran > 0);
            #[allow(clippy::cast_precision_loss)]
            let short = (due - guest.ran as f64) / ticks as f64;
            prop_assert!(!hungry || short <= 0.08, "{} of {due}", guest.ran);
        }
    }
}

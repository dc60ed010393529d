//! Who is ready runs: how many turns others have had meanwhile, and what bounds that.
//!
//! The core's own order is first come, first served: whoever stands in its queue runs at the latest when all who stood before it have
//! had one of its turns, whatever the plan named in between and whatever goes wrong. A scheduler that does its work names everybody
//! once in a round of plans ([`super::roles`]); what it learnt late stands in the next round, so two rounds bound the planned turns.

use super::machine::{Machine, WITHOUT_NIC};
use super::roles::{IN_ROW, PLAN_DEPTH, Role as FakeRole};
use crate::component::Run;
use crate::kernel::Turn;
use crate::vm::Queue;
use abi::service::Service;
use abi::vm::{Slot, VmId};
use backend::fake::Step;
use std::collections::BTreeMap;

/// A VM that can run and does not.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Turns of the core's own order until it runs at the latest.
    fallbacks: u64,
    /// Turns that the scheduler has given to others since it could know of this one, and the most VMs that were ready then.
    planned: usize,
    ready: usize,
}

/// Whose turn it is, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    slot: u32,
    /// Nothing of it is left: what the same VM does next is another turn.
    over: bool,
}

/// All who wait for their turn.
#[derive(Default)]
pub struct Readiness {
    waits: BTreeMap<VmId, Wait>,
    turn: Option<Seen>,
    /// Who has gone ahead of the plan and goes on, and how many have since anybody had something of a turn by the plan, or by the core.
    ahead: Option<u32>,
    row: u64,
    /// The turn by the plan, or by the core, that somebody had or that was paused at the last look.
    planned: Option<Turn>,
    /// Of all that have gone ahead, and of entries of VMs, at the last look.
    went_ahead: u64,
    entries: u64,
    /// The core's turns and, by slot, the steps of guests at the last look.
    fallbacks: u64,
    asked: BTreeMap<u32, u64>,
    /// Which start of the scheduler it was, if one lived.
    scheduler: Option<u32>,
}

impl Readiness {
    /// Look at a machine that has done one step of the loop. A scheduler that is `honest` names everybody who is ready.
    ///
    /// # Panics
    /// Somebody is ready and others have had more turns than they may, or nobody runs at all.
    pub fn look<const TIMER: bool>(&mut self, machine: &mut Machine<TIMER>, honest: bool) {
        let ran = self.who_ran(machine);
        let scheduler = machine.scheduler_start();
        let planner_changed = core::mem::replace(&mut self.scheduler, scheduler) != scheduler;
        let fell_back = machine.kernel.cpu.counters.fallbacks - self.fallbacks;
        self.fallbacks += fell_back;
        let began = self.begins(machine, ran);
        let queue: Vec<_> = machine.kernel.cpu.queues.all(Queue::Ready).collect();
        let ready = machine.able(&queue);
        assert!(ready.is_empty() || !machine.is_asleep(), "the machine sleeps, and {ready:?} could run");
        let held = machine.kernel.cpu.plan.held;
        let holder = machine.kernel.cpu.plan.turn.map(|turn| turn.vm);
        let others = |id: VmId| holder != Some(id) && ran != Some(id.slot.number());
        self.waits.retain(|id, _| others(*id) && ready.contains(id));
        for &id in ready.iter().filter(|&&id| others(id)) {
            let place = (1..).zip(&queue).find(|(_, slot)| **slot == id.slot).map_or(0, |(place, _)| place);
            let new = Wait { fallbacks: place, planned: 0, ready: 0 };
            let is_new = !self.waits.contains_key(&id);
            let wait = self.waits.entry(id).or_insert(new);
            wait.ready = wait.ready.max(ready.len());
            if is_new {
                continue;
            }
            // It pays with its turns for what others have run for it.
            if machine.kernel.vms.by_id(id).is_some_and(|vm| vm.debt_ticks != 0) {
                *wait = new;
                continue;
            }
            // A scheduler that keeps it back and names it again has put it last: that is its right, and no doing of the core's.
            if held && place > wait.fallbacks.saturating_sub(fell_back) {
                *wait = new;
                continue;
            }
            assert!(wait.fallbacks > fell_back, "{id} could run, and the core has passed it over");
            wait.fallbacks -= fell_back;
            if planner_changed || scheduler.is_none() {
                (wait.planned, wait.ready) = (0, ready.len());
            } else if began && fell_back == 0 {
                wait.planned += 1;
            }
            let bound = 2 * PLAN_DEPTH * wait.ready.div_ceil(PLAN_DEPTH);
            assert!(!honest || wait.planned <= bound, "{id} could run, and {wait:?} others were planned");
        }
    }

    /// The slot whose guest has done something since the last look.
    fn who_ran<const TIMER: bool>(&mut self, machine: &Machine<TIMER>) -> Option<u32> {
        let guests = machine.guests.borrow();
        let ran = guests.asked.iter().find(|&(slot, count)| self.asked.get(slot) != Some(count));
        let (&slot, &count) = ran?;
        self.asked.insert(slot, count);
        Some(slot)
    }

    /// Whether a turn by the plan, or by the core, has begun with what ran, if anything did: somebody else's, or one of the same VM after the
    /// end of its last. One that others went ahead of goes on afterwards.
    ///
    /// # Panics
    /// More have gone ahead in a row than the scheduler's rules allow, and nobody had any of a turn by the plan in between.
    fn begins<const TIMER: bool>(&mut self, machine: &Machine<TIMER>, ran: Option<u32>) -> bool {
        let cpu = &machine.kernel.cpu;
        let went_ahead = core::mem::replace(&mut self.went_ahead, cpu.counters.ahead) != cpu.counters.ahead;
        let entered = core::mem::replace(&mut self.entries, cpu.backend.entries) != cpu.backend.entries;
        let turn = cpu.plan.turn.filter(|turn| Some(turn.vm.slot.number()) == ran && turn.left_ticks != 0);
        let over = turn.is_none();
        let planned = cpu.plan.turn.filter(|turn| !turn.ahead).or(cpu.plan.paused);
        let before = core::mem::replace(&mut self.planned, planned);
        // It may end without a step of its VM, which waits for a page or is gone: what the same VM does next is another one.
        if let Some(seen) = self.turn.as_mut().filter(|_| before.is_none()) {
            seen.over = true;
        }
        // One that others go ahead of stays as it is: this one has run, ended or begun, in whole or for a slice. One that did all of that in
        // one step has entered its VM.
        let goes_ahead = |slot| ran == Some(slot) || cpu.plan.turn.is_some_and(|turn| turn.vm.slot.number() == slot);
        if before != planned || entered && !went_ahead && !self.ahead.is_some_and(goes_ahead) {
            self.row = 0;
        }
        if went_ahead {
            self.row += 1;
            assert!(self.row <= u64::from(IN_ROW), "{} in a row have gone ahead", self.row);
            self.ahead = cpu.plan.turn.filter(|turn| turn.left_ticks != 0).map(|turn| turn.vm.slot.number());
            return false;
        }
        let Some(slot) = ran else { return false };
        if self.ahead == Some(slot) {
            self.ahead = ran.filter(|_| !over);
            return false;
        }
        self.ahead = None;
        let goes_on = self.turn.is_some_and(|turn| turn.slot == slot && !turn.over);
        self.turn = Some(Seen { slot, over });
        !goes_on
    }
}

impl<const TIMER: bool> Machine<TIMER> {
    /// Which start of the scheduler lives, if one does.
    fn scheduler_start(&self) -> Option<u32> {
        let component = &self.kernel.cpu.components.list[self.rank(Service::Plan)];
        matches!(component.run, Run::Ready | Run::Waiting { .. }).then_some(component.incarnation)
    }

    /// Those of the VMs in these slots that can run.
    fn able(&mut self, slots: &[Slot]) -> Vec<VmId> {
        let vms = &mut self.kernel.vms;
        slots.iter().filter_map(|&slot| vms.get(slot).filter(|vm| vm.life.is_ready()).map(|vm| vm.id)).collect()
    }
}

/// A machine of three VMs that compute for ever, which is looked at while `meddle` has its way after each step.
fn computing(lazy: bool, mut meddle: impl FnMut(&mut Machine<true>, &[VmId])) {
    let mut machine = Machine::<true>::new(4096);
    machine.guests.borrow_mut().calm = Some(Box::new(|_| Some(Step::Compute(5_000))));
    let vms: Vec<_> = (0..3).map(|_| machine.create(WITHOUT_NIC)).collect();
    for _ in 0..300 {
        machine.step();
    }
    let rank = machine.rank(Service::Plan);
    if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
        sched.lazy = lazy;
    }
    let mut readiness = Readiness::default();
    for _ in 0..2000 {
        machine.step();
        readiness.look(&mut machine, true);
        meddle(&mut machine, &vms);
    }
    assert_eq!(machine.guests.borrow().asked.len(), 3);
}

#[test]
fn all_is_well_by_the_plan_and_by_the_cores_own_order() {
    computing(false, |_, _| ());
    computing(true, |_, _| ());
}

#[test]
#[should_panic(expected = "and the core has passed it over")]
fn an_order_that_puts_somebody_last_again_and_again_is_noticed() {
    computing(true, |machine, vms| machine.kernel.cpu.queues.rotate(Queue::Ready, vms[1].slot));
}

#[test]
#[should_panic(expected = "others were planned")]
fn a_plan_that_never_names_somebody_is_noticed() {
    computing(false, |machine, vms| {
        let rank = machine.rank(Service::Plan);
        if let FakeRole::Sched(sched) = &mut machine.hardware.borrow_mut().components[rank].role {
            sched.ready.retain(|vm| *vm != vms[1]);
        }
    });
}

#[test]
#[should_panic(expected = "could run")]
fn a_machine_that_sleeps_while_somebody_can_run_is_noticed() {
    computing(true, |machine, _| machine.hardware.borrow_mut().asleep = true);
}

//! Who is ready runs: how many turns others have had meanwhile, and what bounds that.
//!
//! The core's own order is first come, first served: whoever stands in its queue runs at the latest when all who stood before it have
//! had one of its turns, whatever the plan named in between and whatever goes wrong. A scheduler that does its work names everybody
//! once in a round of plans ([`super::roles`]); what it learnt late stands in the next round, so two rounds bound the planned turns.

use super::machine::Machine;
use super::roles::PLAN_DEPTH;
use crate::component::Run;
use crate::vm::Queue;
use abi::service::Service;
use abi::vm::{Slot, VmId};
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
    /// TSC at its first entry.
    since: u64,
}

/// All who wait for their turn.
#[derive(Default)]
pub struct Readiness {
    waits: BTreeMap<VmId, Wait>,
    turn: Option<Seen>,
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

    /// Whether a turn has begun with what ran, if anything did: somebody else's, or the same one's for longer than any quantum that
    /// is asked for here.
    fn begins<const TIMER: bool>(&mut self, machine: &Machine<TIMER>, ran: Option<u32>) -> bool {
        let cpu = &machine.kernel.cpu;
        let Some(slot) = ran else { return false };
        let goes_on = self
            .turn
            .is_some_and(|turn| turn.slot == slot && cpu.mark.saturating_sub(turn.since) < cpu.plan.quantum_ticks());
        if !goes_on {
            self.turn = Some(Seen { slot, since: cpu.mark });
        }
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

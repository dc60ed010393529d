//! Looking after components: who has run too long has the CPU in turn with VMs, who makes no progress is condemned
//! ([`super::liveness`] says when). Nothing here is on the path of a component that waits in time.

use super::components::Components;
use super::endpoint::{Endpoint, EndpointId, Full, MAX_ENDPOINTS};
use super::liveness::Verdict;
use super::run::{Death, Run};
use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{NEVER, Queue, Table};
use abi::service::Service;
use backend::Backend;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// A timer interrupt has found a component running.
    #[cold]
    #[inline(never)]
    pub fn charge(&mut self, rank: usize) {
        let Self { vms, cpu, .. } = self;
        let (now, quantum_ticks) = (cpu.mark, cpu.plan.quantum_ticks());
        let Some(component) = cpu.components.list.get_mut(rank) else { return };
        if component.run != Run::Ready {
            return;
        }
        let used = component.live.used_ticks;
        let (worth, verdict) = component.live.charge(now, cpu.steady.at(now));
        let live = component.live;
        if verdict == Verdict::Within {
            return;
        }
        if !cpu.components.shares.contains(rank) {
            cpu.components.shares.demote(rank);
            cpu.attention.clear_runnable(rank);
        }
        // Whose kicks have brought this about pays for it: for all of the turn when it goes beyond, then for what follows.
        let bill = if used <= live.budget_ticks { live.used_ticks } else { worth };
        if let Some(vm) = live.kicker(quantum_ticks)
            && let Some(vm) = vms.by_id(vm)
        {
            cpu.bill_ticks(rank, vm, bill);
        }
        if verdict == Verdict::Dead {
            let why = match live.past_waits {
                0 => Death::Overrun(live.used_ticks),
                _ => Death::Spins(live.used_ticks),
            };
            return cpu.condemn(rank, why);
        }
        for id in cpu.components.list[rank].endpoints {
            let Some(endpoint) = cpu.endpoints.get_mut(id) else { continue };
            if let Full::Since(at) | Full::Woken(at) = endpoint.full
                && live.charged_ticks.saturating_sub(at) > live.budget_ticks
                && endpoint.is_full()
            {
                return cpu.condemn(rank, Death::RingFull);
            }
        }
    }

    /// The component that has the CPU now, of those that share it with VMs; `None`: the VMs have it.
    #[cold]
    #[inline(never)]
    pub fn shared_turn(&mut self) -> Option<usize> {
        // VMs that have still to come to live are served in their turn as well.
        let come = self.may_create();
        let cpu = &mut self.cpu;
        let vms = come || !cpu.queues.is_empty(Queue::Ready);
        let Components { list, shares, .. } = &mut cpu.components;
        let guest_ticks = cpu.counters.guest_ticks;
        let ran = |rank: Option<usize>| rank.map_or(guest_ticks, |rank| list[rank].ran_ticks);
        let (turn, until) = shares.next(cpu.mark, vms, cpu.plan.quantum_ticks(), ran);
        cpu.arm(until);
        turn
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// A component waits that had to be charged for its turn, or that shares the CPU with VMs: all is well again.
    #[cold]
    #[inline(never)]
    pub fn rested(&mut self, rank: usize) {
        self.components.list[rank].live.rest();
        if self.components.shares.contains(rank) {
            self.components.shares.promote(rank);
            self.attention.set_runnable(rank);
        }
    }

    /// A component waits until a time that has come: it is told what has happened, and goes on with the turn that it has.
    #[cold]
    #[inline(never)]
    pub fn wait_for_the_past(&mut self, rank: usize, mask: u64) {
        let component = &mut self.components.list[rank];
        let taken = component.notified & mask;
        component.notified &= !taken;
        component.context.rax = taken;
        component.live.taken |= taken;
        component.live.past_waits = component.live.past_waits.saturating_add(1);
    }

    /// Look after all components, when it is time: what they were rung for, whom they have to let go of, whether trials are over.
    #[cold]
    pub fn look_after_components(&mut self, vms: &mut Table<B>, now: u64) {
        let steady = self.steady.look(now);
        let mut goes_on = self.node.is_none();
        for id in (0..MAX_ENDPOINTS).map(EndpointId::new) {
            goes_on |= self.look_at_leaving(vms, id, steady);
        }
        goes_on |= self.look_at_windows(vms, steady, self.time.milliseconds(super::liveness::PATIENCE_MS));
        for rank in 0..self.components.list.len() {
            let can_run = self.attention.is_runnable(rank) || self.components.shares.contains(rank);
            let component = &mut self.components.list[rank];
            if !matches!(component.run, Run::Ready | Run::Waiting { .. }) {
                continue;
            }
            let (mut stuck, mut has_messages) = (0, false);
            for endpoint in component.endpoints {
                if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
                    stuck |= if endpoint.is_stuck() { endpoint.bit } else { 0 };
                    has_messages |= endpoint.has_messages();
                }
            }
            let bits = component.notified & component.watched;
            let dead = component.live.look(steady, bits, stuck != 0, component.ran_ticks, can_run);
            goes_on |= component.live.owes() || has_messages || component.trial_ends != NEVER;
            if component.trial_ends <= steady {
                self.attention.set_components();
            }
            if dead {
                self.condemn(rank, Death::Sleeps);
            } else if stuck != 0 {
                // Not all messages ring when they come. From now on it has no excuse.
                self.notify(rank, stuck);
            }
        }
        let ran = self.counters.component_ticks.wrapping_add(self.counters.guest_ticks);
        goes_on |= core::mem::replace(&mut self.ran_at_look, ran) != ran;
        self.look_at = if goes_on { now.saturating_add(self.steady.period_ticks()) } else { NEVER };
    }

    /// Whether the demultiplexer or striper at an endpoint has to let go of some VM. One that does not within its time is condemned.
    fn look_at_leaving(&mut self, vms: &mut Table<B>, id: EndpointId, steady: u64) -> bool {
        let first = self.queues.first(Queue::Leaving(id)).and_then(|slot| vms.get(slot)).map(|vm| vm.id);
        let is_server = |endpoint: &&mut Endpoint| matches!(endpoint.service, Service::Net | Service::Disk);
        let Some(endpoint) = self.endpoints.get_mut(id).filter(is_server) else {
            return false;
        };
        let since = match (first, endpoint.leaving) {
            (Some(first), Some((vm, since))) if first == vm => since,
            _ => steady,
        };
        endpoint.leaving = first.map(|vm| (vm, since));
        if let Some(vm) = first
            && steady.saturating_sub(since) >= self.time.milliseconds(super::liveness::PATIENCE_MS)
        {
            self.withholds(id, vm);
        }
        first.is_some()
    }
}

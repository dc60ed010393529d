//! Whose turn it is: the plan that the scheduler publishes, and the core's own order where the plan is late.

use super::{Machine, Turn};
use crate::components::{Role, Told};
use crate::machine::syscalls::Death;
use crate::vms::State;
use abi::message::Message;
use abi::sched::{SchedCommand, SchedEvent};
use backend::Backend;

/// Plan entries looked at for one turn at most; the rest of a plan of VMs that cannot run waits for the next.
const LOOK_AHEAD: usize = 256;
/// VMs that are admitted before components come to their turn.
const ADMIT_BATCH: usize = 32;

impl<B: Backend> Machine<B> {
    /// The VM that runs next; `None` when no VM can, or when the scheduler has just been asked and runs first.
    #[inline]
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        if let Some(turn) = self.turn.take() {
            match self.vms.by_id(turn.vm).map(|vm| vm.state) {
                Some(State::Ready) if self.mark < turn.until => return Some(turn),
                Some(State::Fault { page, known: false }) => {
                    // The pager has had its chance; others go on meanwhile.
                    if let Some(vm) = self.vms.by_id(turn.vm) {
                        vm.state = State::Fault { page, known: true };
                    }
                    self.blocked(turn.vm.index, false);
                }
                _ => {}
            }
        }
        if self.ready.is_empty() {
            // Admissions must not wait in the plan behind turns of VMs that cannot run.
            if let Some(rank) = self.components.rank_of(Role::Sched) {
                self.advance_plan(rank);
            }
            if self.ready.is_empty() {
                return None;
            }
        }
        let planned = self.planned();
        if planned.is_none() && self.components.runnable == 0 {
            return self.unplanned();
        }
        planned
    }

    /// The next entry of the plan that can run. Wakes the scheduler when nothing is left.
    #[inline]
    fn planned(&mut self) -> Option<Turn> {
        let rank = self.components.rank_of(Role::Sched)?;
        self.advance_plan(rank);
        let Some((vm, quantum_ticks)) = self.planned.take() else {
            // The scheduler gets one chance to say who is next before the core decides by itself.
            if !self.asked_scheduler {
                self.asked_scheduler = true;
                let bit = self.components.list[rank].ends.bit;
                self.components.notify(rank, bit);
            }
            return None;
        };
        self.asked_scheduler = false;
        Some(Turn { vm, until: self.mark.saturating_add(quantum_ticks.max(self.least_quantum_ticks)) })
    }

    /// Go on in the plan up to an entry whose VM can run: admissions are carried out on the way, and turns of VMs that
    /// cannot run are passed over.
    #[inline]
    pub(super) fn advance_plan(&mut self, rank: usize) {
        if let Some((vm, _)) = self.planned
            && self.vms.by_id(vm).is_some_and(|vm| vm.state == State::Ready)
        {
            return;
        }
        self.planned = None;
        let mut admitted = 0;
        for _ in 0..LOOK_AHEAD {
            // Components are told of every VM that is admitted, and must come to their turn before their rings are full.
            if admitted == ADMIT_BATCH {
                break;
            }
            let Some(message) = self.components.list[rank].ends.take() else { break };
            match SchedCommand::try_from(&message) {
                Ok(SchedCommand::Run { vm, quantum_ticks }) => {
                    if self.vms.by_id(vm).is_some_and(|vm| vm.state == State::Ready) {
                        self.planned = Some((vm, quantum_ticks));
                        break;
                    }
                }
                Ok(SchedCommand::Admit { vm }) => {
                    self.admit(vm);
                    admitted += 1;
                }
                Err(error) => self.bad_message(rank, &error),
            }
        }
        self.components.list[rank].ends.release();
    }

    /// The core's own order, first come first served: the plan is late, or there is no scheduler.
    fn unplanned(&mut self) -> Option<Turn> {
        let slot = self.ready.first()?;
        self.counters.fallbacks += 1;
        self.ready.rotate(slot);
        let vm = self.vms.get(slot)?.id;
        Some(Turn { vm, until: self.mark.saturating_add(self.quantum_ticks) })
    }

    /// A VM can run again.
    #[inline]
    pub(super) fn wake(&mut self, slot: u16) {
        let Some(vm) = self.vms.get(slot) else { return };
        vm.state = State::Ready;
        vm.burst_ticks = 0;
        let id = vm.id;
        self.ready.push(slot);
        self.tell_scheduler(SchedEvent::Ready { vm: id }, true);
    }

    /// A VM cannot run for now.
    #[inline]
    pub(super) fn blocked(&mut self, slot: u16, idle: bool) {
        let Some(vm) = self.vms.get(slot) else { return };
        let event = SchedEvent::Blocked { vm: vm.id, ran_ticks: vm.burst_ticks, idle };
        self.ready.remove(slot);
        self.tell_scheduler(event, false);
    }

    /// Tell the scheduler; wake it when it should act now.
    #[inline]
    pub(super) fn tell_scheduler(&mut self, event: SchedEvent, now: bool) {
        self.tell(Role::Sched, &Message::from(event), now);
    }

    /// Put a message into the ring to the component with this role. One that does not empty its ring is restarted: it
    /// runs before any VM, so a full ring means that it has stopped doing its work.
    #[inline]
    pub(super) fn tell(&mut self, role: Role, message: &Message, now: bool) {
        let Some((rank, component)) = self.components.of(role) else { return };
        // What is told to a dead component is gone when its ring's epoch moves; its successor is told everything anew.
        match component.ends.tell(message) {
            Told::Yes if now || !component.ends.has_space() => {
                let bit = component.ends.bit;
                self.components.notify(rank, bit);
            }
            Told::Yes | Told::Nobody => {}
            Told::Full => self.kill(rank, Death::RingFull),
        }
    }
}

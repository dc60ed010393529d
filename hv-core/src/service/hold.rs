//! VMs that the scheduler keeps back: the core's own order neither runs nor admits them. A `Hold` ends with the next word of
//! the plan about the VM, and with the scheduler that gave it, so that no VM waits for one that is gone.

use crate::board::Board;
use crate::component::{Role, Run};
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Queue, State, Vm};
use backend::Backend;

/// VMs whose hold has ended with its scheduler that are let go in one turn.
const BATCH: usize = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Let those go whose scheduler is gone. They were held before those of its successor.
    #[cold]
    pub(super) fn let_expired_go(&mut self) {
        let Self { vms, cpu, .. } = self;
        for _ in 0..BATCH {
            match cpu.queues.first(Queue::Held).and_then(|slot| vms.get(slot)) {
                Some(vm) if !cpu.is_held(vm) => cpu.let_go(vm),
                _ => return,
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Whether the scheduler that lives keeps this VM back.
    #[inline]
    pub(super) fn is_held(&self, vm: &Vm<B>) -> bool {
        vm.held_by != 0 && self.scheduler_start() == Some(vm.held_by)
    }

    /// Which start of the scheduler is the one that lives.
    fn scheduler_start(&self) -> Option<u32> {
        let scheduler = &self.components.list[self.components.rank_of(Role::Sched)?];
        matches!(scheduler.run, Run::Ready | Run::Waiting { .. }).then_some(scheduler.incarnation)
    }

    /// The scheduler keeps a VM back from now on. Its turn, if it has it, is over.
    #[cold]
    pub(super) fn hold(&mut self, vm: &mut Vm<B>) {
        let Some(start) = self.scheduler_start() else { return };
        vm.held_by = start;
        let slot = vm.slot();
        match vm.life.state() {
            State::Waiting => self.queues.remove(Queue::Waiting, slot),
            State::Ready => self.queues.remove(Queue::Ready, slot),
            // It keeps its turn until its page is there, unless somebody ends that: then the scheduler is told.
            State::Fault(_) if self.queues.contains(Queue::Ready, slot) => return self.yield_turn(vm),
            State::Idle { .. } | State::Fault(_) | State::Ending => return,
        }
        self.queues.push(Queue::Held, slot);
        self.plan.give_up(vm.id);
    }

    /// A VM that waits for a page and has its turn loses it.
    fn yield_turn(&mut self, vm: &mut Vm<B>) {
        self.plan.give_up(vm.id);
        self.blocked(vm, false);
    }

    /// The plan has named a VM: it is held no more.
    #[inline]
    pub(super) fn let_go(&mut self, vm: &mut Vm<B>) {
        if vm.held_by != 0 {
            self.unhold(vm);
        }
    }

    #[cold]
    fn unhold(&mut self, vm: &mut Vm<B>) {
        vm.held_by = 0;
        if !self.queues.contains(Queue::Held, vm.slot()) {
            return;
        }
        self.queues.remove(Queue::Held, vm.slot());
        if vm.life.is_waiting() {
            self.await_admission(vm);
        } else {
            self.queues.push(Queue::Ready, vm.slot());
        }
    }
}

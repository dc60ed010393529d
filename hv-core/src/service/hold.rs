//! VMs that the scheduler keeps back: the core's own order neither runs nor admits them. A `Hold` ends with the next word of
//! the plan about the VM, and with the scheduler that gave it, so that no VM waits for one that is gone.

use crate::board::Board;
use crate::component::Run;
use crate::kernel::{Cpu, Kernel};
use crate::vm::{Queue, State, Table, Vm};
use abi::vm::VmId;
use backend::Backend;

/// VMs whose hold has ended with its scheduler that are let go in one turn of the loop.
const BATCH: usize = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Let some of those go whose scheduler is gone, and come back for the others. They were held before those of its successor.
    #[cold]
    pub fn let_expired_go(&mut self) {
        let Self { vms, cpu, .. } = self;
        for _ in 0..BATCH {
            let Some(slot) = cpu.queues.first(Queue::Held) else { return };
            if cpu.scheduler_start() == Some(vms.held_by(slot)) {
                return;
            }
            match (vms.waiting_in(slot), vms.get(slot)) {
                (Some(seed), _) => cpu.let_wait(vms, seed.id),
                (None, Some(vm)) => cpu.let_go(vm),
                (None, None) => cpu.queues.remove(Queue::Held, slot),
            }
        }
        cpu.attention.set_unheld();
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
        let scheduler = &self.components.list[self.scheduler()?];
        matches!(scheduler.run, Run::Ready | Run::Waiting { .. }).then_some(scheduler.incarnation)
    }

    /// The scheduler keeps a VM back from now on. Its turn, if it has it, is over.
    #[cold]
    pub fn hold(&mut self, vms: &mut Table<B>, id: VmId) {
        let Some(start) = self.scheduler_start() else { return };
        if vms.waiting(id).is_some() {
            vms.hold_waiting(id.slot, start);
            self.queues.remove(Queue::Waiting, id.slot);
            self.queues.push(Queue::Held, id.slot);
            return;
        }
        let Some(vm) = vms.by_id(id) else { return };
        vm.held_by = start;
        match vm.life.state() {
            State::Ready => {
                self.queues.remove(Queue::Ready, id.slot);
                self.queues.push(Queue::Held, id.slot);
                self.plan.give_up(id);
                self.plan.held = true;
            }
            // It would keep its turn until its page is there.
            State::Fault(_) if self.queues.contains(Queue::Ready, id.slot) => self.yield_turn(vm),
            _ => {}
        }
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
        if self.queues.contains(Queue::Held, vm.slot()) {
            self.queues.remove(Queue::Held, vm.slot());
            self.queues.push(Queue::Ready, vm.slot());
        }
    }

    /// A VM that waits for admission is held no more.
    pub(super) fn let_wait(&mut self, vms: &mut Table<B>, id: VmId) {
        if vms.waiting(id).is_some() && self.queues.contains(Queue::Held, id.slot) {
            vms.hold_waiting(id.slot, 0);
            self.queues.remove(Queue::Held, id.slot);
            self.await_admission(id);
        }
    }
}

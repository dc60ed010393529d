//! Running a VM: enter it, serve its exits, until somebody else has to run.

use super::Next;
use crate::board::Board;
use crate::kernel::{Cpu, Domain, Kernel, Turn};
use crate::vm::{End, Hazard, PageFault, Vm};
use abi::end::EndReason;
use abi::guest::{FAULT_ADDRESS, FAULT_GUARD, FAULT_NULL, FAULT_REFUSED, FAULT_RIGHTS, access};
use abi::limits::PAGE_SHIFT;
use abi::vm::VmId;
use backend::{Access, Backend, Exit, Rights, Vcpu};

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Run the VM whose turn it is, until its quantum ends, it cannot go on, or the loop has something else to do.
    #[inline(always)]
    pub fn run_vm(&mut self, turn: Turn) {
        // In registers.
        self.run_for(turn.vm, turn.left_ticks, turn.ahead);
    }

    /// As [`Kernel::run_vm`]. (Not inlined: within the loop of the kernel there are too few registers left for it, which costs more with each exit than the
    /// call does with each turn.)
    #[inline(never)]
    fn run_for(&mut self, id: VmId, mut left_ticks: u64, ahead: bool) {
        let Self { vms, cpu, .. } = self;
        let Some(vm) = vms.by_id(id) else { return };
        // One branch for those for whom others have run.
        if vm.debt_ticks != 0 && !ahead {
            left_ticks = cpu.pay(vm, left_ticks);
        }
        cpu.plan.turn = Some(Turn { vm: id, left_ticks, ahead });
        if left_ticks == 0 {
            cpu.counters.paid += 1;
            return;
        }
        let start = cpu.mark;
        // A turn lasts no longer than the longest quantum.
        let until = start.wrapping_add(left_ticks);
        let mut deadline = cpu.timers.next().min(cpu.components.next_deadline);
        if !B::ENDS_QUANTUM {
            deadline = deadline.min(until);
        }
        // One branch for what few processors need.
        if cpu.crossings.are_looked_at() {
            deadline = deadline.min(cpu.cross_to(vm, until));
        }
        cpu.arm(deadline);
        cpu.enter_until(vm, until);
        // An exit loads the core's own address space.
        cpu.loaded = None;
        cpu.mark = cpu.board.now();
        let ran = cpu.mark - start;
        cpu.counters.guest_ticks += ran;
        vm.ran_ticks += ran;
        vm.burst_ticks += ran;
        if cpu.plan.ran(ran) {
            vm.ahead_ticks = vm.ahead_ticks.saturating_sub(ran);
            if cpu.plan.slice_is_over() {
                cpu.slice_ends(vm);
            }
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Enter a VM again and again, until it or the loop has a reason not to.
    #[inline(always)]
    fn enter_until(&mut self, vm: &mut Vm<B>, until: u64) {
        let mut now = self.mark;
        loop {
            // One branch for all that is rare.
            if !(vm.hazard.is_none() && self.attention.is_none()) {
                if !self.attention.is_none() {
                    return;
                }
                if let Err(end) = self.deliver(vm) {
                    return self.end(vm, end);
                }
            }
            let exit = vm.vcpu.run(&mut self.backend, until.saturating_sub(now));
            self.counters.exits += 1;
            // What concerns the VM alone is served without looking at anything else.
            if exit == Exit::Hypercall && self.own_hypercall(vm) {
                now = self.board.now();
                continue;
            }
            if self.exit(vm, exit) == Next::Leave {
                return;
            }
            now = self.board.now();
            if now >= until {
                return;
            }
        }
    }

    /// The turn ahead of the plan that a VM had is over. Where it can go on, others that have woken come first; one whose turn by the plan it was a part of goes on by
    /// that.
    #[cold]
    #[inline(never)]
    fn slice_ends(&mut self, vm: &Vm<B>) {
        if vm.life.is_ready() && self.plan.paused.is_none_or(|turn| turn.vm != vm.id) {
            self.stand_ahead(vm);
        }
    }

    /// A VM begins a turn that ends at `until`: barriers come before its first entry, if whoever was on the CPU last is not one that it may
    /// follow; and the timer ends the turn where the CPU's own cannot be relied on. When the timer has to fire, if it does.
    #[cold]
    #[inline(never)]
    fn cross_to(&mut self, vm: &mut Vm<B>, until: u64) -> u64 {
        if self.crossings.is_on() {
            let barriers = self.crossings.before_guest(Domain::of(vm.tenant, vm.id));
            if !barriers.is_none() {
                self.backend.before_entry(barriers);
            }
        }
        if self.backend.ends_quantum() { u64::MAX } else { until }
    }

    /// Serve an exit.
    #[inline]
    fn exit(&mut self, vm: &mut Vm<B>, exit: Exit) -> Next {
        if exit == Exit::Hypercall { self.hypercall(vm) } else { self.other_exit(vm, exit) }
    }

    /// Serve every exit but hypercalls.
    fn other_exit(&mut self, vm: &mut Vm<B>, exit: Exit) -> Next {
        match exit {
            Exit::MemoryFault { address, access, present } => self.memory_fault(vm, address, access, present),
            Exit::Interrupt { vector } => {
                self.interrupt(vector);
                Next::Enter
            }
            Exit::InterruptPending => {
                if let Some(vector) = self.board.take_interrupt() {
                    self.interrupt(vector);
                }
                Next::Enter
            }
            Exit::Served => Next::Enter,
            Exit::QuantumEnd => {
                // An interrupt ends a guest whatever its flags say. Bochs 2.7 forgets that where one is entered with interrupts off, and nothing but such a guest
                // may run for long.
                if let Some(vector) = self.board.take_interrupt() {
                    self.interrupt(vector);
                }
                Next::Leave
            }
            Exit::Halt => {
                vm.vcpu.skip_instruction(&mut self.backend);
                self.wait_for_interrupt(vm, u64::MAX)
            }
            Exit::Exception { .. } | Exit::Refused { .. } => self.offence(vm, exit),
            Exit::Nmi => {
                self.attention.set_timer();
                Next::Leave
            }
            // The loop looks what it is before anybody goes on.
            Exit::MachineCheck => {
                self.errors.interrupted = Some(vm.id);
                self.attention.set_timer();
                Next::Leave
            }
            Exit::TripleFault => self.end_for(vm, EndReason::TripleFault, 0),
            Exit::EntryFailure { error, .. } => self.end_for(vm, EndReason::EntryFailure, error.into()),
            Exit::Unknown { reason, .. } => self.end_for(vm, EndReason::UnknownExit, reason.into()),
            Exit::Hypercall => Next::Enter,
        }
    }

    /// The nested page tables did not allow an access: a page is missing, which is the pager's business, or it is the guest's
    /// mistake.
    #[inline]
    fn memory_fault(&mut self, vm: &mut Vm<B>, address: u64, access: Access, present: bool) -> Next {
        let Some(body) = vm.life.body() else { return Next::Leave };
        let page = u32::try_from(address >> PAGE_SHIFT).unwrap_or(u32::MAX);
        // Nearly always: memory that no image has a say in.
        let plain = body.memory.is_plain(page) && page < body.memory.pages() && access != Access::Execute;
        if !plain && let Some((vector, reason)) = self.mistake(vm, page, access) {
            let error_code = match access {
                Access::Read => access::READ,
                Access::Write => access::WRITE,
                Access::Execute => access::EXECUTE,
            };
            return self.fault(vm, vector, error_code, address, End::new(reason, address));
        }
        self.page_fault(vm, PageFault { page, access, present });
        Next::Leave
    }

    /// What is wrong with an access; `None`: nothing.
    #[cold]
    #[inline(never)]
    fn mistake(&self, vm: &Vm<B>, page: u32, access: Access) -> Option<(u32, EndReason)> {
        let pages = vm.life.body().map_or(0, |body| body.memory.pages());
        if page >= pages {
            return Some((FAULT_ADDRESS, EndReason::BadAddress));
        }
        // Images are never removed.
        let rights = self.images.get(vm.image).and_then(|image| image.rights(page));
        match (rights, access) {
            (None, _) if page == 0 => Some((FAULT_NULL, EndReason::NullPointer)),
            (None, _) => Some((FAULT_GUARD, EndReason::GuardPage)),
            (Some(Rights { write: false, .. }), Access::Write) => Some((FAULT_RIGHTS, EndReason::WroteReadOnly)),
            (Some(Rights { execute: false, .. }), Access::Execute) => Some((FAULT_RIGHTS, EndReason::ExecutedData)),
            _ => None,
        }
    }

    pub(super) fn end_for(&mut self, vm: &mut Vm<B>, reason: EndReason, detail: u64) -> Next {
        self.end(vm, End::new(reason, detail));
        Next::Leave
    }

    /// An instruction that the guest cannot have, or what looks like one to its CPU.
    fn offence(&mut self, vm: &mut Vm<B>, exit: Exit) -> Next {
        let Some(body) = vm.life.body() else { return Next::Leave };
        match vm.vcpu.interpret(&mut self.backend, exit, &body.memory.view(&mut self.frames)) {
            Exit::Hypercall => self.hypercall(vm),
            Exit::Exception { vector, error_code, address } => {
                let end = End::new(EndReason::UnhandledFault, vector.into());
                self.fault(vm, vector.into(), error_code, address, end)
            }
            Exit::Refused { class, detail } => {
                let end = End::new(EndReason::RefusedInstruction, u64::from(class) << 32 | detail & 0xffff_ffff);
                self.fault(vm, FAULT_REFUSED, class, 0, end)
            }
            _ => Next::Enter,
        }
    }

    /// A VM has halted: it has nothing to do until something that it wants is pending, or until `until`.
    #[inline(always)]
    pub(super) fn wait_for_interrupt(&mut self, vm: &mut Vm<B>, until: u64) -> Next {
        let Some(body) = vm.life.body() else { return Next::Leave };
        if body.registers.wanted() != 0 {
            return Next::Enter;
        }
        vm.hazard.set(Hazard::PENDING);
        self.plan.turn = None;
        // Nearly always the beginning of its turn is enough to tell.
        if until > self.mark {
            self.sleep(vm, until);
        } else if self.plan.lets_ahead(vm.ahead_ticks) {
            self.give_way(vm, until);
        }
        Next::Leave
    }

    /// A VM waits, if it is not over by now.
    #[inline(never)]
    fn sleep(&mut self, vm: &mut Vm<B>, until: u64) {
        if until != u64::MAX && until <= self.board.now() {
            return self.give_way(vm, until);
        }
        vm.life.idle(until);
        self.components.note_idle(vm.seat, self.mark);
        self.timers.set(vm.seat, vm.deadline());
        self.blocked(vm, true);
    }

    /// A VM that can go on gives its turn up, as what it wanted to wait for is over: others come first. Where that came while it ran, it is a wake like any
    /// other, which it has missed by microseconds only: it goes ahead of the plan behind those that have woken before, as far as it may. (Else it would wait for
    /// a turn by the plan, behind all who compute.) What is longer ago is no more than a way to let others run.
    #[inline]
    fn give_way(&mut self, vm: &Vm<B>, until: u64) {
        let recent = until >= self.mark.saturating_sub(self.plan.quantum_ticks());
        if recent {
            self.stand_ahead(vm);
        }
    }

    /// Make interrupts pending for a VM; it wakes when it wants one of them.
    #[inline]
    pub fn raise(&mut self, vm: &mut Vm<B>, bits: u64) {
        let Some(body) = vm.life.body() else {
            // It comes in: it finds them then.
            vm.early |= bits;
            return;
        };
        body.registers.raise(bits);
        let wanted = body.registers.wanted() != 0;
        vm.hazard.set(Hazard::PENDING);
        if wanted && vm.life.is_idle() {
            self.timers.set(vm.seat, vm.alarm);
            self.wake(vm);
        }
    }
}

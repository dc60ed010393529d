//! Running a VM: enter it, serve its exits, until somebody else has to run.

use super::lifecycle::End;
use super::{Machine, Turn};
use crate::cpu;
use crate::vms::{Pending, State};
use abi::end::EndReason;
use abi::guest::{FAULT_ADDRESS, FAULT_REFUSED};
use abi::limits::PAGE_SHIFT;
use backend::{Backend, Exit, Vcpu};

/// Whether the VM can be entered again at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Yes.
    Enter,
    /// No: it cannot run, or it gave its turn up.
    Leave,
}

impl<B: Backend> Machine<B> {
    /// Run the VM whose turn it is, until its quantum ends, it cannot go on, or a component has something to do.
    pub(super) fn run_vm(&mut self, turn: Turn) {
        let slot = turn.vm.index;
        self.turn = Some(turn);
        let mut deadline = self.timers.next().min(self.components.next_deadline);
        if !B::ENDS_QUANTUM {
            deadline = deadline.min(turn.until);
        }
        self.arm(deadline);
        let start = self.mark;
        let mut now = start;
        while let Some(vm) = self.vms.by_id(turn.vm) {
            if vm.hazard
                && let Err(end) = Self::deliver(vm, &mut self.backend)
            {
                self.end_vm(slot, end);
                break;
            }
            let exit = loop {
                let exit = vm.vcpu.run(&mut self.backend, turn.until.saturating_sub(now));
                self.counters.exits += 1;
                // What concerns the VM alone is served without looking at anything else: nothing else can have changed.
                if exit != Exit::Hypercall || vm.hazard || !Self::own_hypercall(vm, &mut self.backend) {
                    break exit;
                }
                now = cpu::tsc();
            };
            let next = match exit {
                Exit::Hypercall => self.hypercall(slot),
                other => self.exit(slot, other),
            };
            if next == Next::Leave || self.components.runnable != 0 || self.timer_fired {
                break;
            }
            now = cpu::tsc();
            if now >= turn.until {
                break;
            }
        }
        // An exit loads the core's own address space.
        self.loaded = None;
        self.mark = cpu::tsc();
        let ran = self.mark - start;
        self.counters.guest_ticks += ran;
        if let Some(vm) = self.vms.by_id(turn.vm) {
            vm.ran_ticks += ran;
            vm.burst_ticks += ran;
        }
    }

    /// Every exit but hypercalls.
    fn exit(&mut self, slot: u16, exit: Exit) -> Next {
        match exit {
            Exit::MemoryFault { address, access, present } => {
                let Some(vm) = self.vms.get(slot) else { return Next::Leave };
                let pages = vm.memory.as_ref().map_or(0, |memory| u64::from(memory.pages()));
                match u32::try_from(address >> PAGE_SHIFT) {
                    Ok(page) if u64::from(page) < pages => {
                        self.page_fault(slot, Pending { page, access, present });
                        Next::Leave
                    }
                    _ => self.fault(slot, FAULT_ADDRESS, 0, address, End::new(EndReason::BadAddress, address)),
                }
            }
            Exit::Interrupt { vector } => {
                self.interrupt(vector);
                Next::Enter
            }
            Exit::InterruptPending => {
                if let Some(vector) = cpu::take_interrupt() {
                    self.interrupt(vector);
                }
                Next::Enter
            }
            Exit::Served => Next::Enter,
            Exit::QuantumEnd => Next::Leave,
            Exit::Halt => {
                if let Some(vm) = self.vms.get(slot) {
                    vm.vcpu.skip_instruction(&mut self.backend);
                }
                self.idle_vm(slot, u64::MAX, false)
            }
            Exit::Exception { .. } | Exit::Refused { .. } => self.offence(slot, exit),
            Exit::Nmi => Next::Enter,
            Exit::MachineCheck => {
                panic!("machine check while {slot} ran: the hardware reports an error that it could not correct")
            }
            Exit::TripleFault => self.end_vm(slot, End::new(EndReason::TripleFault, 0)),
            Exit::EntryFailure { error, .. } => self.end_vm(slot, End::new(EndReason::EntryFailure, error.into())),
            Exit::Unknown { reason, .. } => self.end_vm(slot, End::new(EndReason::UnknownExit, reason.into())),
            Exit::Hypercall => Next::Enter,
        }
    }

    /// An instruction that the guest cannot have, or what looks like one to its CPU.
    fn offence(&mut self, slot: u16, exit: Exit) -> Next {
        let Self { vms, frames, backend, .. } = self;
        let Some(vm) = vms.get(slot) else { return Next::Leave };
        let Some(memory) = &vm.memory else { return Next::Leave };
        match vm.vcpu.interpret(backend, exit, &memory.view(frames)) {
            Exit::Hypercall => self.hypercall(slot),
            Exit::Exception { vector, error_code, address } => {
                let end = End::new(EndReason::UnhandledFault, vector.into());
                self.fault(slot, vector.into(), error_code, address, end)
            }
            Exit::Refused { class, detail } => {
                let end = End::new(EndReason::RefusedInstruction, u64::from(class) << 32 | detail & 0xffff_ffff);
                self.fault(slot, FAULT_REFUSED, class, 0, end)
            }
            _ => Next::Enter,
        }
    }

    /// A VM has nothing to do until something it wants is pending or `until`. `yields`: with a deadline in the past it
    /// gives up its turn but can go on.
    pub(super) fn idle_vm(&mut self, slot: u16, until: u64, result: bool) -> Next {
        let Some(vm) = self.vms.get(slot) else { return Next::Leave };
        let wanted = vm.registers.map_or(0, |registers| registers.wanted());
        if wanted != 0 {
            if result {
                vm.vcpu.registers().rax = wanted;
            }
            return Next::Enter;
        }
        vm.idle_result = result;
        vm.hazard = true;
        if until != u64::MAX && until <= cpu::tsc() {
            // It can go on, but others come first.
            self.turn = None;
            return Next::Leave;
        }
        vm.state = State::Idle { until };
        let deadline = vm.deadline();
        self.turn = None;
        self.timers.set(slot, deadline);
        self.blocked(slot, true);
        Next::Leave
    }

    /// Make interrupts pending for a VM; it wakes when it wants one of them.
    #[inline]
    pub(super) fn raise(&mut self, slot: u16, bits: u64) {
        let Some(vm) = self.vms.get(slot) else { return };
        let Some(registers) = &vm.registers else { return };
        registers.raise(bits);
        vm.hazard = true;
        if matches!(vm.state, State::Idle { .. }) && registers.wanted() != 0 {
            self.timers.set(slot, vm.alarm);
            self.wake(slot);
        }
    }
}

//! What is put into a guest before it is entered: upcalls, results of idles, faults.

use super::Next;
use crate::board::Board;
use crate::kernel::Cpu;
use crate::vm::{End, Handling, Hazard, Vm};
use abi::end::EndReason;
use abi::guest::{FaultRecord, Interrupted};
use backend::{Backend, Vcpu};

/// Flags with which an upcall or a fault handler starts: none but the one that is always set.
const START_FLAGS: u64 = 2;

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Look at what is pending for a VM that is about to be entered, and deliver it.
    ///
    /// # Errors
    /// The reason to end it.
    pub(super) fn deliver(&mut self, vm: &mut Vm<B>) -> Result<(), End> {
        let Some(body) = vm.life.body() else { return Ok(()) };
        let registers = &body.registers;
        let pending = registers.pending();
        let wanted = registers.wanted_of(pending);
        if vm.hazard.take(Hazard::IDLE_RESULT) {
            vm.vcpu.registers().rax = pending;
        }
        // What becomes pending later: `raise` sees to it. What the guest enables later is delivered after its next exit; what it
        // sets itself, which is the core's to set, when something else has become pending.
        if pending == 0 {
            vm.hazard.clear(Hazard::PENDING);
        } else {
            vm.hazard.set(Hazard::PENDING);
        }
        if wanted == 0 || !registers.upcalls_on() {
            return Ok(());
        }
        let Some(entry) = registers.upcall_entry() else { return Ok(()) };
        let at = vm.vcpu.position(&mut self.backend);
        let target = Interrupted { rip: entry.rip, rsp: entry.rsp, rflags: START_FLAGS, rax: at.rax };
        if vm.vcpu.set_position(&mut self.backend, &target).is_err() {
            return Err(End::new(EndReason::BadUpcall, entry.rip));
        }
        registers.set_upcall(&at);
        registers.set_upcalls(false);
        Ok(())
    }

    /// A guest leaves its upcall.
    pub(super) fn upcall_return(&mut self, vm: &mut Vm<B>) -> Next {
        let Some(body) = vm.life.body() else { return Next::Leave };
        let to = body.registers.upcall();
        if vm.vcpu.set_position(&mut self.backend, &to).is_err() {
            return self.end_for(vm, EndReason::BadUpcall, to.rip);
        }
        vm.vcpu.registers().rax = to.rax;
        body.registers.set_upcalls(true);
        vm.hazard.set(Hazard::PENDING);
        Next::Enter
    }

    /// Give a fault to the guest's handler; without one, or in it, the VM ends for the reason `end`.
    pub(super) fn fault(&mut self, vm: &mut Vm<B>, vector: u32, error_code: u32, address: u64, end: End) -> Next {
        let Some(body) = vm.life.body_mut() else { return Next::Leave };
        if body.handling == Handling::Fault {
            return self.end_for(vm, EndReason::NestedFault, vector.into());
        }
        let Some(entry) = body.registers.fault_entry() else {
            self.end(vm, end);
            return Next::Leave;
        };
        let at = vm.vcpu.position(&mut self.backend);
        let target = Interrupted { rip: entry.rip, rsp: entry.rsp, rflags: START_FLAGS, rax: at.rax };
        if vm.vcpu.set_position(&mut self.backend, &target).is_err() {
            return self.end_for(vm, EndReason::BadUpcall, entry.rip);
        }
        body.registers.set_fault(&FaultRecord { at, vector, error_code, address });
        body.registers.set_in_fault(true);
        body.handling = Handling::Fault;
        Next::Enter
    }

    /// A guest leaves its fault handler.
    pub(super) fn fault_return(&mut self, vm: &mut Vm<B>) -> Next {
        let Some(body) = vm.life.body_mut() else { return Next::Leave };
        let to = body.registers.fault();
        if vm.vcpu.set_position(&mut self.backend, &to).is_err() {
            return self.end_for(vm, EndReason::BadUpcall, to.rip);
        }
        vm.vcpu.registers().rax = to.rax;
        body.registers.set_in_fault(false);
        body.handling = Handling::Nothing;
        Next::Enter
    }
}

//! What is put into a guest before it is entered: upcalls, results of idles, faults.

use super::Machine;
use super::exits::Next;
use super::lifecycle::End;
use crate::vms::Vm;
use abi::end::EndReason;
use abi::guest::{FaultRecord, Interrupted};
use backend::{Backend, Vcpu};

/// Flags with which an upcall or a fault handler starts: none but the one that is always set.
const START_FLAGS: u64 = 2;

impl<B: Backend> Machine<B> {
    /// Look at what is pending for a VM that is about to be entered, and deliver it. The error is the reason to end it.
    pub(super) fn deliver(vm: &mut Vm<B>, backend: &mut B) -> Result<(), End> {
        let Some(registers) = vm.registers else { return Ok(()) };
        let (pending, wanted) = (registers.pending(), registers.wanted());
        if vm.idle_result {
            vm.idle_result = false;
            vm.vcpu.registers().rax = pending;
        }
        // What becomes pending later: `raise` sees to it. What the guest enables later is delivered after its next exit.
        vm.hazard = pending != 0;
        if wanted == 0 || !registers.upcalls_on() {
            return Ok(());
        }
        let Some(entry) = registers.upcall_entry() else { return Ok(()) };
        let at = vm.vcpu.position(backend);
        let target = Interrupted { rip: entry.rip, rsp: entry.rsp, rflags: START_FLAGS, rax: at.rax };
        if vm.vcpu.set_position(backend, &target).is_err() {
            return Err(End::new(EndReason::BadUpcall, entry.rip));
        }
        registers.set_upcall(&at);
        registers.set_upcalls(false);
        Ok(())
    }

    /// A guest leaves its upcall.
    pub(super) fn upcall_return(&mut self, slot: u16) -> Next {
        let Some(vm) = self.vms.get(slot) else { return Next::Leave };
        let Some(registers) = vm.registers else { return Next::Leave };
        let to = registers.upcall();
        if vm.vcpu.set_position(&mut self.backend, &to).is_err() {
            return self.end_vm(slot, End::new(EndReason::BadUpcall, to.rip));
        }
        vm.vcpu.registers().rax = to.rax;
        registers.set_upcalls(true);
        vm.hazard = true;
        Next::Enter
    }

    /// Give a fault to the guest's handler; without one, or in it, the VM ends for the reason `end`.
    pub(super) fn fault(&mut self, slot: u16, vector: u32, error_code: u32, address: u64, end: End) -> Next {
        let Some(vm) = self.vms.get(slot) else { return Next::Leave };
        let Some(registers) = vm.registers else { return Next::Leave };
        if vm.in_fault {
            return self.end_vm(slot, End::new(EndReason::NestedFault, vector.into()));
        }
        let Some(entry) = registers.fault_entry() else { return self.end_vm(slot, end) };
        let at = vm.vcpu.position(&mut self.backend);
        let target = Interrupted { rip: entry.rip, rsp: entry.rsp, rflags: START_FLAGS, rax: at.rax };
        if vm.vcpu.set_position(&mut self.backend, &target).is_err() {
            return self.end_vm(slot, End::new(EndReason::BadUpcall, entry.rip));
        }
        registers.set_fault(&FaultRecord { at, vector, error_code, address });
        registers.set_in_fault(true);
        vm.in_fault = true;
        Next::Enter
    }

    /// A guest leaves its fault handler.
    pub(super) fn fault_return(&mut self, slot: u16) -> Next {
        let Some(vm) = self.vms.get(slot) else { return Next::Leave };
        let Some(registers) = vm.registers else { return Next::Leave };
        let to = registers.fault();
        if vm.vcpu.set_position(&mut self.backend, &to).is_err() {
            return self.end_vm(slot, End::new(EndReason::BadUpcall, to.rip));
        }
        vm.vcpu.registers().rax = to.rax;
        registers.set_in_fault(false);
        vm.in_fault = false;
        Next::Enter
    }
}

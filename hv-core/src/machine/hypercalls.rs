//! Hypercalls (`abi::guest::hypercall`).

use super::Machine;
use super::exits::Next;
use super::lifecycle::End;
use crate::memory::Frames;
use crate::vms::Vm;
use abi::end::EndReason;
use abi::guest::{ERROR_ARGUMENT, ERROR_STATE, ERROR_UNKNOWN, NIC_BASE, device, hypercall};
use abi::limits::PAGE_SHIFT;
use abi::nic;
use backend::{Backend, Flush, Vcpu};

/// Pages that one `GIVE_BACK` may name, so that its work is bounded.
const GIVE_BACK_MAX: u64 = 512;

impl<B: Backend> Machine<B> {
    /// Serve a hypercall that needs nothing but the VM itself. False when it is another one.
    #[inline]
    pub(super) fn own_hypercall(vm: &mut Vm<B>, backend: &mut B) -> bool {
        let result = match vm.vcpu.registers().rax {
            hypercall::NOP => u64::from(abi::ABI_VERSION),
            hypercall::IDLE..=hypercall::GIVE_BACK => return false,
            _ => ERROR_UNKNOWN,
        };
        vm.vcpu.skip_instruction(backend);
        vm.vcpu.registers().rax = result;
        true
    }

    /// Serve a hypercall of the VM in `slot`.
    #[inline]
    pub(super) fn hypercall(&mut self, slot: u16) -> Next {
        self.counters.hypercalls += 1;
        let Some(vm) = self.vms.get(slot) else { return Next::Leave };
        let registers = vm.vcpu.registers();
        let (number, a, b) = (registers.rax, registers.rdi, registers.rsi);
        vm.vcpu.skip_instruction(&mut self.backend);
        let id = vm.id;
        let result = match number {
            hypercall::NOP => u64::from(abi::ABI_VERSION),
            hypercall::IDLE => return self.idle_vm(slot, a, true),
            hypercall::KICK => match a {
                device::NIC => {
                    if vm.attached {
                        self.components.kick(id);
                    }
                    0
                }
                device::CONSOLE => {
                    if let Some(console) = &mut vm.console {
                        console.drain(id, crate::cpu::tsc(), self.hardware.tsc_hz());
                    }
                    0
                }
                _ => ERROR_ARGUMENT,
            },
            hypercall::ALARM => {
                vm.alarm = a;
                if let Some(registers) = &vm.registers {
                    registers.set_alarm(a);
                }
                self.timers.set(slot, a);
                // An alarm that is due already, or before the timer, is the loop's next business.
                if a < self.armed {
                    self.armed = a;
                    self.hardware.set_timer(a);
                }
                0
            }
            hypercall::UPCALL_RETURN => return self.upcall_return(slot),
            hypercall::FAULT_RETURN if !vm.in_fault => ERROR_STATE,
            hypercall::FAULT_RETURN => return self.fault_return(slot),
            hypercall::GIVE_BACK => {
                let (rx, tx) =
                    self.images.get(vm.image).map_or((0, 0), |image| (image.entry.rx_slots, image.entry.tx_slots));
                give_back(vm, &mut self.backend, &mut self.frames, nic::nic_pages(rx, tx), a, b)
            }
            hypercall::EXIT => return self.end_vm(slot, End::new(EndReason::Exited, a)),
            _ => ERROR_UNKNOWN,
        };
        vm.vcpu.registers().rax = result;
        Next::Enter
    }
}

/// Take `count` pages from `first` on back from a guest; not those that it shares with the core or the demultiplexer.
fn give_back<B: Backend>(
    vm: &mut Vm<B>,
    backend: &mut B,
    frames: &mut Frames,
    nic_pages: u64,
    first: u64,
    count: u64,
) -> u64 {
    let Some(memory) = &mut vm.memory else { return ERROR_ARGUMENT };
    let fixed = (NIC_BASE >> PAGE_SHIFT) + nic_pages;
    let end = first.saturating_add(count);
    if count > GIVE_BACK_MAX || first < fixed || end > u64::from(memory.pages()) {
        return ERROR_ARGUMENT;
    }
    let mut freed = 0;
    let mut flush = Flush::Unneeded;
    for page in first..end {
        // Below the VM's pages, which are counted in 32 bits.
        let Ok(page) = u32::try_from(page) else { break };
        let (own, needed) = memory.give_back(frames, page);
        freed += u64::from(own);
        if needed == Flush::Needed {
            flush = Flush::Needed;
        }
    }
    // Before anything else runs, so nobody has used the frames yet.
    if flush == Flush::Needed {
        backend.flush(memory.tables());
    }
    freed
}

//! Hypercalls (`abi::guest::hypercall`).

use super::Next;
use crate::board::Board;
use crate::component::EndpointId;
use crate::kernel::Cpu;
use crate::vm::{Handling, Hazard, Vm};
use abi::end::EndReason;
use abi::guest::{ERROR_ARGUMENT, ERROR_STATE, ERROR_UNKNOWN, IMAGE_BASE, NIC_BASE, device, hypercall};
use abi::limits::PAGE_SHIFT;
use abi::nic;
use backend::{Backend, Flush, Vcpu};
use core::ops::Range;

/// Pages that one `GIVE_BACK` may name, so that its work is bounded.
const GIVE_BACK_MAX: u32 = 512;
/// The same for `TAKE`, for which pages are cleared.
const TAKE_MAX: u64 = abi::guest::TAKE_MAX;

/// Why a hypercall is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Unknown,
    Argument,
    State,
}

impl Refusal {
    const fn raw(self) -> u64 {
        match self {
            Refusal::Unknown => ERROR_UNKNOWN,
            Refusal::Argument => ERROR_ARGUMENT,
            Refusal::State => ERROR_STATE,
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Serve a hypercall that needs nothing but the VM itself. False when it is another one.
    #[inline]
    #[must_use]
    pub(super) fn own_hypercall(&mut self, vm: &mut Vm<B>) -> bool {
        let result = match vm.vcpu.registers().rax {
            hypercall::NOP => u64::from(abi::ABI_VERSION),
            hypercall::IDLE..=hypercall::TAKE => return false,
            _ => Refusal::Unknown.raw(),
        };
        vm.vcpu.skip_instruction(&mut self.backend);
        vm.vcpu.registers().rax = result;
        true
    }

    /// Serve any hypercall.
    #[inline]
    pub(super) fn hypercall(&mut self, vm: &mut Vm<B>) -> Next {
        self.counters.hypercalls += 1;
        let registers = vm.vcpu.registers();
        let (number, a, b) = (registers.rax, registers.rdi, registers.rsi);
        if number == hypercall::GIVE_BACK && vm.life.body().is_some_and(|body| body.memory.has_away()) {
            // It is executed anew when there is room to say what is not needed any more. What is refused takes nothing away.
            if let Ok(pages) = self.pages_to_give(vm, a, b)
                && !self.give_back_away(vm, pages)
            {
                return Next::Leave;
            }
        }
        vm.vcpu.skip_instruction(&mut self.backend);
        let result = match number {
            hypercall::NOP => Ok(u64::from(abi::ABI_VERSION)),
            hypercall::IDLE => return self.idle(vm, a),
            hypercall::KICK => self.kick(vm, a),
            hypercall::ALARM => {
                self.set_alarm(vm, a);
                Ok(0)
            }
            hypercall::UPCALL_RETURN => return self.upcall_return(vm),
            hypercall::FAULT_RETURN if vm.life.body().is_some_and(|body| body.handling == Handling::Fault) => {
                return self.fault_return(vm);
            }
            hypercall::FAULT_RETURN => Err(Refusal::State),
            hypercall::GIVE_BACK => self.give_back(vm, a, b),
            hypercall::TAKE => self.take(vm, a, b),
            hypercall::EXIT => return self.end_for(vm, EndReason::Exited, a),
            _ => Err(Refusal::Unknown),
        };
        vm.vcpu.registers().rax = result.unwrap_or_else(Refusal::raw);
        Next::Enter
    }

    /// A VM has nothing to do until something that it wants is pending or until `until`; with a deadline in the past it gives
    /// its turn up. It goes on with what is pending then in RAX.
    fn idle(&mut self, vm: &mut Vm<B>, until: u64) -> Next {
        let next = self.wait_for_interrupt(vm, until);
        match next {
            Next::Leave => vm.hazard.set(Hazard::IDLE_RESULT),
            Next::Enter => vm.vcpu.registers().rax = vm.life.body().map_or(0, |body| body.registers.pending()),
        }
        next
    }

    fn kick(&mut self, vm: &mut Vm<B>, of: u64) -> Result<u64, Refusal> {
        match of {
            device::NIC => self.kick_nic(vm),
            device::DISK if !vm.attachment.is_none() => self.kick_disk(vm),
            device::CONTROL if vm.control != EndpointId::NONE => self.call_of(vm.control),
            device::CONSOLE => self.show_console(vm),
            _ => return Err(Refusal::Argument),
        }
        Ok(0)
    }

    fn set_alarm(&mut self, vm: &mut Vm<B>, due: u64) {
        vm.alarm = due;
        if let Some(body) = vm.life.body() {
            body.registers.set_alarm(due);
        }
        self.timers.set(vm.seat, due);
        // An alarm that is due already, or before the timer, is the loop's next business.
        self.arm(due);
    }

    /// Give a guest a frame for each of `count` pages from `first` on that has none. Returns how many there are, the first ones,
    /// before the first that it cannot have now.
    fn take(&mut self, vm: &mut Vm<B>, first: u64, count: u64) -> Result<u64, Refusal> {
        let image = self.images.get(vm.image).ok_or(Refusal::State)?;
        let body = vm.life.body_mut().ok_or(Refusal::State)?;
        let memory = &mut body.memory;
        let end = first.checked_add(count).and_then(|end| u32::try_from(end).ok()).filter(|&end| end <= memory.pages());
        let (Ok(first), Some(end), 0..=TAKE_MAX) = (u32::try_from(first), end, count) else {
            return Err(Refusal::Argument);
        };
        let frames = &mut self.frames;
        // What may not be written is never its own, and what comes from the image is shared until it is written.
        let can_be_own = |page| match image.golden(page) {
            _ if !image.rights(page).is_some_and(|rights| rights.write) => false,
            Some(golden) => match memory.frame(frames, page) {
                Some(frame) => frame != golden,
                None => memory.has_away() && memory.is_elsewhere(page),
            },
            None => true,
        };
        if !(first..end).all(can_be_own) {
            return Err(Refusal::Argument);
        }
        let mut has = |page| memory.frame(frames, page).is_some() || memory.map_zero(frames, page, image).is_ok();
        let there = (first..end).take_while(|&page| has(page)).count();
        body.registers.set_held(memory.reservation().held());
        Ok(there as u64)
    }

    /// The `count` pages from `first` on, if a guest may give them back: not those that it shares with the core or the demultiplexer.
    fn pages_to_give(&self, vm: &Vm<B>, first: u64, count: u64) -> Result<Range<u32>, Refusal> {
        let image = self.images.get(vm.image).ok_or(Refusal::State)?;
        let memory = vm.life.memory().ok_or(Refusal::State)?;
        let fixed = if vm.control == EndpointId::NONE && vm.attachment.is_none() {
            (NIC_BASE >> PAGE_SHIFT) + nic::nic_pages(image.entry.rx_slots, image.entry.tx_slots)
        } else {
            // The core's ends of the control ring are in its frames, or the striper shares them.
            IMAGE_BASE >> PAGE_SHIFT
        };
        let end = first.saturating_add(count);
        if count > GIVE_BACK_MAX.into() || first < fixed || end > u64::from(memory.pages()) {
            return Err(Refusal::Argument);
        }
        // Both are within the VM's pages, which are counted in 32 bits.
        let number = |page: u64| u32::try_from(page).map_err(|_| Refusal::Argument);
        Ok(number(first)?..number(end)?)
    }

    /// Take `count` pages from `first` on back from a guest. Returns how many frames were freed.
    fn give_back(&mut self, vm: &mut Vm<B>, first: u64, count: u64) -> Result<u64, Refusal> {
        let pages = self.pages_to_give(vm, first, count)?;
        let body = vm.life.body_mut().ok_or(Refusal::State)?;
        let memory = &mut body.memory;
        let mut freed = 0;
        let mut flush = Flush::Unneeded;
        for page in pages {
            let (own, needed) = memory.give_back(&mut self.frames, page);
            freed += u64::from(own);
            if needed == Flush::Needed {
                flush = Flush::Needed;
            }
        }
        // Before anything else runs, so nobody has used the frames yet.
        if flush == Flush::Needed {
            self.backend.flush(&mut vm.vcpu, memory.tables());
        }
        body.registers.set_held(memory.reservation().held());
        if freed != 0 {
            self.has_more_room();
        }
        Ok(freed)
    }
}

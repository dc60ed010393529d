//! The Unix time of the machine, which a controller keeps right, and all VMs that are in find in their register pages.

use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use abi::control::{ControlReply, status};
use abi::vm::Seat;
use backend::Backend;

/// VMs that are told at a time, so that others come to their turn in between.
const BATCH: u16 = 64;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Unix time is `by_ns` more: [`crate::board::UnixClock::adjust`].
    pub(super) fn adjust_clock(&mut self, by_ns: i64, ppm: u32) -> ControlReply {
        let now = self.cpu.board.now();
        if !self.cpu.clock.adjust(now, by_ns, ppm) {
            return ControlReply::Done { status: status::BAD_REQUEST, value: 0 };
        }
        self.cpu.clock_has_changed();
        ControlReply::Done { status: status::OK, value: self.cpu.clock.reading(now).unix_ns }
    }

    /// Tell some more of those VMs that are in how they tell the time now. Who comes in or starts later finds it so.
    #[cold]
    pub fn tell_clock(&mut self) {
        let now = self.cpu.board.now();
        let reading = self.cpu.clock.reading(now);
        let end = self.cpu.clock_told.saturating_add(BATCH);
        for seat in (self.cpu.clock_told..end).map(Seat::new) {
            if let Some(vm) = self.vms.in_seat(seat)
                && let Some(body) = vm.life.body()
            {
                body.registers.set_clock(&reading);
            }
        }
        self.cpu.clock_told = end;
        if usize::from(end) < self.vms.seats().used() {
            self.cpu.attention.set_clock();
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// All VMs that are in have to be told how they tell the time now.
    pub fn clock_has_changed(&mut self) {
        self.clock_told = 0;
        self.attention.set_clock();
        self.arm(self.clock.due());
    }
}

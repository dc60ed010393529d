//! The kernel of one CPU: its VMs, what it owns beside them ([`Cpu`]), and the loop that it lives in.
//!
//! The loop picks who runs: the most important component that has something to do, else the VM whose turn it is, else
//! nobody. A component or a VM runs until its next trap or exit; nothing in the core blocks, and nothing runs but by the
//! loop's choice. All state is reached from [`Kernel`], which the loop owns, so there is no lock to take.
//!
//! What would pull the ground from under others is done by the loop alone, which holds no borrowed state: components that
//! were condemned are stopped and started here, and VMs that have ended are buried here.

mod account;
mod attention;
mod barriers;
mod cpu;
mod enable;
mod errors;
mod hardware_errors;
mod parts;
mod requests;
mod start;
mod steady;
#[cfg(test)]
pub mod tests;
mod turn;

pub use attention::Attention;
pub use barriers::{Crossings, Domain};
pub use cpu::Cpu;
pub use errors::HardwareErrors;
pub use parts::{Parts, Tables};
pub use start::run;
pub use steady::{PERIOD_MS, Steady};
pub use turn::{Rules, Turn};

use crate::board::Board;
use crate::vm::{Hazard, NEVER, Queue, Requested, State, Table};
use abi::guest::pending;
use backend::Backend;

/// Polls of the serial line per second while something waits for it.
const SERIAL_RATE: u64 = 700;
/// Ticks between two of them.
const fn serial_interval(tsc_hz: u64) -> u64 {
    tsc_hz / SERIAL_RATE
}

/// Deadlines of VMs that are served before components come to their turn.
const DEADLINE_BATCH: usize = 64;
/// VMs that are buried before components, who are told of each, come to their turn.
const BURIAL_BATCH: usize = 32;
/// Frames that are filled with zeros before the core looks for interrupts again.
const WIPED_AT_ONCE: u32 = 8;

/// One CPU's share of the machine.
pub struct Kernel<B: Backend, H: Board> {
    pub vms: Table<B>,
    pub cpu: Cpu<B, H>,
    /// VMs that the boot options ask for and that have still to come to live.
    requested: Requested,
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// The loop. Does not return: the machine is switched off from inside.
    fn run(&mut self) -> ! {
        loop {
            self.step();
        }
    }

    /// One turn of the loop.
    // Each exit and each trap passes here, and a call costs two dozen instructions.
    #[inline(always)]
    fn step(&mut self) {
        if self.cpu.attention.needs_core() {
            self.attend();
        }
        if crate::log::is_waiting() && !self.cpu.pumps {
            // Whoever runs, the serial line gets what it takes: sixteen bytes at 11,520 a second.
            self.cpu.pumps = true;
            self.cpu.arm(self.cpu.mark.saturating_add(serial_interval(self.cpu.time.tsc_hz())));
        }
        // One place where components run, so that this is not a call.
        let rank = match self.cpu.attention.most_important() {
            None if !self.cpu.components.shares.is_empty() => self.shared_turn(),
            rank => rank,
        };
        if let Some(rank) = rank {
            self.run_component(rank);
        } else if self.may_create() {
            self.cpu.crossings.others_ran();
            self.create_requested();
        } else if let Some(turn) = self.next_turn() {
            self.run_vm(turn);
        } else if !self.cpu.attention.is_none() {
        } else if !self.cpu.components.shares.is_empty() {
            self.cpu.components.shares.pass();
        } else {
            self.idle();
        }
    }

    /// What only the loop may do.
    fn attend(&mut self) {
        self.cpu.crossings.others_ran();
        if self.cpu.attention.take_ended() {
            self.bury();
        }
        if self.cpu.attention.take_components() {
            self.carry_out();
        }
        if self.cpu.attention.take_unheld() {
            self.let_expired_go();
        }
        if self.cpu.attention.take_timer() {
            self.expire();
        }
        if self.cpu.attention.take_callers() {
            self.serve_callers();
        }
        if self.cpu.attention.take_swap() {
            self.serve_swap();
        }
        if self.cpu.attention.take_clock() {
            self.tell_clock();
        }
    }

    /// Deadlines that have come: wake components and VMs, and set the timer for the rest. At most a bounded number at a
    /// time, so that components come to their turn in between.
    fn expire(&mut self) {
        let now = self.cpu.board.now();
        crate::log::pump();
        let Self { vms, cpu, .. } = self;
        cpu.pumps = false;
        cpu.components.expire(now, &mut cpu.attention);
        for _ in 0..DEADLINE_BATCH {
            let Some(seat) = cpu.timers.pop_due(now) else { break };
            if let Some(vm) = vms.in_seat(seat) {
                cpu.deadline_of(vm, now);
            }
        }
        if self.cpu.absent_timers.next() <= now {
            self.wake_absent(now);
        }
        if self.cpu.called_timers.next() <= now {
            self.let_called_in(now);
        }
        if self.cpu.admit_at <= now {
            self.admit_late(now);
        }
        if self.cpu.room_at <= now {
            self.ask_for_room(now);
        }
        if self.cpu.swap_at() <= now {
            self.cpu.go_on_swapping(now);
        }
        if self.cpu.look_at <= now {
            let Self { vms, cpu, .. } = self;
            cpu.look_after_components(vms, now);
        }
        if self.cpu.clock.settle(now) {
            self.cpu.clock_has_changed();
        }
        self.look_for_errors(now);
        self.cpu.say_nmis(now);
        self.cpu.arm(self.cpu.next_deadline());
    }

    /// Free what VMs had that have ended, and tell components of it.
    fn bury(&mut self) {
        for _ in 0..BURIAL_BATCH {
            if self.cpu.queues.is_empty(Queue::Ended) {
                return;
            }
            // They go on when those who hear of it have emptied their rings.
            if !self.cpu.all_have_room() {
                return;
            }
            let Some(slot) = self.cpu.queues.pop(Queue::Ended) else { return };
            self.reclaim(slot);
        }
        if !self.cpu.queues.is_empty(Queue::Ended) {
            self.cpu.attention.set_ended();
        }
    }

    /// Nothing can run: fill some frames with zeros that somebody has given back, or wait for an interrupt.
    fn idle(&mut self) {
        let cpu = &mut self.cpu;
        let before = cpu.board.now();
        cpu.lap(before);
        cpu.arm(cpu.next_deadline());
        let vector = if cpu.frames.wipe(WIPED_AT_ONCE) { cpu.board.take_interrupt() } else { cpu.board.idle() };
        cpu.mark = cpu.board.now();
        cpu.counters.idle_ticks += cpu.mark - before;
        if cpu.look_at == NEVER {
            cpu.look_at = cpu.mark.saturating_add(cpu.steady.period_ticks());
            // Whoever runs next sets the timer for it.
            cpu.components.next_deadline = cpu.components.next_deadline.min(cpu.look_at);
        }
        match vector {
            Some(vector) => cpu.interrupt(vector),
            // What cannot be held back, perhaps.
            None if cpu.has_news_of_hardware() => cpu.attention.set_timer(),
            None => {}
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// The alarm or the idle timeout of a VM has come.
    fn deadline_of(&mut self, vm: &mut crate::vm::Vm<B>, now: u64) {
        if vm.life.is_ending() {
            return;
        }
        if vm.life.shortage().is_some_and(|shortage| shortage.retry <= now) {
            self.look_for_memory(vm, now);
            if vm.life.is_ending() {
                return;
            }
        }
        let due = vm.alarm <= now;
        if due {
            vm.alarm = u64::MAX;
            if let Some(body) = vm.life.body() {
                body.registers.set_alarm(u64::MAX);
            }
        }
        match vm.life.state() {
            State::Idle { until } if until <= now => {
                if let Some(body) = vm.life.body() {
                    body.registers.raise(pending::ALARM);
                }
                vm.hazard.set(Hazard::PENDING);
                self.wake(vm);
            }
            _ if due => self.raise(vm, pending::ALARM),
            _ => {}
        }
        self.timers.set(vm.seat, vm.deadline());
    }
}

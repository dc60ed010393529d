//! The machine: everything that the core knows, and the loop that it lives in.
//!
//! The loop picks who runs: the most important component that has something to do, else the VM whose turn it is, else
//! nobody. A component or a VM runs until its next trap or exit; nothing in the core blocks, and nothing runs but by the
//! loop's choice. All state is reached from [`Machine`], which the loop owns, so there is no lock to take: when more CPUs
//! run, each gets a loop and this state is split by what may be shared (docs/architecture.md, "More CPUs").

mod admission;
mod control;
mod deliver;
mod dispatch;
mod enable;
mod exits;
mod hypercalls;
mod interrupts;
mod lifecycle;
mod pager;
mod ready;
mod restart;
mod resync;
mod start;
mod syscalls;
mod timers;

pub use start::run;

use crate::boot::Options;
use crate::boot::options::VmRequest;
use crate::components::{Components, Role};
use crate::cpu;
use crate::hardware::Hardware;
use crate::log::RateLimit;
use crate::memory::Frames;
use crate::vms::{Images, State, Table};
use abi::limits::MAX_IMAGES;
use abi::vm::VmId;
use backend::Backend;
use ready::ReadyList;
use syscalls::Death;
use timers::Timers;

/// What is counted from boot on, for the monitor and for measurements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// VM exits.
    pub exits: u64,
    /// Hypercalls.
    pub hypercalls: u64,
    /// External interrupts.
    pub interrupts: u64,
    /// System calls of components.
    pub syscalls: u64,
    /// Faults given to the pager.
    pub faults: u64,
    /// Dispatches that the plan did not name.
    pub fallbacks: u64,
    /// Ticks in components.
    pub component_ticks: u64,
    /// Ticks in guests.
    pub guest_ticks: u64,
    /// Ticks idle.
    pub idle_ticks: u64,
}

/// Looks a second at the serial line while something waits for it.
const SERIAL_RATE: u64 = 700;

/// The VM that has the CPU's turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    vm: VmId,
    /// TSC at which its quantum ends.
    until: u64,
}

/// Everything that the core knows.
pub struct Machine<B: Backend> {
    backend: B,
    frames: Frames,
    hardware: Hardware,
    options: Options,
    components: Components,
    images: Images,
    vms: Table<B>,
    /// VMs that the boot options ask for and that have still to be created; the last entry is the next.
    requests: heapless::Vec<VmRequest, MAX_IMAGES>,
    timers: Timers<'static>,
    ready: ReadyList<'static>,
    /// The VMs that wait for admission, in the order of their creation.
    waiting: ReadyList<'static>,
    /// TSC at which the core looks after those by itself.
    admit_at: u64,
    turn: Option<Turn>,
    /// The plan's next entry that can run: VM and quantum in ticks.
    planned: Option<(VmId, u64)>,
    /// The plan is empty, and the scheduler was asked for more.
    asked_scheduler: bool,
    counters: Counters,
    /// TSC for which the timer is set; it may be early, never late.
    armed: u64,
    /// The timer has fired and deadlines have to be looked at.
    timer_fired: bool,
    /// TSC at which whoever runs, or the core on its behalf, began: the last change between components, VMs and idling.
    mark: u64,
    /// Rank of the component whose address space is loaded.
    loaded: Option<usize>,
    /// Frames that VMs can have: those that were free when everything else had been made.
    vm_frames: u64,
    /// Default quantum in ticks.
    quantum_ticks: u64,
    /// Shortest quantum in ticks: a plan of empty turns cannot keep the core busy.
    least_quantum_ticks: u64,
    /// Limits what guests can make the core log.
    guest_log: RateLimit,
    /// Limits what components' bad messages can make the core log.
    component_log: RateLimit,
    /// NMIs seen so far.
    nmis: u64,
}

impl<B: Backend> Machine<B> {
    /// The loop. Does not return: the machine is switched off from inside.
    fn run(&mut self) -> ! {
        loop {
            if self.timer_fired {
                self.expire();
            }
            if crate::log::is_waiting() {
                // Whoever runs, the serial line gets what it takes: sixteen bytes at 11,520 a second.
                self.arm(self.mark.saturating_add(self.hardware.tsc_hz() / SERIAL_RATE));
            }
            if let Some(rank) = self.components.most_important() {
                self.run_component(rank);
            } else if !self.requests.is_empty() {
                self.create_requested();
            } else if let Some(turn) = self.next_turn() {
                self.run_vm(turn);
            } else if self.components.runnable == 0 {
                self.idle();
            }
        }
    }

    /// Set the timer no later than `deadline`.
    #[inline]
    fn arm(&mut self, deadline: u64) {
        if deadline < self.armed {
            self.armed = deadline;
            self.hardware.set_timer(deadline);
        }
    }

    /// When the next deadline comes.
    #[inline]
    fn next_deadline(&self) -> u64 {
        self.timers.next().min(self.components.next_deadline).min(self.admit_at)
    }

    /// Deadlines that have come: wake components and VMs, and set the timer for the rest. At most a bounded number at a
    /// time, so that components come to their turn in between.
    fn expire(&mut self) {
        const BATCH: usize = 64;
        let now = cpu::tsc();
        self.timer_fired = false;
        crate::log::pump();
        self.components.expire(now);
        for _ in 0..BATCH {
            let Some(slot) = self.timers.pop_due(now) else { break };
            self.deadline_of(slot, now);
        }
        if self.admit_at <= now {
            self.admit_late(now);
        }
        self.arm(self.next_deadline());
        if self.nmis != cpu::nmi_count() {
            self.nmis = cpu::nmi_count();
            log::warn!(target: "core", "{} non-maskable interrupts since boot: the firmware or a device reports a hardware error; look at its event log", self.nmis);
        }
    }

    /// The alarm or the idle timeout of a VM has come, or the time by which the demultiplexer must have let go of it.
    fn deadline_of(&mut self, slot: u16, now: u64) {
        let Some(vm) = self.vms.get(slot) else { return };
        if vm.state == State::Ending {
            let id = vm.id;
            if let Some(rank) = self.components.rank_of(Role::Net).filter(|_| vm.attached) {
                self.kill(rank, Death::Withholds(id));
            }
            return;
        }
        let due = vm.alarm <= now;
        if due {
            vm.alarm = u64::MAX;
            if let Some(registers) = &vm.registers {
                registers.set_alarm(u64::MAX);
            }
        }
        if let State::Idle { until } = vm.state
            && until <= now
        {
            if let Some(registers) = &vm.registers {
                registers.raise(abi::guest::pending::ALARM);
            }
            vm.hazard = true;
            self.wake(slot);
        } else if due {
            self.raise(slot, abi::guest::pending::ALARM);
        }
        if let Some(vm) = self.vms.get(slot) {
            let deadline = vm.deadline();
            self.timers.set(slot, deadline);
        }
    }

    /// Nothing can run: wait for an interrupt.
    fn idle(&mut self) {
        let before = cpu::tsc();
        self.arm(self.next_deadline());
        let vector = cpu::idle();
        self.mark = cpu::tsc();
        self.counters.idle_ticks += self.mark - before;
        if let Some(vector) = vector {
            self.interrupt(vector);
        }
    }
}

//! Whose turn it is, and what is known of whose is next.

use abi::vm::VmId;

/// One part of a second that a quantum has at least: a plan of empty turns cannot keep the core busy.
const LEAST_QUANTUM_PART: u64 = 100_000;

/// The VM that has the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub vm: VmId,
    /// TSC at which its quantum ends.
    pub until: u64,
}

/// The core's end of the plan that the scheduler publishes.
#[derive(Debug)]
pub struct Plan {
    /// Who has the CPU, as long as its quantum lasts.
    pub turn: Option<Turn>,
    /// The next entry that can run: VM and quantum in ticks.
    pub next: Option<(VmId, u64)>,
    /// The plan is empty, and the scheduler was asked for more.
    pub asked: bool,
    /// Default quantum in ticks.
    quantum_ticks: u64,
    /// Shortest quantum in ticks.
    least_quantum_ticks: u64,
}

impl Plan {
    /// Nobody has the CPU, and nothing is planned. The default quantum is in ticks.
    pub fn new(quantum_ticks: u64, tsc_hz: u64) -> Self {
        let least_quantum_ticks = tsc_hz / LEAST_QUANTUM_PART;
        Plan { turn: None, next: None, asked: false, quantum_ticks, least_quantum_ticks }
    }

    /// Default quantum in ticks.
    pub fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    /// The scheduler is gone, and with it what it had planned.
    pub fn forget(&mut self) {
        self.next = None;
    }

    /// A turn that begins at `now` for the quantum that the plan gives.
    #[inline]
    pub fn turn_of(&self, vm: VmId, now: u64, quantum_ticks: u64) -> Turn {
        Turn { vm, until: now.saturating_add(quantum_ticks.max(self.least_quantum_ticks)) }
    }

    /// The VM gives its turn up.
    #[inline]
    pub fn give_up(&mut self, vm: VmId) {
        if self.turn.is_some_and(|turn| turn.vm == vm) {
            self.turn = None;
        }
    }
}

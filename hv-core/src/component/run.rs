//! Whether a component can run, and why it is stopped.

use abi::message::BadMessage;
use abi::vm::VmId;

/// Whether a component can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It goes on where it was.
    Ready,
    /// It waits for one of the bits in `mask`, or the deadline.
    Waiting {
        /// Bits that end the wait.
        mask: u64,
        /// TSC at which the wait ends, `u64::MAX` for never.
        deadline: u64,
    },
    /// It was found guilty, and the loop stops it.
    Condemned(Death),
    /// It was stopped, and is started again.
    Stopped {
        /// TSC of its next start.
        start_at: u64,
    },
}

/// Why a component is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Exception.
    Fault { vector: u8, error: u64, cr2: u64 },
    /// It called exit with this code (a panic, too, ends so).
    Exit(u64),
    /// It does not wait: ticks that it ran.
    Overrun(u64),
    /// It waits only for what is past: ticks that it ran.
    Spins(u64),
    /// It sleeps on what it was rung for.
    Sleeps,
    /// It does not empty the ring from the core.
    RingFull,
    /// It does not let go of the NIC of this VM, which has ended.
    DetachTimeout(VmId),
    /// It is on trial, and sent what is no message of its ring.
    Nonsense(BadMessage),
    /// It is on trial, and does not do its work.
    Stalled,
    /// The controller asked for it.
    Killed,
    /// Another policy takes its place.
    Swapped,
}

impl Death {
    /// Whether the component is to blame.
    pub fn is_fault(self) -> bool {
        !matches!(self, Death::Killed | Death::Swapped)
    }
}

//! Gatekeeper and policy together: from the core's events to the plan.

use crate::Oddity;
use crate::gatekeeper::Gatekeeper;
use crate::policy::Policy;
use abi::sched::{SchedCommand, SchedEvent};

/// Entries of the plan that are ahead of the core at most: so long a VM that has just become able to run waits behind
/// others.
pub const PLAN_DEPTH: u32 = 16;

/// The scheduler with the policy `P`.
#[derive(Debug)]
pub struct Scheduler<P> {
    gatekeeper: Gatekeeper,
    policy: P,
}

impl<P: Policy> Scheduler<P> {
    /// A scheduler that knows no VMs.
    pub const fn new(policy: P) -> Self {
        Scheduler { gatekeeper: Gatekeeper::new(), policy }
    }

    /// Sets how many frames VMs can have on this machine.
    pub fn set_capacity(&mut self, frames: u64) {
        self.gatekeeper.set_capacity(frames);
    }

    /// Takes one event in. What follows from it comes with the next [`Scheduler::plan`].
    ///
    /// # Errors
    ///
    /// An [`Oddity`] when the event makes no sense; it is dropped.
    #[inline]
    pub fn handle(&mut self, event: SchedEvent) -> Result<(), Oddity> {
        match event {
            SchedEvent::Hello { quantum_ticks, free } => {
                self.gatekeeper.reset(free);
                self.policy.reset(quantum_ticks);
                Ok(())
            }
            SchedEvent::Arrived { vm, frames, free } => self.gatekeeper.arrived(vm, frames, free),
            SchedEvent::Ready { vm } => {
                self.gatekeeper.ready(vm);
                self.policy.ready(vm)
            }
            SchedEvent::Blocked { vm, ran_ticks, idle } => self.policy.blocked(vm, ran_ticks, idle),
            SchedEvent::Ended { vm, free } => {
                self.gatekeeper.ended(vm, free);
                self.policy.ended(vm);
                Ok(())
            }
        }
    }

    /// Admits who can be admitted and fills the plan up, when `outstanding` of the ring's `capacity` commands have not been
    /// taken by the core. Never more commands go to `send` than fit.
    ///
    /// The plan never is longer than there are VMs to run: to run the only one twice in a row, once more asking costs less
    /// than the wait behind a long plan would cost one that wakes meanwhile.
    #[inline]
    pub fn plan(&mut self, outstanding: u32, capacity: u32, send: &mut impl FnMut(SchedCommand)) {
        let mut outstanding = outstanding;
        while outstanding < capacity
            && let Some(vm) = self.gatekeeper.admit()
        {
            send(SchedCommand::Admit { vm });
            outstanding += 1;
        }
        let full = PLAN_DEPTH.min(self.policy.runnable()).min(capacity);
        while outstanding < full
            && let Some(dispatch) = self.policy.next()
        {
            send(SchedCommand::Run { vm: dispatch.vm, quantum_ticks: dispatch.quantum_ticks });
            outstanding += 1;
        }
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;

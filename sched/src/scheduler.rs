//! Gatekeeper and policy together: from the core's events to the plan.

use crate::Oddity;
use crate::gatekeeper::Gatekeeper;
use crate::policy::{PLAN_DEPTH, Policy};
use crate::vms::Seated;
use abi::note::TableBytes;
use abi::sched::{SchedCommand, SchedEvent};
use component::Tables;

/// The scheduler with the policy `P`.
#[derive(Debug)]
pub struct Scheduler<P> {
    gatekeeper: Gatekeeper,
    policy: P,
    /// Commands in the ring, and the time, when the core had last taken some.
    published: u32,
    published_at: u64,
    /// A VM has blocked since then.
    blocked: bool,
    /// VMs give their quanta up and can go on all the same: plan far ahead.
    hasty: bool,
}

impl<P: Policy> Scheduler<P> {
    /// What its tables take, the policy's included.
    pub const TABLES: TableBytes = TableBytes { per_seat: P::SEAT_BYTES, ..Gatekeeper::TABLES };

    /// A scheduler that knows no VMs.
    pub fn new(tables: &mut Tables) -> Self {
        let (gatekeeper, policy) = (Gatekeeper::new(tables), P::new(tables));
        Scheduler { gatekeeper, policy, published: 0, published_at: 0, blocked: false, hasty: false }
    }

    /// Sets how many frames VMs can have on this machine.
    pub fn set_capacity(&mut self, frames: u64) {
        self.gatekeeper.set_capacity(frames);
    }

    /// Gives the policy a number that differs from start to start.
    pub fn seed(&mut self, seed: u64) {
        self.policy.seed(seed);
    }

    /// Takes one event in. What follows from it comes with the next [`Scheduler::plan`].
    ///
    /// # Errors
    ///
    /// An [`Oddity`] when the event makes no sense; it is dropped.
    #[inline]
    pub fn handle(&mut self, event: SchedEvent) -> Result<(), Oddity> {
        match event {
            SchedEvent::Hello { quantum_ticks, room } => {
                self.gatekeeper.reset(room);
                self.policy.reset(quantum_ticks);
                Ok(())
            }
            SchedEvent::Arrived { vm, frames, room } => self.gatekeeper.arrived(vm, frames, room),
            SchedEvent::Ready { vm, seat, weight } => {
                self.gatekeeper.ready(vm);
                self.policy.ready(Seated { id: vm, seat }, weight)
            }
            SchedEvent::Blocked { vm, seat, ran_ticks, idle } => {
                self.blocked = true;
                self.policy.blocked(Seated { id: vm, seat }, ran_ticks, idle)
            }
            SchedEvent::Room { room } => {
                self.gatekeeper.has_room(room);
                Ok(())
            }
            SchedEvent::Ended { vm, seat, room } => {
                self.gatekeeper.ended(vm, room);
                if let Some(seat) = seat {
                    self.policy.ended(Seated { id: vm, seat });
                }
                Ok(())
            }
        }
    }

    /// Keeps back who cannot be admitted, admits who can be, and fills the plan up, when `outstanding` of the ring's `capacity` commands have not been
    /// taken by the core at TSC `now`. Never more commands go to `send` than fit.
    #[inline]
    pub fn plan(&mut self, now: u64, outstanding: u32, capacity: u32, send: &mut impl FnMut(SchedCommand)) {
        if outstanding < self.published {
            self.hasty = !self.blocked && now.wrapping_sub(self.published_at) < self.policy.quantum_ticks();
            self.blocked = false;
            self.published_at = now;
        }
        let mut outstanding = outstanding;
        while outstanding < capacity
            && let Some(vm) = self.gatekeeper.hold()
        {
            send(SchedCommand::Hold { vm });
            outstanding += 1;
        }
        while outstanding < capacity
            && let Some(vm) = self.gatekeeper.admit()
        {
            send(SchedCommand::Admit { vm });
            outstanding += 1;
        }
        let full = self.depth().min(capacity);
        while outstanding < full
            && let Some(dispatch) = self.policy.next()
        {
            send(SchedCommand::Run { vm: dispatch.vm, quantum_ticks: dispatch.quantum_ticks });
            outstanding += 1;
        }
        self.published = outstanding;
    }

    /// How far to plan. Usually one round: a VM that wakes waits behind what is planned, and entries for VMs that block
    /// meanwhile are for nothing. But where VMs pass the CPU on within a quantum without ever blocking, entries are used up
    /// quickly, and few of them would mean to ask this scheduler each time.
    #[inline]
    fn depth(&self) -> u32 {
        let most = PLAN_DEPTH.min(P::AHEAD);
        if self.hasty { most } else { most.min(self.policy.runnable()) }
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;

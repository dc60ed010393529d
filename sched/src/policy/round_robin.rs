//! Round robin with credit for idling: whoever idled before its quantum ended goes to the front once when it can run again.
//!
//! So a server that sleeps most of the time answers at once although others compute, and pays for that by having
//! given its quantum away. Those with credit come before the others, but after [`CREDIT_RUN`] of them one of the others runs:
//! VMs that idle and wake all the time cannot starve one that computes.

use super::{Dispatch, Policy};
use crate::Oddity;
use crate::queue::{Links, List};
use crate::vms::{Known, Seated, Vms};
use abi::vm::Seat;
use component::Tables;

/// VMs with credit that run in a row while others wait.
pub const CREDIT_RUN: u32 = 8;

/// Where a VM is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Cannot run.
    #[default]
    Blocked,
    /// Cannot run, and idled before its quantum ended.
    BlockedWithCredit,
    /// In the rotation.
    Rotating,
    /// In the list of those with credit.
    Credited,
}

/// The policy `round-robin`.
#[derive(Debug)]
pub struct RoundRobin {
    vms: Vms<State>,
    links: Links,
    rotation: List<Seat>,
    credited: List<Seat>,
    /// VMs with credit that were named since one without was.
    credit_run: u32,
    quantum_ticks: u64,
}

impl RoundRobin {
    /// Takes a seat out of the list that it is in.
    #[inline]
    fn unlink(&mut self, seat: Seat, state: State) {
        match state {
            State::Rotating => self.rotation.remove(&mut self.links, seat),
            State::Credited => self.credited.remove(&mut self.links, seat),
            State::Blocked | State::BlockedWithCredit => {}
        }
    }
}

impl Policy for RoundRobin {
    const NAME: &'static str = "round-robin";
    const SEAT_BYTES: u32 = Vms::<State>::SEAT_BYTES + Links::BYTES;

    fn new(tables: &mut Tables) -> Self {
        RoundRobin {
            vms: Vms::new(tables),
            links: Links::new(tables.per_seat()),
            rotation: List::new(),
            credited: List::new(),
            credit_run: 0,
            quantum_ticks: 0,
        }
    }

    fn reset(&mut self, quantum_ticks: u64) {
        self.vms.clear();
        self.rotation = List::new();
        self.credited = List::new();
        self.credit_run = 0;
        self.quantum_ticks = quantum_ticks;
    }

    #[inline]
    fn ready(&mut self, vm: Seated, _weight: u16) -> Result<(), Oddity> {
        let (known, state) = self.vms.look(vm)?;
        let same = known == Known::Same;
        if same && matches!(state, State::Rotating | State::Credited) {
            return Ok(());
        }
        let state = if same && state == State::BlockedWithCredit {
            self.credited.push_back(&mut self.links, vm.seat);
            State::Credited
        } else {
            // Whoever had the seat before is gone, even if nobody said so.
            self.unlink(vm.seat, state);
            self.rotation.push_back(&mut self.links, vm.seat);
            State::Rotating
        };
        self.vms.set(vm, state);
        Ok(())
    }

    #[inline]
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, idle: bool) -> Result<(), Oddity> {
        let (known, state) = self.vms.look(vm)?;
        if known == Known::Other {
            return Err(Oddity::UnknownVm(vm.id));
        }
        self.unlink(vm.seat, state);
        let earned = idle && ran_ticks < self.quantum_ticks;
        self.vms.set(vm, if earned { State::BlockedWithCredit } else { State::Blocked });
        Ok(())
    }

    fn ended(&mut self, vm: Seated) {
        if let Some(state) = self.vms.forget(vm) {
            self.unlink(vm.seat, state);
        }
    }

    fn quantum_ticks(&self) -> u64 {
        self.quantum_ticks
    }

    #[inline]
    fn runnable(&self) -> u32 {
        self.rotation.len() + self.credited.len()
    }

    #[inline]
    fn next(&mut self) -> Option<Dispatch> {
        let credit = !self.credited.is_empty() && (self.credit_run < CREDIT_RUN || self.rotation.is_empty());
        let seat = if credit {
            self.credit_run = self.credit_run.saturating_add(1);
            let seat = self.credited.pop_front(&mut self.links)?;
            self.rotation.push_back(&mut self.links, seat);
            *self.vms.at(seat).1 = State::Rotating;
            seat
        } else {
            self.credit_run = 0;
            self.rotation.rotate(&mut self.links)?
        };
        let (vm, _) = self.vms.at(seat);
        Some(Dispatch { vm, quantum_ticks: self.quantum_ticks })
    }
}

#[cfg(test)]
#[path = "round_robin_tests.rs"]
mod tests;

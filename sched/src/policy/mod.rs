//! What a dispatch policy is, and the policies.

mod fair;
mod lottery;
mod round_robin;
mod stride;
mod virtual_time;

pub use fair::{Fair, OWED_QUANTA};
pub use lottery::Lottery;
pub use round_robin::{CREDIT_RUN, RoundRobin};
pub use stride::Stride;

use crate::Oddity;
use crate::vms::Seated;
use abi::vm::VmId;
use component::Tables;

/// Entries of the plan that are ahead of the core at most: so long a VM that has just become able to run waits behind
/// others.
pub const PLAN_DEPTH: u32 = 16;

/// The order in which admitted VMs run. `docs/policies.md` tells how to write one.
pub trait Policy: Sized {
    /// What the boot option calls it.
    const NAME: &'static str;

    /// How many turns are planned ahead of the core at most. The further, the more seldom the core has to ask; the nearer,
    /// the sooner what has happened since counts. Never more than [`PLAN_DEPTH`].
    const AHEAD: u32 = PLAN_DEPTH;

    /// What the core lets those do that wake. By itself nobody runs ahead of the plan.
    const RULES: Rules = Rules { most_in_row: 0, preempts: false, slices: 1 };

    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    const SEAT_BYTES: u32;

    /// Knows no VMs.
    fn new(tables: &mut Tables) -> Self;

    /// A number that differs from start to start, before anything else. For policies that draw; guests could guess it, so
    /// nothing but chance may depend on it.
    fn seed(&mut self, _seed: u64) {}

    /// Forgets all VMs. Quanta are `quantum_ticks` ticks of the TSC from now on.
    fn reset(&mut self, quantum_ticks: u64);

    /// `vm` can run; its weight ([`abi::share::Share::weight`]) is as the core says it, and is to be brought within its
    /// limits.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a seat that the machine does not have.
    fn ready(&mut self, vm: Seated, weight: u16) -> Result<(), Oddity>;

    /// `vm` no longer can run: it idles (`idle`) or waits, after `ran_ticks` since it was ready, which may be several
    /// quanta. After a restart this may be the first that is heard of it.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] for a seat that the machine does not have, [`Oddity::UnknownVm`] when another one has its seat.
    fn blocked(&mut self, vm: Seated, ran_ticks: u64, idle: bool) -> Result<(), Oddity>;

    /// `vm` is gone.
    fn ended(&mut self, vm: Seated);

    /// The quantum in ticks of the TSC.
    fn quantum_ticks(&self) -> u64;

    /// How many VMs can run.
    fn runnable(&self) -> u32;

    /// Who runs next, after whoever was named before. `None` when nobody can. Called for each entry of the plan, which is
    /// ahead of the core: a VM that is named may have blocked by its turn, which is passed over then.
    fn next(&mut self) -> Option<Dispatch>;

    /// VMs block while the plan goes on, or they do not any more. Where some wake and go ahead of the plan, shorter turns have it heard sooner what these have run.
    fn shorten(&mut self, _sleeps: bool) {}

    /// Who may run ahead of the plan when it wakes ([`abi::sched::SchedCommand::Allow`]), and is to be told the core next. `None` when nobody is.
    fn allow(&mut self) -> Option<Allowance> {
        None
    }

    /// All that was heard has been taken in, and nobody can run.
    fn rest(&mut self) {}
}

/// What is laid down for those that wake: [`abi::sched::SchedCommand::Rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Turns ahead of the plan, until the next one by the plan begins; 0: nobody runs ahead.
    pub most_in_row: u32,
    /// They interrupt the turn that somebody has.
    pub preempts: bool,
    /// Turns ahead that a quantum is cut into, for VMs of the usual weight.
    pub slices: u64,
}

/// What a VM may run ahead of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Who.
    pub vm: VmId,
    /// For how many ticks of the TSC in all, from now on.
    pub ticks: u64,
}

/// One entry of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Who runs.
    pub vm: VmId,
    /// For how many ticks of the TSC at most.
    pub quantum_ticks: u64,
}

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod test_cpu;

//! What a dispatch policy is, and the policies.

pub mod round_robin;

use crate::Oddity;
use abi::vm::VmId;

/// The order in which admitted VMs run.
pub trait Policy {
    /// Forgets all VMs. Quanta are `quantum_ticks` ticks of the TSC from now on.
    fn reset(&mut self, quantum_ticks: u64);

    /// `vm` can run.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] beyond the limits.
    fn ready(&mut self, vm: VmId) -> Result<(), Oddity>;

    /// `vm` no longer can run: it idles (`idle`) or waits, after `ran_ticks` of its quantum. After a restart this may be the
    /// first that is heard of it.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadVm`] beyond the limits, [`Oddity::UnknownVm`] when another one lives in its slot.
    fn blocked(&mut self, vm: VmId, ran_ticks: u64, idle: bool) -> Result<(), Oddity>;

    /// `vm` is gone.
    fn ended(&mut self, vm: VmId);

    /// The quantum in ticks of the TSC.
    fn quantum_ticks(&self) -> u64;

    /// How many VMs can run.
    fn runnable(&self) -> u32;

    /// Who runs next, after whoever was named before. `None` when nobody can.
    fn next(&mut self) -> Option<Dispatch>;
}

/// One entry of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Who runs.
    pub vm: VmId,
    /// For how many ticks of the TSC at most.
    pub quantum_ticks: u64,
}

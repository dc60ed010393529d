//! How a guest is spoilt, for the tests of a failed entry: in the test image only.

use crate::Vcpu;

/// Ways to spoil a guest so that the next entry fails, for the tests of that path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The guest's state is invalid.
    GuestState,
    /// The controls contradict each other.
    Controls,
    /// What the CPU needs of the host's is invalid.
    HostState,
}

/// A guest's processor that can be spoilt.
pub trait Corrupt: Vcpu {
    /// Make the next entry fail.
    fn corrupt(&mut self, cpu: &mut Self::Cpu, how: Corruption);
}

//! One CPU that can run guests.

use crate::{Frames, Tables, Vcpu};

/// The virtualization of one CPU: a value exists while it is switched on.
pub trait Backend: Sized {
    /// A guest's processor.
    type Vcpu: Vcpu<Cpu = Self>;
    /// Its nested page tables.
    type Tables: Tables;
    /// Why the CPU refused a guest's processor.
    type Error: core::fmt::Display;
    /// [`Vcpu::run`] ends by itself when its ticks are over. Otherwise a timer interrupt has to end it.
    const ENDS_QUANTUM: bool;

    /// Empty tables, or `None` when there is no frame for the root.
    fn new_tables<F: Frames>(&self, frames: &mut F) -> Option<Self::Tables>;
    /// Forget translations of these tables, which are those of the guest with this processor, that this CPU remembers.
    fn flush(&mut self, vcpu: &mut Self::Vcpu, tables: &Self::Tables);
}

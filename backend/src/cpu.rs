//! One CPU that can run guests.

use crate::{Barriers, Frames, Tables, Vcpu};

/// The virtualization of one CPU: a value exists while it is switched on.
pub trait Backend: Sized {
    /// A guest's processor.
    type Vcpu: Vcpu<Cpu = Self>;
    /// Its nested page tables.
    type Tables: Tables;
    /// Why the CPU refused a guest's processor.
    type Error: Into<abi::log::ProcessorError>;
    /// [`Vcpu::run`] ends by itself when its ticks are over. Otherwise a timer interrupt has to end it.
    const ENDS_QUANTUM: bool;

    /// Whether [`Backend::ENDS_QUANTUM`] can be relied on: a CPU's own timer may count at another rate than it says.
    fn ends_quantum(&self) -> bool;

    /// Empty tables, or `None` when there is no frame for the root.
    fn new_tables<F: Frames>(&self, frames: &mut F) -> Option<Self::Tables>;
    /// Carry these out at every exit from now on, before the core's first return or indirect branch. Before any guest is made: of
    /// [`Barriers::AT_EXIT`], and of those that the processor has.
    fn at_exits(&mut self, barriers: Barriers);
    /// Carry these out at every entry from now on, as [`Backend::before_entry`] does at one. Before any guest is made.
    fn at_entries(&mut self, barriers: Barriers);
    /// Carry these out at the next entry, behind everything that concerns another guest or the core: of [`Barriers::AT_ENTRY`], and of those that
    /// the processor has.
    fn before_entry(&mut self, barriers: Barriers);
    /// Carry these out now: of [`Barriers::AT_COMPONENT`], and of those that the processor has.
    fn now(&mut self, barriers: Barriers);
    /// Forget translations of these tables, which are those of the guest with this processor, that this CPU remembers.
    fn flush(&mut self, vcpu: &mut Self::Vcpu, tables: &Self::Tables);
}

//! One CPU that can run guests.

use crate::{
    BadState, Barriers, Exit, Frames, GeneralRegisters, GuestMemory, Interrupted, NotCanonical, Tables, VcpuConfig,
    VcpuState,
};

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

/// One guest's processor. Its memory, all zeros, is a valid value that is not initialised yet.
pub trait Vcpu {
    /// The CPU that runs it.
    type Cpu: Backend<Vcpu = Self>;

    /// Set everything for a guest that starts at `entry` in 64-bit mode, CPL 0, all registers 0 but RDI, and
    /// RFLAGS.IF, which means nothing to it, set.
    ///
    /// # Errors
    /// [`Backend::Error`] when the CPU refuses; the processor is then as before `init`.
    ///
    /// # Safety
    /// Until [`Vcpu::release`]: `self` stays where it is, the frame is used by nobody else, and the tables live.
    unsafe fn init(
        &mut self,
        cpu: &mut Self::Cpu,
        config: &VcpuConfig<'_, <Self::Cpu as Backend>::Tables>,
    ) -> Result<(), <Self::Cpu as Backend>::Error>;
    /// The guest's general registers.
    fn registers(&mut self) -> &mut GeneralRegisters;
    /// Enter, for at most `ticks` of the TSC where [`Backend::ENDS_QUANTUM`]; return why it came back. Interrupts are off.
    fn run(&mut self, cpu: &mut Self::Cpu, ticks: u64) -> Exit;
    /// What an [`Exit::Exception`] or [`Exit::Refused`] of [`Vcpu::run`] turns out to be when one looks at the instruction.
    /// CPUs of different makers do different things with the same instruction; behind this call they do the same. To be
    /// called before anything else is done about such an exit.
    #[inline]
    fn interpret(&mut self, cpu: &mut Self::Cpu, exit: Exit, memory: &impl GuestMemory) -> Exit {
        let _ = (cpu, memory);
        exit
    }
    /// Where the guest is.
    fn position(&self, cpu: &mut Self::Cpu) -> Interrupted;
    /// Let the guest go on elsewhere. Of the flags only what [`Interrupted::rflags`] names is taken.
    ///
    /// # Errors
    /// [`NotCanonical`] when `rip` is no address; nothing has changed. (An IRET there would raise #GP.)
    fn set_position(&mut self, cpu: &mut Self::Cpu, position: &Interrupted) -> Result<(), NotCanonical>;
    /// Let the guest go on behind the instruction that made it exit.
    fn skip_instruction(&mut self, cpu: &mut Self::Cpu);
    /// Put all that the guest's processor holds into `to`. `tsc` is the TSC now, the core's.
    fn export(&mut self, cpu: &mut Self::Cpu, tsc: u64, to: &mut VcpuState);
    /// Let the guest go on from a state, which anybody may have written; its TSC goes on as it did.
    ///
    /// # Errors
    /// [`BadState`]; nothing has changed. What a processor finds out only when it enters the guest, as a CR3 beyond its physical addresses,
    /// is a failure of that entry.
    fn import(&mut self, cpu: &mut Self::Cpu, from: &VcpuState) -> Result<(), BadState>;
    /// Bus locks that the guest has taken since its start, where the CPU says so: accesses that keep all other CPUs and devices from memory for a while.
    fn bus_locks(&self) -> u32;
    /// The guest does not run again: the CPU forgets it, and no longer uses its frames.
    fn release(&mut self, cpu: &mut Self::Cpu);
}

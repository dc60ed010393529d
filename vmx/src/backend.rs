//! What the core needs of the machine to run guests: the traits that its run loop is written against.
//!
//! One value of a [`Backend`] exists per CPU. A [`Vcpu`] lies in place in a frame of its own and is entered on that CPU;
//! nested page tables are [`Tables`]. [`crate::Vtx`] is the backend for VT-x; one for AMD SVM can stand beside it.

use crate::Error;
pub use abi::guest::Interrupted;
pub use abi::pager::Access;

/// The guest's general registers as the entry and exit assembly stores them; RIP, RSP and RFLAGS are in [`Interrupted`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The registers' names say it.
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// Why a guest stopped running. The same for every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `vmcall`; see [`abi::guest::hypercall`]. RIP is still at the instruction: [`Vcpu::skip_instruction`].
    Hypercall,
    /// `hlt`. RIP is still at the instruction.
    Halt,
    /// The nested page tables do not allow an access.
    MemoryFault {
        /// Guest-physical address.
        address: u64,
        /// What was tried. A walk of the guest's own page tables counts as a write where the CPU says so.
        access: Access,
        /// A page is mapped there, with fewer rights.
        present: bool,
    },
    /// An external interrupt, already acknowledged: the core has to serve `vector` as if it had come through its IDT.
    Interrupt {
        /// Its vector.
        vector: u8,
    },
    /// A non-maskable interrupt. Further ones are blocked until the next IRET of the core.
    Nmi,
    /// A machine check while the guest ran.
    MachineCheck,
    /// The ticks given to [`Vcpu::run`] are over.
    QuantumEnd,
    /// The guest raised an exception. RIP is what would be on the exception frame: at the instruction for faults, behind
    /// it for `int3`, `into` and `icebp`.
    Exception {
        /// SDM vol. 3, table 6-1.
        vector: u8,
        /// Its error code, 0 for a vector without one.
        error_code: u32,
        /// Linear address of a page fault (what CR2 would be), else 0.
        address: u64,
    },
    /// An instruction that the virtual architecture does not have. RIP is still at it.
    Refused {
        /// [`abi::guest::refused`].
        class: u32,
        /// Number of the MSR or port, leaf of CPUID; otherwise the exit qualification.
        detail: u64,
    },
    /// The guest shut down.
    TripleFault,
    /// The guest could not be entered; nothing of it ran. Entering it again fails again.
    EntryFailure {
        /// See `vmx::exit::entry_failure`.
        error: u32,
        /// The exit qualification where there is one.
        detail: u64,
    },
    /// The machine gave a reason that this backend never asks for.
    Unknown {
        /// The machine's number for it.
        reason: u32,
        /// The exit qualification.
        detail: u64,
    },
}

/// What a page may be used for. It can always be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// It can be written.
    pub write: bool,
    /// Instructions can be fetched from it.
    pub execute: bool,
}

impl Rights {
    /// Read only.
    pub const READ: Rights = Rights { write: false, execute: false };
    /// Read and execute.
    pub const READ_EXECUTE: Rights = Rights { write: false, execute: true };
    /// Read and write.
    pub const READ_WRITE: Rights = Rights { write: true, execute: false };
    /// Everything.
    pub const ALL: Rights = Rights { write: true, execute: true };
}

/// Whether CPUs can still hold a translation that is no longer in the tables.
#[must_use = "a stale translation lets the guest use a frame that is no longer its own"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// They cannot.
    Unneeded,
    /// [`Backend::flush`] before the guest runs again, and before the frame gets a new owner.
    Needed,
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// There is no frame for a page table. Nothing has changed.
    NoFrame,
    /// An address is not a multiple of 4096, or beyond what the tables reach.
    BadAddress,
}

/// What the tables say about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the frame.
    pub frame: u64,
    /// What the guest may do.
    pub rights: Rights,
    /// The guest has used it. Always set on a CPU that does not track it.
    pub accessed: bool,
    /// The guest has written to it. Always set for a writable page on a CPU that does not track it.
    pub dirty: bool,
}

/// Where page tables live.
///
/// # Safety
/// `table` gives access to the frame of that physical address, for every address that `allocate` has returned and that
/// was not freed since; nobody else uses that frame. A frame from `allocate` holds zeros.
pub unsafe trait Frames {
    /// A zeroed frame for a page table: its physical address, a multiple of 4096 below 2^52.
    fn allocate(&mut self) -> Option<u64>;
    /// Take a frame back.
    fn free(&mut self, physical: u64);
    /// The frame at `physical`, which came from `allocate`.
    fn table(&self, physical: u64) -> &[core::sync::atomic::AtomicU64; 512];
}

/// The nested page tables of one VM: guest-physical to physical, in pages of 4 KiB, cached write-back.
pub trait Tables: Sized {
    /// Map the page at `page` (guest-physical) to the frame at `frame` (physical). What was mapped there is replaced.
    ///
    /// # Safety
    /// The guest may use the frame in this way until the page is unmapped, mapped elsewhere or protected, and flushed.
    unsafe fn map<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<Flush, MapError>;
    /// As [`Tables::map`], unless something is mapped at `page`: then nothing changes, and the answer is false.
    ///
    /// # Safety
    /// As [`Tables::map`].
    unsafe fn map_new<F: Frames>(
        &mut self,
        frames: &mut F,
        page: u64,
        frame: u64,
        rights: Rights,
    ) -> Result<bool, MapError>;
    /// Unmap the page at `page`. Returns what was mapped, with its accessed and dirty bits; if anything was, the tables
    /// have to be flushed ([`Flush::Needed`]).
    #[must_use]
    fn unmap<F: Frames>(&mut self, frames: &F, page: u64) -> Option<Translation>;
    /// Change the rights of the mapped page at `page`; `None` when nothing is mapped there.
    #[must_use]
    fn protect<F: Frames>(&mut self, frames: &F, page: u64, rights: Rights) -> Option<Flush>;
    /// What is mapped at the guest-physical `address`.
    fn walk<F: Frames>(&self, frames: &F, address: u64) -> Option<Translation>;
    /// Frames that the tables take, their root included.
    fn table_pages(&self) -> u32;
    /// Give all frames of the tables back (not those that were mapped). The VM's `Vcpu` has been released, and the tables
    /// are flushed before the frames are used again.
    fn free<F: Frames>(self, frames: &mut F);
}

/// The virtualization of one CPU: a value exists while it is switched on.
pub trait Backend: Sized {
    /// A guest's processor.
    type Vcpu: Vcpu<Cpu = Self>;
    /// Its nested page tables.
    type Tables: Tables;

    /// Empty tables, or `None` when there is no frame for the root.
    fn new_tables<F: Frames>(&self, frames: &mut F) -> Option<Self::Tables>;
    /// Forget translations of these tables that this CPU remembers.
    fn flush(&mut self, tables: &Self::Tables);
}

/// What a guest's processor starts with.
#[derive(Debug)]
pub struct VcpuConfig<'a, T> {
    /// Physical address of the frame for the machine's control structure.
    pub frame: u64,
    /// The same frame, mapped.
    pub frame_pointer: core::ptr::NonNull<u8>,
    /// The VM's slot; no two VMs that live have the same.
    pub slot: u16,
    /// Its nested page tables.
    pub tables: &'a T,
    /// First instruction (linear = guest-physical).
    pub entry: u64,
    /// Guest-physical address of its top page table.
    pub page_tables: u64,
    /// RDI at the start.
    pub argument: u64,
    /// Guest's TSC = TSC + this (modulo 2^64).
    pub tsc_offset: u64,
}

/// The address is no linear address that the guest could ever execute at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCanonical(pub u64);

/// Ways to spoil a guest so that the next entry fails, for the tests of that path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The guest's state is invalid (RFLAGS bit 1 clear).
    GuestState,
    /// The controls contradict each other (an address space tag of 0).
    Controls,
    /// The host's state is invalid (no task register).
    HostState,
}

/// One guest's processor. Its memory, all zeros, is a valid value that is not initialised yet.
pub trait Vcpu {
    /// The CPU that runs it.
    type Cpu: Backend<Vcpu = Self>;

    /// Set everything for a guest that starts at `entry` in 64-bit mode, CPL 0, all registers 0 but RDI, and
    /// RFLAGS.IF, which means nothing to it, set.
    ///
    /// # Errors
    /// [`Error::Field`] or [`Error::Instruction`] when the CPU refuses; the processor is then as before `init`.
    ///
    /// # Safety
    /// Until [`Vcpu::release`]: `self` stays where it is, the frame is used by nobody else, and the tables live.
    unsafe fn init(
        &mut self,
        cpu: &mut Self::Cpu,
        config: &VcpuConfig<'_, <Self::Cpu as Backend>::Tables>,
    ) -> Result<(), Error>;
    /// The guest's general registers.
    fn registers(&mut self) -> &mut Registers;
    /// Enter, for at most `ticks` of the TSC; return why it came back. Interrupts are off.
    fn run(&mut self, cpu: &mut Self::Cpu, ticks: u64) -> Exit;
    /// Where the guest is.
    fn position(&self, cpu: &mut Self::Cpu) -> Interrupted;
    /// Let the guest go on elsewhere. Of the flags only what [`Interrupted::rflags`] names is taken.
    ///
    /// # Errors
    /// [`NotCanonical`] when `rip` is no address; nothing has changed. (An IRET there would raise #GP.)
    fn set_position(&mut self, cpu: &mut Self::Cpu, position: &Interrupted) -> Result<(), NotCanonical>;
    /// Let the guest go on behind the instruction that made it exit.
    fn skip_instruction(&mut self, cpu: &mut Self::Cpu);
    /// Make the next entry fail. For tests.
    fn corrupt(&mut self, cpu: &mut Self::Cpu, how: Corruption);
    /// The guest does not run again: the CPU forgets it, and no longer uses its frames.
    fn release(&mut self, cpu: &mut Self::Cpu);
}

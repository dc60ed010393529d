//! Why a guest stopped running.

use crate::Access;

/// Why a guest stopped running. The same for every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `vmcall`; see [`abi::guest::hypercall`]. RIP is still at the instruction: [`crate::Vcpu::skip_instruction`].
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
    /// An external interrupt waits: it comes as soon as the core lets interrupts in.
    InterruptPending,
    /// The backend has served the exit: the guest can be entered again at once.
    Served,
    /// A non-maskable interrupt. Further ones are blocked until the next IRET of the core.
    Nmi,
    /// A machine check while the guest ran.
    MachineCheck,
    /// The ticks given to [`crate::Vcpu::run`] are over.
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
        /// Number of the MSR or port, leaf of CPUID; otherwise what the CPU says of the exit.
        detail: u64,
    },
    /// The guest shut down.
    TripleFault,
    /// The guest could not be entered; nothing of it ran. Entering it again fails again.
    EntryFailure {
        /// The machine's number for it. VT-x: with bit 31, an exit reason (SDM vol. 3, 27.8; 33: guest state, 34: MSRs); without, a
        /// VM-instruction error (SDM vol. 3, 31.4; 7: controls, 8: host state); 0 when no VMCS was loaded. SVM: see `svm::exit`.
        error: u32,
        /// What else the CPU says, where it does.
        detail: u64,
    },
    /// The machine gave a reason that this backend never asks for.
    Unknown {
        /// The machine's number for it.
        reason: u32,
        /// What else the CPU says.
        detail: u64,
    },
}

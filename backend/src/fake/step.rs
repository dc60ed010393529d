//! What a scripted guest does.

use crate::Access;

/// One thing that a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It computes for so many ticks.
    Compute(u64),
    /// It touches a page, again and again until it may.
    Touch {
        /// Guest page number.
        page: u32,
        /// How.
        access: Access,
    },
    /// It writes a word, again and again until it may.
    Poke {
        /// Guest-physical address, a multiple of 8.
        address: u64,
        /// What it writes.
        value: u64,
    },
    /// It writes its RAX, which is what its last hypercall returned, again and again until it may.
    Store {
        /// Guest-physical address, a multiple of 8.
        address: u64,
    },
    /// `vmcall`.
    Hypercall {
        /// RAX.
        number: u64,
        /// RDI.
        a: u64,
        /// RSI.
        b: u64,
    },
    /// `hlt`.
    Halt,
    /// It raises an exception.
    Exception {
        /// SDM vol. 3, table 6-1.
        vector: u8,
    },
    /// It executes what the virtual architecture does not have.
    Refused {
        /// [`abi::guest::refused`].
        class: u32,
    },
    /// It shuts down.
    TripleFault,
    /// The CPU refuses to enter it.
    EntryFailure,
    /// The CPU gives an exit that nobody asked for.
    Unknown,
    /// A non-maskable interrupt comes.
    Nmi,
    /// A machine check comes.
    MachineCheck,
    /// The backend serves an exit by itself.
    Served,
    /// It takes a bus lock.
    BusLock,
}

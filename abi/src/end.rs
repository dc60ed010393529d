//! Why a VM ended.

/// Reason for the end of a VM. The number travels in messages; the text is what the log and the monitor show.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It called exit; the detail is its code.
    Exited = 1,
    /// It was ended from outside (monitor, supervisor).
    Destroyed = 2,
    /// A fault for which it had no handler; the detail is the vector.
    UnhandledFault = 3,
    /// A fault while its fault handler ran; the detail is the vector.
    NestedFault = 4,
    /// It executed what the virtual architecture refuses, without a fault handler; the detail is the exit reason.
    RefusedInstruction = 5,
    /// It accessed an address beyond its memory, without a fault handler; the detail is the address.
    BadAddress = 6,
    /// Triple fault.
    TripleFault = 7,
    /// The processor refused to enter it; the detail is the VM-instruction error or the exit reason.
    EntryFailure = 8,
    /// An exit that the core does not know; the detail is the exit reason.
    UnknownExit = 9,
    /// It asked for more memory than was kept for it, and waited in vain for more to be free; or the pager refused it a page. The
    /// detail is the page.
    OutOfMemory = 10,
    /// Its upcall or fault entry or stack lies outside its memory; the detail is the address.
    BadUpcall = 11,
    /// Its image could not be started.
    BadImage = 12,
    /// The network demultiplexer has no place for its NIC.
    NoNetwork = 13,
    /// It accessed the page at address 0, without a fault handler; the detail is the address.
    NullPointer = 14,
    /// It accessed a hole of its image, without a fault handler; the detail is the address.
    GuardPage = 15,
    /// It wrote to what its image says is not writable, without a fault handler; the detail is the address.
    WroteReadOnly = 16,
    /// It executed what its image says is no code, without a fault handler; the detail is the address.
    ExecutedData = 17,
    /// Memory of its own is damaged, or the processor lost its state; the detail is the physical address, or 0.
    HardwareError = 18,
    /// Every control ring that there can be has another VM.
    NoControl = 19,
    /// It wrote into its control ring what cannot be.
    BadControlRing = 20,
    /// It asked for more memory than it may hold; the detail is the page.
    OverLimit = 21,
    /// What came back of its memory from the pool or the disks is not what went there; the detail is the page, or 0.
    Damaged = 22,
    /// It does not get its virtual disk; the detail is why ([`crate::disk_service::no_disk`]).
    NoDisk = 23,
    /// The disks did not give back what lies there of its memory.
    Unread = 24,
}

impl EndReason {
    /// The reason with this number.
    pub const fn from_raw(raw: u32) -> Option<EndReason> {
        Some(match raw {
            1 => Self::Exited,
            2 => Self::Destroyed,
            3 => Self::UnhandledFault,
            4 => Self::NestedFault,
            5 => Self::RefusedInstruction,
            6 => Self::BadAddress,
            7 => Self::TripleFault,
            8 => Self::EntryFailure,
            9 => Self::UnknownExit,
            10 => Self::OutOfMemory,
            11 => Self::BadUpcall,
            12 => Self::BadImage,
            13 => Self::NoNetwork,
            14 => Self::NullPointer,
            15 => Self::GuardPage,
            16 => Self::WroteReadOnly,
            17 => Self::ExecutedData,
            18 => Self::HardwareError,
            19 => Self::NoControl,
            20 => Self::BadControlRing,
            21 => Self::OverLimit,
            22 => Self::Damaged,
            23 => Self::NoDisk,
            24 => Self::Unread,
            _ => return None,
        })
    }

    /// What a log line says.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Destroyed => "destroyed",
            Self::UnhandledFault => "unhandled fault",
            Self::NestedFault => "fault in its fault handler",
            Self::RefusedInstruction => "refused instruction",
            Self::BadAddress => "address beyond its memory",
            Self::TripleFault => "triple fault",
            Self::EntryFailure => "entry failure",
            Self::UnknownExit => "unknown exit",
            Self::OutOfMemory => "out of memory",
            Self::BadUpcall => "bad upcall registration",
            Self::BadImage => "bad image",
            Self::NoNetwork => "refused by the network demultiplexer",
            Self::NullPointer => "null pointer",
            Self::GuardPage => "guard page touched (stack overflow?)",
            Self::WroteReadOnly => "write to code or constants",
            Self::ExecutedData => "execution of data",
            Self::HardwareError => "hardware error (its memory is damaged)",
            Self::NoControl => "no control ring left for it",
            Self::BadControlRing => "nonsense in its control ring",
            Self::OverLimit => "over its memory limit",
            Self::Damaged => "its memory came back damaged",
            Self::NoDisk => "without its virtual disk",
            Self::Unread => "its memory could not be read from the disks",
        }
    }
}

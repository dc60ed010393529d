//! Why a VM ended.

/// The reasons, each with its number and its text.
macro_rules! reasons {
    ($($(#[$doc:meta])* $number:literal $name:ident => $text:literal,)*) => {
        /// Reason for the end of a VM. The number travels in messages; the text is what the log and the monitor show.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EndReason {
            $($(#[$doc])* $name = $number,)*
        }

        impl EndReason {
            /// The reason with this number.
            pub const fn from_raw(raw: u32) -> Option<EndReason> {
                match raw {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What a log line says.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// It called exit; the detail is its code.
    1 Exited => "exited",
    /// It was ended from outside (monitor, supervisor).
    2 Destroyed => "destroyed",
    /// A fault for which it had no handler; the detail is the vector.
    3 UnhandledFault => "unhandled fault",
    /// A fault while its fault handler ran; the detail is the vector.
    4 NestedFault => "fault in its fault handler",
    /// It executed what the virtual architecture refuses, without a fault handler; the detail is the exit reason.
    5 RefusedInstruction => "refused instruction",
    /// It accessed an address beyond its memory, without a fault handler; the detail is the address.
    6 BadAddress => "address beyond its memory",
    /// Triple fault.
    7 TripleFault => "triple fault",
    /// The processor refused to enter it; the detail is the VM-instruction error or the exit reason.
    8 EntryFailure => "entry failure",
    /// An exit that the core does not know; the detail is the exit reason.
    9 UnknownExit => "unknown exit",
    /// It asked for more memory than was kept for it, and waited in vain for more to be free; or the pager refused it a page. The
    /// detail is the page.
    10 OutOfMemory => "out of memory",
    /// Its upcall or fault entry or stack lies outside its memory; the detail is the address.
    11 BadUpcall => "bad upcall registration",
    /// Its image could not be started.
    12 BadImage => "bad image",
    /// The network demultiplexer has no place for its NIC.
    13 NoNetwork => "refused by the network demultiplexer",
    /// It accessed the page at address 0, without a fault handler; the detail is the address.
    14 NullPointer => "null pointer",
    /// It accessed a hole of its image, without a fault handler; the detail is the address.
    15 GuardPage => "guard page touched (stack overflow?)",
    /// It wrote to what its image says is not writable, without a fault handler; the detail is the address.
    16 WroteReadOnly => "write to code or constants",
    /// It executed what its image says is no code, without a fault handler; the detail is the address.
    17 ExecutedData => "execution of data",
    /// Memory of its own is damaged, or the processor lost its state; the detail is the physical address, or 0.
    18 HardwareError => "hardware error (its memory is damaged)",
    /// Every control ring that there can be has another VM.
    19 NoControl => "no control ring left for it",
    /// It wrote into its control ring what cannot be.
    20 BadControlRing => "nonsense in its control ring",
    /// It asked for more memory than it may hold; the detail is the page.
    21 OverLimit => "over its memory limit",
    /// What came back of its memory from the pool or the disks is not what went there; the detail is the page, or 0.
    22 Damaged => "its memory came back damaged",
    /// It does not get its virtual disk; the detail is why ([`crate::disk_service::no_disk`]).
    23 NoDisk => "without its virtual disk",
    /// The disks did not give back what lies there of its memory.
    24 Unread => "its memory could not be read from the disks",
}

//! What the core has to say: one record for each message, with its numbers, and the text that whoever shows it makes of that. The core says a
//! value ([`Record`]) and never a text; the text is made here, once, for the log, for tests and for whoever reads records elsewhere.
//!
//! Lines of guests and of components are text that others wrote, and no records; nor is the message that the core ends with, which has to
//! come out when nothing else works any more.

// A record's text explains its fields.
#![allow(missing_docs)]

use crate::end::EndReason;
use crate::guest_control::MAX_CONTROL_VMS;
use crate::limits::Name;
use crate::message::BadMessage;
use crate::pci;
use crate::vm::{Slot, VmId};
use core::convert::Infallible;
use core::fmt;

/// How much a record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is not as it should be, or about to break.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What somebody who looks for a fault wants to know.
    Debug,
}

/// The records, each with its level and its text.
macro_rules! records {
    ($($(#[$doc:meta])* $level:ident $name:ident $({ $($field:ident: $of:ty),* })? => $text:literal $(, $value:expr)*;)*) => {
        /// Something that the core has to say.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Record {
            $($(#[$doc])* $name $({ $($field: $of),* })?,)*
        }

        impl Record {
            /// How much it matters.
            pub const fn level(&self) -> Level {
                match self {
                    $(Record::$name $({ $($field: _),* })? => Level::$level,)*
                }
            }
        }

        /// The line, without time, level and speaker.
        impl fmt::Display for Record {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Record::$name $({ $($field),* })? => write!(f, $text $(, $value)*),)*
                }
            }
        }
    };
}

records! {
    // The machine.
    Info Processors { processors: u32, timer: Timer, io_apics: u32 } => "{processors} processors, 1 used; {timer}; {io_apics} I/O APICs";
    Info CoreAudit { found: WxReport } => "{found}";
    Info ComponentAudit { name: Name, found: WxReport } => "{name}: {found}";
    Info Device { name: Name, address: pci::Address, delivery: Delivery } => "{name}: PCI {address}, {delivery}";
    Info BootEnded { given_back: u64, left: u64 } => "boot: {given_back} frames given back, {left} left";
    Warn SerialLost { lines: u32 } => "{lines} lines left out on the serial line: nobody read them";
    Info PoweredOff => "powered off";

    // Hardware that fails.
    Warn NoMachineChecks => "the processor has no machine checks: hardware that fails is not noticed";
    Warn EarlierError { error: HardwareError } => "a hardware error from before the start: {error}; look at the firmware's event log";
    Warn CorrectedError { error: HardwareError, count: u64 }
        => "the hardware has corrected an error ({error}); {count} since boot: when there are many, what they name is about to fail";
    Error ErrorInFreeMemory { error: HardwareError } => "hardware error in memory that nobody uses: {error}";
    Error ErrorInVm { slot: Slot, error: HardwareError } => "hardware error in the memory of the VM in slot {slot}: {error}";
    Warn Nmis { count: u64 }
        => "{count} non-maskable interrupts since boot: the firmware or a device reports a hardware error; look at its event log";
    Warn ApicError => "the local APIC reports an error";

    // Components.
    Info Started { name: Name, policy: Name } => "component {name} started with policy {policy}";
    Info Restarted { name: Name, policy: Name, start: u32 } => "component {name} restarted with policy {policy} (start {start})";
    Info GoesOn { name: Name, policy: Name, start: u32 } => "component {name} goes on with policy {policy} (start {start})";
    Debug Proved { name: Name, policy: Name } => "component {name}: policy {policy} is good";
    Warn GivenUp { name: Name, policy: Name, good: Name }
        => "component {name}: policy {policy} is given up, and {good} takes its place, the last good one";
    Warn StartDelayed { name: Name, delay_ms: u64 } => "component {name} dies again and again: next start in {delay_ms} ms";
    Warn Killed { name: Name, start: u32 } => "component {name} (start {start}) killed by request";
    Error Faulted { name: Name, vector: u8, error: u64, address: u64, registers: Registers }
        => "component {name} killed: fault {vector} (error {error:#x}, address {address:#x}), registers {registers:x?}";
    Error Exited { name: Name, code: u64 } => "component {name} ended itself with code {code}: its last lines say why";
    Error Overran { name: Name, ran_us: u64, budget_us: u32, rip: u64 }
        => "component {name} killed: it ran {ran_us} us without waiting, its budget is {budget_us} us (rip {rip:#x})";
    Error Spun { name: Name, ran_us: u64, budget_us: u32, rip: u64 }
        => "component {name} killed: it ran {ran_us} us and waited only for what is past, its budget is {budget_us} us (rip {rip:#x})";
    Error Slept { name: Name, bits: u64, rip: u64 }
        => "component {name} killed: it sleeps and does not take what it was rung for (bits {bits:#x}, rip {rip:#x})";
    Error LeftRingFull { name: Name, rip: u64 } => "component {name} killed: it does not empty its ring from the core (rip {rip:#x})";
    Error DetachTimeout { name: Name, vm: VmId, rip: u64 } => "component {name} killed: it does not let go of {vm}, which has ended (rip {rip:#x})";
    Error Nonsense { name: Name, bad: BadMessage } => "component {name} killed: on trial it sent a {bad}";
    Error Stalled { name: Name, rip: u64 } => "component {name} killed: on trial it did not do its work (rip {rip:#x})";
    Warn SentNonsense { name: Name, bad: BadMessage } => "{name} sent a {bad}; ignored";
    Warn Floods { name: Name } => "component {name} floods the log: its lines are limited";
    Warn NodeChosen { node: u32 }
        => "the network demultiplexer has not said which node this is: it is node {node}; say node=NUMBER to choose";

    // VMs.
    Error NotStarted { vm: VmId, why: BuildError } => "{vm} cannot be started: {why}";
    Error NoWindow { vm: VmId } => "{vm}: no frame for the demultiplexer's window; the VM runs without a NIC";
    Warn AdmittedLate { vm: VmId, waited_ms: u64 } => "{vm} is admitted by the core: the scheduler has left it waiting for {waited_ms} ms";
    Info Ended { vm: VmId, reason: EndReason, detail: u64, rip: u64, left_out: u32 }
        => "{vm} ended: {} (detail {detail:#x}, rip {rip:#x}; {left_out} such lines left out)", reason.text();
    /// Of its own console.
    Warn LinesLeftOut { vm: VmId, lines: u32 } => "{vm}: {lines} lines left out: it writes too many";

    // What cannot be.
    Error NoReset { name: Name } => "bug: a ring of {name} cannot be reset";
    Error NoTables { name: Name, policy: Name } => "bug: no tables for policy {policy} of {name}";
}

// It is said by value, and kept by value where many are.
const _: () = assert!(size_of::<Record>() <= 192);

impl Record {
    /// Who is named as the speaker.
    pub const fn target(&self) -> &'static str {
        match self {
            Record::PoweredOff => "foraker",
            Record::LinesLeftOut { .. } => "guest",
            _ => "core",
        }
    }
}

/// How the local APIC is reached, and what its timer can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// By MSRs, not by memory.
    pub x2apic: bool,
    /// It has the TSC deadline mode.
    pub deadline: bool,
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.x2apic { "x2APIC" } else { "xAPIC" };
        write!(f, "{mode}, {} timer", if self.deadline { "TSC deadline" } else { "one-shot" })
    }
}

/// How interrupts of a device come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Not at all.
    None,
    /// Through an I/O APIC.
    Intx,
    Msi,
    MsiX,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivery::None => "no interrupt",
            Delivery::Intx => "INTx",
            Delivery::Msi => "MSI",
            Delivery::MsiX => "MSI-X",
        })
    }
}

/// A component's registers: as [`Debug`] writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8_to_r15: [u64; 8],
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
}

/// An error that a bank of machine-check registers holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareError {
    pub bank: u8,
    /// IA32_MCi_STATUS.
    pub status: u64,
    /// IA32_MCi_ADDR, where there is one.
    pub address: Option<u64>,
}

impl fmt::Display for HardwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bank {}, status {:#x}", self.bank, self.status)?;
        self.address.map_or(Ok(()), |address| write!(f, ", address {address:#x}"))
    }
}

/// What a walk over page tables found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WxReport {
    /// Leaves that were looked at.
    pub leaves: u64,
    /// Leaves that are writable and executable.
    pub writable_executable: u64,
    /// Pages of the core's text and constants that another address makes writable.
    pub writable_aliases: u64,
    /// Leaves that are executable.
    pub executable: u64,
    /// Address of the first bad one.
    pub first_bad: Option<u64>,
}

impl WxReport {
    /// True when nothing bad was found.
    pub fn is_clean(&self) -> bool {
        self.first_bad.is_none() && self.writable_executable == 0 && self.writable_aliases == 0
    }
}

impl fmt::Display for WxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bad, leaves) = (self.writable_executable, self.leaves);
        write!(f, "W^X: {bad} of {leaves} leaf mappings are writable and executable")?;
        if self.writable_aliases > 0 {
            write!(f, ", {} pages of text or constants have a writable alias", self.writable_aliases)?;
        }
        self.first_bad.map_or(Ok(()), |at| write!(f, ", the first at {at:#x}"))
    }
}

/// What of a VM was being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Metadata,
    NestedTables,
    RegisterPage,
    PageTables,
    Nic,
    Control,
    Disk,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Metadata => "its metadata",
            Part::NestedTables => "its nested page tables",
            Part::RegisterPage => "its register page",
            Part::PageTables => "its first page tables",
            Part::Nic => "its NIC",
            Part::Control => "its control ring",
            Part::Disk => "its virtual disk",
        })
    }
}

/// Why a VM cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Its image is gone. (Images are never removed, so this would be a bug.)
    NoImage,
    /// No frame was free.
    NoFrame(Part),
    /// The page lies beyond the VM's memory, or is there already: the image asks for too little memory.
    NoPage(Part),
    /// Every control ring that there can be has another VM.
    NoControl,
    /// The processor refused what it was to start with.
    Processor(ProcessorError),
}

impl BuildError {
    /// The reason for which the VM ends.
    pub const fn reason(self) -> EndReason {
        match self {
            BuildError::NoFrame(_) => EndReason::OutOfMemory,
            BuildError::Processor(_) => EndReason::EntryFailure,
            BuildError::NoControl => EndReason::NoControl,
            BuildError::NoImage | BuildError::NoPage(_) => EndReason::BadImage,
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoImage => f.write_str("its image is gone"),
            BuildError::NoFrame(part) => write!(f, "no frame is free for {part}"),
            BuildError::NoPage(part) => write!(f, "its memory has no room for {part}"),
            BuildError::NoControl => {
                write!(f, "{MAX_CONTROL_VMS} VMs that control the machine live already; end one of them")
            }
            BuildError::Processor(error) => write!(f, "its processor cannot be set up: {error}"),
        }
    }
}

/// Why the CPU refused what a guest's processor was to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessorError {
    /// VT-x: these bits of a control register are wrong.
    FixedBits(u64),
    /// VT-x: a field of the VMCS, and the VM-instruction error (SDM vol. 3, appendix B and 31.4).
    Field { encoding: u32, error: u32 },
    /// VT-x: an instruction and the VM-instruction error.
    Instruction { name: Name, error: u32 },
    /// It does not say.
    Unknown,
}

impl fmt::Display for ProcessorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessorError::FixedBits(bits) => {
                write!(f, "VT-x does not allow the control registers that are needed: bits {bits:#x} are wrong")
            }
            ProcessorError::Field { encoding, error } => {
                write!(f, "the CPU refused VMCS field {encoding:#06x}: VM-instruction error {error}")
            }
            ProcessorError::Instruction { name, error } => write!(f, "{name} failed: VM-instruction error {error}"),
            ProcessorError::Unknown => f.write_str("the CPU does not say why"),
        }
    }
}

impl From<Infallible> for ProcessorError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

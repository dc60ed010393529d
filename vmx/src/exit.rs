//! From the CPU's exit reasons to [`Exit`]. Pure: what the VMCS says comes through [`Details`].

use crate::entry::FAILED;
use crate::fields::{ReadOnly32, ReadOnly64, ReadOnlyNatural};
use crate::vmcs::LoadedVmcs;
use abi::guest::refused;
use backend::{Access, Exit, GeneralRegisters};

/// Basic exit reasons (SDM vol. 3, appendix C).
#[allow(missing_docs)]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const CPUID: u32 = 10;
    pub const GETSEC: u32 = 11;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const RDPMC: u32 = 15;
    pub const RSM: u32 = 17;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMXON: u32 = 27;
    pub const CR_ACCESS: u32 = 28;
    pub const MOV_DR: u32 = 29;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const INVALID_GUEST_STATE: u32 = 33;
    pub const MWAIT: u32 = 36;
    pub const MONITOR: u32 = 39;
    pub const PAUSE: u32 = 40;
    pub const MACHINE_CHECK_IN_ENTRY: u32 = 41;
    pub const GDTR_OR_IDTR: u32 = 46;
    pub const LDTR_OR_TR: u32 = 47;
    pub const EPT_VIOLATION: u32 = 48;
    pub const INVEPT: u32 = 50;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const INVVPID: u32 = 53;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const VMFUNC: u32 = 59;
    pub const ENCLS: u32 = 60;
    pub const ENCLV: u32 = 70;
    pub const BUS_LOCK: u32 = 74;
    pub const SEAMCALL: u32 = 76;
    pub const TDCALL: u32 = 77;
}

/// Bit of the exit reason: the entry failed after the CPU had begun to load the guest's state.
const ENTRY_FAILED: u32 = 1 << 31;
/// Bit of the exit reason: the guest took a bus lock just before (SDM vol. 3, 25.9.1).
const TOOK_BUS_LOCK: u64 = 1 << 26;
/// VM-instruction errors (SDM vol. 3, 31.4) that only mean that the other of VMRESUME and VMLAUNCH was right.
const LAUNCH_OF_LAUNCHED: u32 = 4;
const RESUME_OF_CLEAR: u32 = 5;

/// What the VMCS knows about an exit.
pub trait Details {
    /// Exit qualification (SDM vol. 3, 28.2.1).
    fn qualification(&self) -> u64;
    /// Guest-physical address of an EPT violation.
    fn guest_physical(&self) -> u64;
    /// Interruption information, and its error code (SDM vol. 3, 25.9.2).
    fn interruption(&self) -> u32;
    /// See [`Details::interruption`].
    fn interruption_error(&self) -> u32;
    /// IDT-vectoring information, and its error code (SDM vol. 3, 25.9.3).
    fn vectoring(&self) -> u32;
    /// See [`Details::vectoring`].
    fn vectoring_error(&self) -> u32;
    /// VM-instruction error.
    fn instruction_error(&self) -> u32;
}

impl Details for LoadedVmcs<'_> {
    #[inline]
    fn qualification(&self) -> u64 {
        self.get(ReadOnlyNatural::Qualification)
    }
    #[inline]
    fn guest_physical(&self) -> u64 {
        self.get(ReadOnly64::GuestPhysicalAddress)
    }
    #[inline]
    fn interruption(&self) -> u32 {
        self.get(ReadOnly32::ExitInterruption)
    }
    fn interruption_error(&self) -> u32 {
        self.get(ReadOnly32::ExitInterruptionError)
    }
    fn vectoring(&self) -> u32 {
        self.get(ReadOnly32::IdtVectoring)
    }
    fn vectoring_error(&self) -> u32 {
        self.get(ReadOnly32::IdtVectoringError)
    }
    fn instruction_error(&self) -> u32 {
        self.get(ReadOnly32::InstructionError)
    }
}

/// What `enter` returned for the exit that has to be the cheapest; every other one goes to [`decode`].
pub(crate) const HYPERCALL: u64 = wide(reason::VMCALL);

const fn wide(reason: u32) -> u64 {
    // Widening only; `u64::from` is not const.
    #[allow(clippy::cast_lossless)]
    {
        reason as u64
    }
}

/// The reason without the bit that says that the guest took a bus lock, and whether it did: beside another exit, or as the only reason.
#[inline]
pub fn bus_lock(raw: u64) -> (u64, bool) {
    const BUS_LOCK: u64 = wide(reason::BUS_LOCK);
    let rest = raw & !TOOK_BUS_LOCK;
    (rest, rest != raw || rest == BUS_LOCK)
}

/// The exit whose reason is `raw`, what `enter` returned. The flag says that RIP has to be moved behind the instruction.
/// The frequent ones come first.
#[inline]
pub fn decode(raw: u64, resume_error: u64, details: &impl Details, registers: &GeneralRegisters) -> (Exit, bool) {
    const EPT_VIOLATION: u64 = wide(reason::EPT_VIOLATION);
    const EXTERNAL_INTERRUPT: u64 = wide(reason::EXTERNAL_INTERRUPT);
    const PREEMPTION_TIMER: u64 = wide(reason::PREEMPTION_TIMER);
    const HLT: u64 = wide(reason::HLT);
    let exit = match raw {
        HYPERCALL => Exit::Hypercall,
        EPT_VIOLATION => memory_fault(details.qualification(), details.guest_physical()),
        EXTERNAL_INTERRUPT => Exit::Interrupt { vector: vector(details.interruption()) },
        PREEMPTION_TIMER => Exit::QuantumEnd,
        HLT => Exit::Halt,
        _ => return decode_rare(raw, resume_error, details, registers),
    };
    (exit, false)
}

/// Bits 7..0 of interruption information.
#[inline]
fn vector(information: u32) -> u8 {
    // They are meant to be cut out.
    #[allow(clippy::cast_possible_truncation)]
    {
        information as u8
    }
}

/// An EPT violation (SDM vol. 3, table 28-7). With accessed and dirty bits a walk of guest page tables sets the bits of
/// a read and of a write.
#[inline]
fn memory_fault(qualification: u64, address: u64) -> Exit {
    let access = if qualification & 1 << 2 != 0 {
        Access::Execute
    } else if qualification & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    };
    Exit::MemoryFault { address, access, present: qualification & 7 << 3 != 0 }
}

/// Kinds of events in interruption information, bits 10..8.
mod event {
    pub(super) const NMI: u32 = 2;
    pub(super) const HARDWARE_EXCEPTION: u32 = 3;
    pub(super) const PRIVILEGED_SOFTWARE_EXCEPTION: u32 = 5;
    pub(super) const SOFTWARE_EXCEPTION: u32 = 6;
}
const VALID: u32 = 1 << 31;
const HAS_ERROR_CODE: u32 = 1 << 11;

/// An exception as its own instruction raised it, with RIP still at the instruction: `int3`, `into`, `icebp`. On a frame
/// RIP would be behind it.
fn is_software_exception(information: u32) -> bool {
    let kind = information >> 8 & 7;
    information & VALID != 0 && (kind == event::SOFTWARE_EXCEPTION || kind == event::PRIVILEGED_SOFTWARE_EXCEPTION)
}

#[cold]
#[inline(never)]
fn decode_rare(raw: u64, resume_error: u64, details: &impl Details, registers: &GeneralRegisters) -> (Exit, bool) {
    if raw & FAILED != 0 {
        return (failed(raw, resume_error, details), false);
    }
    // `FAILED` is the only bit beyond 32 that there is.
    let raw = u32::try_from(raw).unwrap_or(u32::MAX);
    if raw == ENTRY_FAILED | reason::MACHINE_CHECK_IN_ENTRY {
        return (Exit::MachineCheck, false);
    }
    if raw & ENTRY_FAILED != 0 {
        return (Exit::EntryFailure { error: raw, detail: details.qualification() }, false);
    }
    // Bits 15..0 are the basic reason; the others do not occur with the controls that are set.
    let basic = raw & 0xffff;
    if basic == reason::EXCEPTION_OR_NMI {
        return exception(details);
    }
    let class = match basic {
        reason::TRIPLE_FAULT => return (Exit::TripleFault, false),
        // It has been taken and counted; RIP is behind the instruction.
        reason::BUS_LOCK => return (Exit::Served, false),
        reason::CPUID => return (Exit::Refused { class: refused::CPUID, detail: registers.rax & 0xffff_ffff }, false),
        reason::RDMSR | reason::WRMSR => {
            return (Exit::Refused { class: refused::MSR, detail: registers.rcx & 0xffff_ffff }, false);
        }
        reason::IO => refused::PORT,
        reason::CR_ACCESS | reason::XSETBV => refused::CONTROL,
        reason::GDTR_OR_IDTR | reason::LDTR_OR_TR => refused::DESCRIPTOR,
        reason::MOV_DR => refused::DEBUG,
        reason::INVD
        | reason::WBINVD
        | reason::RDPMC
        | reason::RSM
        | reason::MWAIT
        | reason::MONITOR
        | reason::PAUSE => refused::OTHER,
        reason::VMCLEAR..=reason::VMXON
        | reason::GETSEC
        | reason::INVEPT
        | reason::INVVPID
        | reason::VMFUNC
        | reason::ENCLS
        | reason::ENCLV
        | reason::SEAMCALL
        | reason::TDCALL => refused::VIRTUALIZATION,
        _ => return (Exit::Unknown { reason: raw, detail: details.qualification() }, false),
    };
    (Exit::Refused { class, detail: details.qualification() }, false)
}

fn exception(details: &impl Details) -> (Exit, bool) {
    let information = details.interruption();
    let kind = information >> 8 & 7;
    if kind == event::NMI {
        return (Exit::Nmi, false);
    }
    // An exit while an exception was being delivered: the first exception is what happened. (Guests have no IDT, and
    // all exceptions exit, so the CPU delivers none; INT n is no exception, and its #GP is what the guest has to see.)
    let original = details.vectoring();
    let original_kind = original >> 8 & 7;
    let (information, error_code) =
        if original & VALID != 0 && (original_kind == event::HARDWARE_EXCEPTION || is_software_exception(original)) {
            (original, if original & HAS_ERROR_CODE != 0 { details.vectoring_error() } else { 0 })
        } else {
            (information, if information & HAS_ERROR_CODE != 0 { details.interruption_error() } else { 0 })
        };
    match vector(information) {
        18 => (Exit::MachineCheck, false),
        vector => {
            let address = if vector == 14 { details.qualification() } else { 0 };
            (Exit::Exception { vector, error_code, address }, is_software_exception(information))
        }
    }
}

#[cold]
fn failed(raw: u64, resume_error: u64, details: &impl Details) -> Exit {
    if raw & 1 != 0 {
        return Exit::EntryFailure { error: 0, detail: 0 };
    }
    let launch = details.instruction_error();
    let resume = u32::try_from(resume_error).unwrap_or(0);
    // A launched VMCS: VMRESUME was the right one, VMLAUNCH could only complain that it was not.
    let error = if launch == LAUNCH_OF_LAUNCHED && resume != RESUME_OF_CLEAR { resume } else { launch };
    Exit::EntryFailure { error, detail: 0 }
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;

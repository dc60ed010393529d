//! From the CPU's exit codes to [`Exit`]. Pure.

use crate::vmcb::Control;
use abi::guest::refused;
use backend::{Access, Exit, GeneralRegisters};

/// Exit codes (APM vol. 2, appendix C).
#[allow(missing_docs)]
pub mod code {
    pub const READ_CR0: u64 = 0x00;
    pub const WRITE_CR0: u64 = 0x10;
    pub const WRITE_CR4: u64 = 0x14;
    pub const WRITE_CR15: u64 = 0x1f;
    pub const READ_DR0: u64 = 0x20;
    pub const WRITE_DR15: u64 = 0x3f;
    pub const EXCEPTION: u64 = 0x40;
    pub const INVALID_OPCODE: u64 = EXCEPTION + 6;
    pub const LAST_EXCEPTION: u64 = 0x5f;
    pub const INTR: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const IDTR_READ: u64 = 0x66;
    pub const TR_WRITE: u64 = 0x6d;
    pub const RDPMC: u64 = 0x6f;
    pub const CPUID: u64 = 0x72;
    pub const INVD: u64 = 0x76;
    pub const HLT: u64 = 0x78;
    pub const INVLPGA: u64 = 0x7a;
    pub const IOIO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const VMLOAD: u64 = 0x82;
    pub const SKINIT: u64 = 0x86;
    pub const RDTSCP: u64 = 0x87;
    pub const ICEBP: u64 = 0x88;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT: u64 = 0x8b;
    pub const XSETBV: u64 = 0x8d;
    pub const RDPRU: u64 = 0x8e;
    pub const INVPCID: u64 = 0xa2;
    pub const MCOMMIT: u64 = 0xa3;
    pub const BUS_LOCK: u64 = 0xa5;
    pub const NESTED_PAGE_FAULT: u64 = 0x400;
    pub const INVALID: u64 = u64::MAX;
    /// What emulated CPUs make of [`INVALID`].
    pub const INVALID_32: u64 = 0xffff_ffff;
}

/// [`Exit::EntryFailure`]'s error: the CPU found guest state or controls invalid (VMEXIT_INVALID).
pub const ERROR_INVALID: u32 = u32::MAX;
/// [`Exit::EntryFailure`]'s error: the processor was not initialised, or was moved.
pub const ERROR_NO_VMCB: u32 = 0;

const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
const INVALID_OPCODE: u8 = 6;
const PAGE_FAULT: u8 = 14;
const MACHINE_CHECK: u8 = 18;

/// Bits of an event (APM vol. 2, 15.20).
const EVENT_VALID: u64 = 1 << 31;
const EVENT_HAS_ERROR: u64 = 1 << 11;
/// Kinds of events, bits 10..8.
const KIND_EXCEPTION: u64 = 3;
const KIND_SOFTWARE: u64 = 4;

/// The exit that `control` describes. The flag says that RIP has to be moved behind the instruction, because a frame for
/// this exception would have it there.
#[inline]
pub fn decode(control: &Control, registers: &GeneralRegisters) -> (Exit, bool) {
    let exit = match control.exit_code {
        code::NESTED_PAGE_FAULT => memory_fault(control.exit_info_1, control.exit_info_2),
        code::INTR => Exit::InterruptPending,
        code::HLT => Exit::Halt,
        _ => return decode_rare(control, registers),
    };
    (exit, false)
}

/// A nested page fault (APM vol. 2, 15.25.6): the error code is that of a page fault.
#[inline]
fn memory_fault(error: u64, address: u64) -> Exit {
    let access = if error & 1 << 4 != 0 {
        Access::Execute
    } else if error & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    };
    Exit::MemoryFault { address, access, present: error & 1 != 0 }
}

#[cold]
#[inline(never)]
fn decode_rare(control: &Control, registers: &GeneralRegisters) -> (Exit, bool) {
    let detail = control.exit_info_1;
    let class = match control.exit_code {
        code::EXCEPTION..=code::LAST_EXCEPTION => return exception(control),
        code::NMI => return (Exit::Nmi, false),
        // The backend has counted it, and lets it pass.
        code::BUS_LOCK => return (Exit::Served, false),
        code::SHUTDOWN => return (Exit::TripleFault, false),
        code::INVALID | code::INVALID_32 => return (Exit::EntryFailure { error: ERROR_INVALID, detail }, false),
        code::ICEBP => return (Exit::Exception { vector: DEBUG, error_code: 0, address: 0 }, true),
        // The virtual architecture does not have these; that a guest can tell one maker's CPU from the other's by them is of
        // no use to anybody.
        code::VMMCALL | code::RDTSCP | code::RDPRU | code::INVPCID | code::MCOMMIT => {
            return (Exit::Exception { vector: INVALID_OPCODE, error_code: 0, address: 0 }, false);
        }
        code::CPUID => return (Exit::Refused { class: refused::CPUID, detail: registers.rax & 0xffff_ffff }, false),
        code::MSR => return (Exit::Refused { class: refused::MSR, detail: registers.rcx & 0xffff_ffff }, false),
        code::IOIO => return (Exit::Refused { class: refused::PORT, detail: detail >> 16 & 0xffff }, false),
        code::READ_CR0..=code::WRITE_CR15 | code::XSETBV => refused::CONTROL,
        code::READ_DR0..=code::WRITE_DR15 => refused::DEBUG,
        code::IDTR_READ..=code::TR_WRITE | code::TASK_SWITCH => refused::DESCRIPTOR,
        code::RDPMC | code::INVD | code::WBINVD | code::MONITOR | code::MWAIT => refused::OTHER,
        code::VMRUN | code::VMLOAD..=code::SKINIT | code::INVLPGA => refused::VIRTUALIZATION,
        unknown => return (Exit::Unknown { reason: u32::try_from(unknown).unwrap_or(u32::MAX), detail }, false),
    };
    (Exit::Refused { class, detail }, false)
}

/// Bits 31..0.
#[allow(clippy::cast_possible_truncation)] // They are meant to be cut out.
fn low(value: u64) -> u32 {
    value as u32
}

/// Bits 7..0.
#[allow(clippy::cast_possible_truncation)] // They are meant to be cut out.
fn byte(value: u64) -> u8 {
    value as u8
}

fn exception(control: &Control) -> (Exit, bool) {
    // An exit while an exception was being delivered: the first exception is what happened.
    let event = control.exit_interruption;
    let (vector, error_code) = if event & EVENT_VALID != 0 && event >> 8 & 7 == KIND_EXCEPTION {
        (byte(event), if event & EVENT_HAS_ERROR != 0 { low(event >> 32) } else { 0 })
    } else {
        let vector = byte(control.exit_code - code::EXCEPTION);
        (vector, if has_error_code(vector) { low(control.exit_info_1) } else { 0 })
    };
    match vector {
        MACHINE_CHECK => (Exit::MachineCheck, false),
        vector => {
            let address = if vector == PAGE_FAULT { control.exit_info_2 } else { 0 };
            // These two exit with RIP at the instruction (APM vol. 2, 15.12.4 and 15.12.5).
            (Exit::Exception { vector, error_code, address }, vector == BREAKPOINT || vector == OVERFLOW)
        }
    }
}

/// Exceptions that have an error code (APM vol. 2, table 8-1).
fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// The vector of the INT n that was being delivered, if it was one.
pub fn interrupted_software_interrupt(control: &Control) -> Option<u8> {
    let event = control.exit_interruption;
    (event & EVENT_VALID != 0 && event >> 8 & 7 == KIND_SOFTWARE).then(|| byte(event))
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;

//! What a fault means: most of them are a few well-known mistakes of the program, and are told as what they are.

use abi::guest::{FAULT_ADDRESS, FAULT_GUARD, FAULT_NULL, FAULT_REFUSED, FAULT_RIGHTS, FaultRecord, access};
use core::fmt;
use core::ops::RangeInclusive;

/// Code of a VM whose stack was too small.
pub(crate) const EXIT_STACK: u64 = 103;
/// Code of a VM that faulted: this plus the vector.
const EXIT_FAULT: u64 = 200;

/// A mistake of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The stack pointer has left the stack, or the guard below it was touched.
    StackOverflow,
    /// The page at address 0.
    Null(&'static str),
    /// Beyond the memory.
    Beyond(&'static str),
    /// Code or constants.
    ReadOnly,
    /// No code.
    NoCode,
    /// An instruction that no guest has, of this class.
    Refused,
    /// An exception of the processor.
    Exception,
}

/// A fault, and what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    kind: Kind,
    record: FaultRecord,
    stack_bytes: u64,
}

impl Fault {
    /// The fault of a program whose stack pointer is within `stack` as long as all is well.
    pub(crate) fn new(record: FaultRecord, stack: &RangeInclusive<u64>) -> Fault {
        let tried = match record.error_code {
            access::EXECUTE => "call or jump to",
            access::WRITE => "write to",
            _ => "read of",
        };
        let memory = matches!(record.vector, PAGE_FAULT | FAULT_ADDRESS..=FAULT_RIGHTS);
        let kind = match record.vector {
            FAULT_GUARD => Kind::StackOverflow,
            // What is larger than the guard lands below it, in code and constants or below address 0.
            _ if memory && !stack.contains(&record.at.rsp) => Kind::StackOverflow,
            FAULT_NULL => Kind::Null(tried),
            FAULT_ADDRESS => Kind::Beyond(tried),
            FAULT_RIGHTS if record.error_code == access::EXECUTE => Kind::NoCode,
            FAULT_RIGHTS => Kind::ReadOnly,
            FAULT_REFUSED => Kind::Refused,
            _ => Kind::Exception,
        };
        Fault { kind, record, stack_bytes: stack.end() - stack.start() }
    }

    /// The code that the VM ends with.
    pub(crate) fn code(&self) -> u64 {
        match self.kind {
            Kind::StackOverflow => EXIT_STACK,
            _ => EXIT_FAULT + u64::from(self.record.vector),
        }
    }
}

/// #PF.
const PAGE_FAULT: u32 = 14;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultRecord { at, vector, error_code, address } = self.record;
        match self.kind {
            Kind::StackOverflow => write!(f, "stack overflow: more than {} bytes", self.stack_bytes)?,
            Kind::Null(tried) => write!(f, "null pointer: {tried} address {address:#x}")?,
            Kind::Beyond(tried) => write!(f, "{tried} address {address:#x}, which lies beyond the memory")?,
            Kind::ReadOnly => write!(f, "write to code or constants at address {address:#x}")?,
            Kind::NoCode => write!(f, "call or jump into data at address {address:#x}")?,
            Kind::Refused => write!(f, "an instruction that guests do not have (class {error_code})")?,
            Kind::Exception => {
                write!(f, "fault {vector:#x} (error code {error_code:#x}, address {address:#x})")?;
            }
        }
        write!(f, "; instruction {:#x}, stack {:#x}", at.rip, at.rsp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::guest::Interrupted;
    use std::string::ToString;

    const STACK: RangeInclusive<u64> = 0x5_0000..=0x5_8000;

    fn fault(vector: u32, error_code: u32, address: u64, rsp: u64) -> (u64, std::string::String) {
        let at = Interrupted { rip: 0x2_1000, rsp, rflags: 2, rax: 0 };
        let fault = Fault::new(FaultRecord { at, vector, error_code, address }, &STACK);
        (fault.code(), fault.to_string())
    }

    #[test]
    fn each_mistake_is_told_as_what_it_is() {
        let rest = "; instruction 0x21000, stack 0x57f00";
        for (vector, error_code, address, code, text) in [
            (FAULT_NULL, access::READ, 8, 458, "null pointer: read of address 0x8"),
            (FAULT_NULL, access::WRITE, 0, 458, "null pointer: write to address 0x0"),
            (FAULT_NULL, access::EXECUTE, 0, 458, "null pointer: call or jump to address 0x0"),
            (FAULT_RIGHTS, access::WRITE, 0x2_0000, 460, "write to code or constants at address 0x20000"),
            (FAULT_RIGHTS, access::EXECUTE, 0x6_0000, 460, "call or jump into data at address 0x60000"),
            (FAULT_ADDRESS, access::READ, 1 << 24, 457, "read of address 0x1000000, which lies beyond the memory"),
            (FAULT_REFUSED, 1, 0, 456, "an instruction that guests do not have (class 1)"),
            (14, 2, 1 << 40, 214, "fault 0xe (error code 0x2, address 0x10000000000)"),
            (6, 0, 0, 206, "fault 0x6 (error code 0x0, address 0x0)"),
        ] {
            assert_eq!(fault(vector, error_code, address, 0x5_7f00), (code, text.to_string() + rest));
        }
    }

    #[test]
    fn a_stack_that_has_left_its_place_has_overflowed_wherever_it_landed() {
        for (vector, address, rsp) in [
            (FAULT_GUARD, 0x4_fff8, 0x5_0000),
            (FAULT_GUARD, 0x4_0000, 0x3_f000),
            (FAULT_RIGHTS, 0x2_0000, 0x2_0100),
            (FAULT_NULL, 0x100, 0x100),
            (14, u64::MAX - 4095, u64::MAX - 4095),
        ] {
            let (code, text) = fault(vector, access::WRITE, address, rsp);
            assert_eq!(code, EXIT_STACK);
            assert!(text.starts_with("stack overflow: more than 32768 bytes; instruction"), "{text}");
        }
        // An undefined instruction is one, wherever the stack is; and to use all of the stack is no mistake.
        assert_eq!(fault(6, 0, 0, 0).0, 206);
        assert_eq!(fault(FAULT_NULL, 0, 0, 0x5_0000).0, 458);
    }
}

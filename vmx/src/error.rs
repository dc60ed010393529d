//! Why this CPU refuses what is asked of it, or one guest.

use abi::limits::Name;
use abi::log::ProcessorError;
use core::fmt;

/// See the variants; [`fmt::Display`] says what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A control register cannot have the value that is needed.
    FixedBits {
        /// Which register, and whose.
        register: &'static str,
        /// The bits that are wrong.
        bits: u64,
    },
    /// The CPU refused a field of the VMCS.
    Field {
        /// Encoding (SDM vol. 3, appendix B).
        encoding: u32,
        /// VM-instruction error (SDM vol. 3, 31.4), 0 when no VMCS was loaded.
        error: u32,
    },
    /// A VMX instruction failed.
    Instruction {
        /// Its name.
        name: &'static str,
        /// VM-instruction error, 0 when there is none.
        error: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::FixedBits { register, bits } => {
                write!(f, "VT-x does not allow the {register} that is needed: bits {bits:#x} are wrong")
            }
            Error::Field { encoding, error } => {
                write!(f, "the CPU refused VMCS field {encoding:#06x}: VM-instruction error {error}")
            }
            Error::Instruction { name, error } => write!(f, "{name} failed: VM-instruction error {error}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Error> for ProcessorError {
    fn from(error: Error) -> Self {
        match error {
            Error::FixedBits { bits, .. } => ProcessorError::FixedBits(bits),
            Error::Field { encoding, error } => ProcessorError::Field { encoding, error },
            Error::Instruction { name, error } => {
                ProcessorError::Instruction { name: Name::new(name).unwrap_or(Name::EMPTY), error }
            }
        }
    }
}

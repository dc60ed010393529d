//! What the core knows of hardware that fails.

use crate::vm::NEVER;
use abi::vm::VmId;

/// What the core knows of hardware errors.
#[derive(Clone, Copy, Debug)]
pub struct HardwareErrors {
    /// TSC of the next look at the banks; [`NEVER`] where there are none.
    pub look_at: u64,
    /// The VM that a machine check interrupted, until the banks have been looked at.
    pub interrupted: Option<VmId>,
    /// Machine checks outside of guests that are known.
    pub survived: u64,
    /// Errors that the hardware corrected, since boot.
    pub corrected: u64,
}

impl HardwareErrors {
    /// A look is due at once, if there is anything to look at.
    pub fn new(banks: bool) -> Self {
        HardwareErrors { look_at: if banks { 0 } else { NEVER }, interrupted: None, survived: 0, corrected: 0 }
    }
}

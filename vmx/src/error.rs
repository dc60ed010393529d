//! Why this CPU, or one guest on it, cannot be used.

/// See the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The CPU refused a field of the VMCS: its encoding, and the VM-instruction error (SDM vol. 3, 31.4).
    Field {
        /// Encoding (SDM vol. 3, appendix B).
        encoding: u32,
        /// Number of the error, 0 when no VMCS was loaded.
        error: u32,
    },
    /// A VMX instruction failed.
    Instruction {
        /// Its name.
        name: &'static str,
        /// Number of the error, 0 when there is none.
        error: u32,
    },
}

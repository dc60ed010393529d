//! Where the linker script put the parts of the core's image.

/// Link addresses; all page-aligned but `load_start` physical and `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreImage {
    /// Physical address of the first byte, the 32-bit entry.
    pub load_start: u64,
    /// Text from here,
    pub text_start: u64,
    /// to here; constants from here,
    pub text_end: u64,
    /// to here; data, bss and stack from here,
    pub rodata_end: u64,
    /// The unmapped page below the stack.
    pub stack_guard: u64,
    /// First byte behind everything, the top of the stack.
    pub end: u64,
}

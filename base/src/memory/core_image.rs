//! Where the linker script put the parts of the core's image.

/// Linear addresses, all page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreImage {
    /// Physical address of the first byte.
    pub physical: u64,
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

impl CoreImage {
    /// Where the first byte is seen.
    pub const START: u64 = abi::boot::CORE_BASE;

    /// Physical address of what is seen at a linear address of the image.
    pub const fn physical_of(&self, address: u64) -> u64 {
        self.physical + (address - Self::START)
    }
}

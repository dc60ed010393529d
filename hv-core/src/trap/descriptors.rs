//! GDT and TSS (SDM vol. 3, sections 3.4.5 and 8.7).

use core::mem::offset_of;

/// Core code segment.
pub const CORE_CODE: u16 = 0x08;
/// Core data and stack segment.
pub const CORE_DATA: u16 = 0x10;
/// Component data and stack segment, with RPL 3. SYSRET wants it just below the code segment.
pub const USER_DATA: u16 = 0x18 | 3;
/// Component code segment, with RPL 3.
pub const USER_CODE: u16 = 0x20 | 3;
/// Task-state segment; its descriptor takes two entries.
pub const TSS: u16 = 0x28;
/// Entries of the GDT.
pub const GDT_ENTRIES: usize = 7;

/// Flat 64-bit segments: present, accessed, and for code: readable, long.
const CORE_CODE_DESC: u64 = 0x00af_9b00_0000_ffff;
const CORE_DATA_DESC: u64 = 0x00cf_9300_0000_ffff;
const USER_DATA_DESC: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE_DESC: u64 = 0x00af_fb00_0000_ffff;

/// 64-bit task-state segment.
#[repr(C, packed(4))]
pub struct TaskState {
    reserved0: u32,
    /// Stack pointers for a change to CPL 0..2.
    pub rsp: [u64; 3],
    reserved1: u64,
    /// Interrupt stack table: `ist[0]` is IST1.
    pub ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    /// Offset of the I/O bitmap; beyond the limit, so that every port access at CPL 3 faults.
    pub io_map: u16,
}

const _: () = {
    assert!(core::mem::size_of::<TaskState>() == 104);
    assert!(offset_of!(TaskState, rsp) == 4);
    assert!(offset_of!(TaskState, ist) == 36);
    assert!(offset_of!(TaskState, io_map) == 102);
};

impl TaskState {
    /// A TSS whose stacks are the given tops.
    pub const fn new(trap_stack: u64, ist: [u64; 7]) -> Self {
        TaskState { reserved0: 0, rsp: [trap_stack, 0, 0], reserved1: 0, ist, reserved2: 0, reserved3: 0, io_map: 104 }
    }
}

/// The GDT with the TSS at `tss`.
pub fn gdt(tss: u64) -> [u64; GDT_ENTRIES] {
    let limit = 103;
    // Available 64-bit TSS, present, DPL 0 (SDM vol. 3, figure 8-4).
    let low = limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    [0, CORE_CODE_DESC, CORE_DATA_DESC, USER_DATA_DESC, USER_CODE_DESC, low, tss >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tss_descriptor_holds_the_whole_base() {
        let gdt = gdt(0xffff_8123_4567_89ab);
        assert_eq!(gdt[5] >> 16 & 0xff_ffff | (gdt[5] >> 56) << 24 | gdt[6] << 32, 0xffff_8123_4567_89ab);
        assert_eq!(gdt[5] & 0xffff, 103);
    }
}

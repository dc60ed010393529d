//! The VMCB: what the CPU and the core tell each other about one guest (APM vol. 2, appendix B).

use crate::plan::Intercepts;
use core::mem::offset_of;

/// A segment register.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Bits 55..52 and 47..40 of a descriptor, put together.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

/// Control area: bytes 0 to 400h.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// What exits.
    pub intercepts: Intercepts,
    reserved_018: [u32; 9],
    /// PAUSE filter: not used.
    pub pause_filter: [u16; 2],
    /// Physical address of the I/O permission map.
    pub io_map: u64,
    /// Physical address of the MSR permission map.
    pub msr_map: u64,
    /// Guest's TSC = TSC + this.
    pub tsc_offset: u64,
    /// Address space tag.
    pub tag: u32,
    /// See [`tlb`].
    pub tlb_control: u32,
    /// See [`virtual_interrupt`].
    pub virtual_interrupt: u64,
    /// Bit 0: the guest is in an interrupt shadow.
    pub interrupt_shadow: u64,
    /// Why the guest stopped: `crate::exit::code`.
    pub exit_code: u64,
    /// What else the CPU says of it.
    pub exit_info_1: u64,
    /// See `exit_info_1`.
    pub exit_info_2: u64,
    /// The event that was being delivered.
    pub exit_interruption: u64,
    /// Bit 0: nested paging.
    pub nested_paging: u64,
    reserved_098: [u64; 2],
    /// An event to deliver: not used.
    pub event_injection: u64,
    /// Physical address of the top nested page table.
    pub nested_cr3: u64,
    /// Virtualization of last-branch records, of VMLOAD and VMSAVE: not used.
    pub branch_records: u64,
    /// Parts that have not changed since the last exit; see [`CLEAN`].
    pub clean: u32,
    reserved_0c4: u32,
    /// RIP of the next instruction, where the CPU saves it and there is one; else 0.
    pub next_rip: u64,
    reserved_0d0: [u64; 10],
    /// Bus locks that the guest may take until the next one exits (bits 15..0).
    pub bus_locks: u64,
    reserved_128: [u64; 91],
}

/// Values of [`Control::tlb_control`].
pub mod tlb {
    /// Keep everything.
    pub const KEEP: u32 = 0;
    /// Forget everything, of all tags.
    pub const FLUSH_ALL: u32 = 1;
}

/// Bits of [`Control::virtual_interrupt`].
pub mod virtual_interrupt {
    /// The guest's RFLAGS.IF and task priority have no say in physical interrupts (V_INTR_MASKING).
    pub const MASKING: u64 = 1 << 24;
}

/// All clean bits that there are (APM vol. 2, 15.15.3): bits 12..0.
pub const CLEAN: u32 = 0x1fff;

/// State save area: bytes 400h to 1000h.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs)] // The registers' names say it.
pub struct Save {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    reserved_0a0: [u8; 43],
    pub cpl: u8,
    reserved_0cc: u32,
    pub efer: u64,
    reserved_0d8: [u64; 14],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_180: [u64; 11],
    pub rsp: u64,
    reserved_1e0: [u64; 3],
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u64; 4],
    pub pat: u64,
    pub debug_control: u64,
    pub last_branch: [u64; 4],
    reserved_298: [u64; 301],
}

/// A VMCB. All zeros is a valid value, which cannot be entered.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Vmcb {
    /// Bytes 0 to 400h.
    pub control: Control,
    /// Bytes 400h to 1000h.
    pub save: Save,
}

const _: () = {
    assert!(size_of::<Segment>() == 16);
    assert!(offset_of!(Control, intercepts) == 0);
    assert!(size_of::<Intercepts>() == 0x18);
    assert!(offset_of!(Intercepts, cr_reads) == 0);
    assert!(offset_of!(Intercepts, cr_writes) == 2);
    assert!(offset_of!(Intercepts, dr_reads) == 4);
    assert!(offset_of!(Intercepts, dr_writes) == 6);
    assert!(offset_of!(Intercepts, exceptions) == 8);
    assert!(offset_of!(Intercepts, third) == 0xc);
    assert!(offset_of!(Intercepts, fourth) == 0x10);
    assert!(offset_of!(Intercepts, fifth) == 0x14);
    assert!(offset_of!(Control, bus_locks) == 0x120 && size_of::<Control>() == 0x400);
    assert!(offset_of!(Control, pause_filter) == 0x3c);
    assert!(offset_of!(Control, io_map) == 0x40);
    assert!(offset_of!(Control, msr_map) == 0x48);
    assert!(offset_of!(Control, tsc_offset) == 0x50);
    assert!(offset_of!(Control, tag) == 0x58);
    assert!(offset_of!(Control, tlb_control) == 0x5c);
    assert!(offset_of!(Control, virtual_interrupt) == 0x60);
    assert!(offset_of!(Control, interrupt_shadow) == 0x68);
    assert!(offset_of!(Control, exit_code) == 0x70);
    assert!(offset_of!(Control, exit_info_1) == 0x78);
    assert!(offset_of!(Control, exit_info_2) == 0x80);
    assert!(offset_of!(Control, exit_interruption) == 0x88);
    assert!(offset_of!(Control, nested_paging) == 0x90);
    assert!(offset_of!(Control, event_injection) == 0xa8);
    assert!(offset_of!(Control, nested_cr3) == 0xb0);
    assert!(offset_of!(Control, branch_records) == 0xb8);
    assert!(offset_of!(Control, clean) == 0xc0);
    assert!(offset_of!(Control, next_rip) == 0xc8);
    assert!(size_of::<Control>() == 0x400);
    assert!(offset_of!(Save, fs) == 0x40);
    assert!(offset_of!(Save, gdtr) == 0x60);
    assert!(offset_of!(Save, tr) == 0x90);
    assert!(offset_of!(Save, cpl) == 0xcb);
    assert!(offset_of!(Save, efer) == 0xd0);
    assert!(offset_of!(Save, cr4) == 0x148);
    assert!(offset_of!(Save, cr3) == 0x150);
    assert!(offset_of!(Save, cr0) == 0x158);
    assert!(offset_of!(Save, dr7) == 0x160);
    assert!(offset_of!(Save, dr6) == 0x168);
    assert!(offset_of!(Save, rflags) == 0x170);
    assert!(offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8);
    assert!(offset_of!(Save, rax) == 0x1f8);
    assert!(offset_of!(Save, star) == 0x200);
    assert!(offset_of!(Save, kernel_gs_base) == 0x220);
    assert!(offset_of!(Save, sysenter_cs) == 0x228);
    assert!(offset_of!(Save, cr2) == 0x240);
    assert!(offset_of!(Save, pat) == 0x268);
    assert!(offset_of!(Save, debug_control) == 0x270);
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(size_of::<Vmcb>() == 0x1000);
};

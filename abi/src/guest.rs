//! What a guest sees: the register page, hypercalls, upcalls and faults. `docs/virtual-architecture.md` explains them.

use crate::limits::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Guest-physical (and, identity-mapped, linear) address of the register page.
pub const REGISTER_PAGE: u64 = 0;
/// The two pages of the guest's first page tables: PML4, then PDPT with 1 GiB entries.
pub const PAGE_TABLES: u64 = 0x1000;
/// The NIC page, then the receive slots, then the transmit slots ([`crate::nic`]).
pub const NIC_BASE: u64 = 0x3000;
/// Lowest address at which an image may have a segment.
pub const IMAGE_BASE: u64 = 0x2_0000;

/// [`RegisterPage::magic`]: `"FORAKER1"` in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"FORAKER1");

/// Hypercalls: `vmcall` with the number in RAX and arguments in RDI, RSI. The result comes back in RAX; every other
/// register is preserved. A result of [`ERROR_MIN`] or more is an error.
pub mod hypercall {
    /// Does nothing. Returns [`crate::ABI_VERSION`].
    pub const NOP: u64 = 0;
    /// Sleep until an interrupt that [`super::RegisterPage::enabled`] selects is pending, or the guest's TSC reaches RDI
    /// (`u64::MAX`: no timeout; a deadline in the past: give up the rest of the quantum). Returns the pending mask.
    pub const IDLE: u64 = 1;
    /// End this VM with the code in RDI. Does not return.
    pub const EXIT: u64 = 2;
    /// Tell the server of the device in RDI ([`super::device`]) to look at its rings. Returns 0.
    pub const KICK: u64 = 3;
    /// Make [`super::pending::ALARM`] pending when the guest's TSC reaches RDI (`u64::MAX`: never). Returns 0.
    pub const ALARM: u64 = 4;
    /// Leave an upcall: RIP, RSP, RFLAGS and RAX are loaded from [`super::RegisterPage::upcall`], upcalls are enabled, and what
    /// is pending by then is delivered at once. Does not return to the caller.
    pub const UPCALL_RETURN: u64 = 5;
    /// Leave the fault handler: RIP, RSP, RFLAGS and RAX are loaded from [`super::RegisterPage::fault`]. Does not return to the caller.
    pub const FAULT_RETURN: u64 = 6;
    /// Give the RSI pages from the page number RDI back; they read as at the VM's start when they are touched again.
    /// Returns how many frames were freed.
    pub const GIVE_BACK: u64 = 7;
}

/// Results from here on are errors.
pub const ERROR_MIN: u64 = u64::MAX - 15;
/// There is no hypercall of that number.
pub const ERROR_UNKNOWN: u64 = u64::MAX;
/// An argument is out of range.
pub const ERROR_ARGUMENT: u64 = u64::MAX - 1;
/// Not in this state (for instance `FAULT_RETURN` outside a fault handler).
pub const ERROR_STATE: u64 = u64::MAX - 2;

/// Devices for `KICK`.
pub mod device {
    /// The virtual NIC.
    pub const NIC: u64 = 0;
    /// The console ring.
    pub const CONSOLE: u64 = 1;
}

/// Bits of [`RegisterPage::pending`] and [`RegisterPage::enabled`].
pub mod pending {
    /// The alarm, or the timeout of an idle, is due.
    pub const ALARM: u64 = 1 << 0;
    /// The NIC: something to receive, or space to transmit after the ring was full.
    pub const NIC: u64 = 1 << 1;
    /// The VM is asked to end itself.
    pub const SHUTDOWN: u64 = 1 << 2;
}

/// RIP, RSP, RFLAGS and RAX as they were when an upcall or a fault handler was entered, and as they are loaded on return.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Interrupted {
    /// Where the guest was.
    pub rip: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// Its flags. On return only the status flags, DF, TF, RF, AC and ID are taken.
    pub rflags: u64,
    /// Its RAX, which the hypercall to return needs for its number.
    pub rax: u64,
}

/// The fault that the handler is called for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FaultRecord {
    /// Where, and what to return to.
    pub at: Interrupted,
    /// x86 vector (SDM vol. 3, table 6-1), or [`FAULT_REFUSED`], or [`FAULT_ADDRESS`].
    pub vector: u32,
    /// Error code of the vector; for [`FAULT_REFUSED`] the number of the refused class ([`refused`]).
    pub error_code: u32,
    /// Linear address of a page fault; guest-physical address of [`FAULT_ADDRESS`]; else 0.
    pub address: u64,
}

/// The guest executed an instruction that the virtual architecture does not have.
pub const FAULT_REFUSED: u32 = 0x100;
/// The guest accessed a guest-physical address beyond its memory.
pub const FAULT_ADDRESS: u32 = 0x101;

/// Classes of refused instructions, the same on every backend.
pub mod refused {
    /// CPUID.
    pub const CPUID: u32 = 1;
    /// RDMSR or WRMSR.
    pub const MSR: u32 = 2;
    /// IN, OUT, INS, OUTS.
    pub const PORT: u32 = 3;
    /// MOV to CR0, CR4 or CR8 with a value that changes what the guest does not own; CLTS; LMSW; XSETBV.
    pub const CONTROL: u32 = 4;
    /// LGDT, LIDT, LLDT, LTR and their stores.
    pub const DESCRIPTOR: u32 = 5;
    /// MOV DR.
    pub const DEBUG: u32 = 6;
    /// MONITOR, MWAIT, RDPMC, INVD, WBINVD, PAUSE loops and the like.
    pub const OTHER: u32 = 7;
    /// A virtualization instruction: VMX, SVM, SGX ...
    pub const VIRTUALIZATION: u32 = 8;
}

/// The first page of a VM, shared with the core. The offsets are part of the virtual architecture.
#[repr(C)]
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RegisterPage {
    /// Nothing: a null pointer, and what is near it, never means a register.
    pub guard: [u8; 64],
    /// [`MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_VERSION`].
    pub abi_version: u32,
    _reserved0: u32,
    /// Bytes of memory, from address 0.
    pub memory_bytes: u64,
    /// Ticks of the TSC in a second ("CPU speed").
    pub tsc_hz: u64,
    /// Nanoseconds per tick as a 32.32 fixed-point number.
    pub ns_per_tick: u64,
    /// The guest's TSC when the creation of the VM began.
    pub start_tsc: u64,
    /// Unix time in nanoseconds at [`RegisterPage::start_tsc`].
    pub start_unix_ns: u64,
    /// Random; new at every start, clone and restore.
    pub generation_id: [u8; 16],
    /// Bytes of boot arguments at [`BOOT_ARGS`], ASCII.
    pub boot_args_len: u32,
    /// Slots of the console ring, whose header is at [`CONSOLE_RING`].
    pub console_slots: u32,
    /// Guest-physical address of the NIC page ([`crate::nic::NicPage`]), 0 without a NIC.
    pub nic_page: u64,
    /// [`crate::vm::VmId::raw`] of this VM.
    pub vm_id: u64,
    /// Written by the guest: address that an upcall enters, 0 for none.
    pub upcall_entry: u64,
    /// Written by the guest: RSP that an upcall starts with.
    pub upcall_stack: u64,
    /// Written by the guest: address that a fault enters, 0 for none.
    pub fault_entry: u64,
    /// Written by the guest: RSP that the fault handler starts with.
    pub fault_stack: u64,
    /// Written by the guest: bits of `pending` that end an idle and cause an upcall.
    pub enabled: u64,
    /// Written by both: 1 while upcalls may be delivered ("interrupt enable"). An upcall clears it.
    pub upcalls_on: u32,
    /// Written by the core: 1 from the entry into the fault handler until `FAULT_RETURN`.
    pub in_fault: u32,
    /// Set by the core, cleared by the guest with an atomic exchange or and: what has happened.
    pub pending: u64,
    /// Written by the core: the TSC at which the alarm is due, `u64::MAX` for never.
    pub alarm: u64,
    /// Written by the core when it delivers an upcall; taken by `UPCALL_RETURN`.
    pub upcall: Interrupted,
    /// Written by the core when it delivers a fault; taken by `FAULT_RETURN`.
    pub fault: FaultRecord,
}

/// Offset of the boot arguments in the register page.
pub const BOOT_ARGS: u64 = 1024;
/// Bytes of boot arguments at most.
pub const BOOT_ARGS_MAX: usize = 1024;
/// Offset of the console ring's header in the register page; its slots follow [`crate::ring::HEADER_BYTES`] later.
pub const CONSOLE_RING: u64 = 2048;
/// Slots of the console ring.
pub const CONSOLE_SLOTS: u32 = 16;
/// Text bytes in one console slot: a [`ConsoleSlot`].
pub const CONSOLE_TEXT_BYTES: usize = 62;

/// One slot of the console ring: a piece of a line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConsoleSlot {
    /// Bytes of text that are used.
    pub len: u8,
    /// 1 when the line goes on in the next slot.
    pub more: u8,
    /// The text; what is not printable ASCII is shown as `?`.
    pub text: [u8; CONSOLE_TEXT_BYTES],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<ConsoleSlot>() == crate::ring::SLOT_BYTES);
    assert!(size_of::<RegisterPage>() as u64 <= BOOT_ARGS);
    assert!(BOOT_ARGS + BOOT_ARGS_MAX as u64 <= CONSOLE_RING);
    assert!(
        CONSOLE_RING + (crate::ring::HEADER_BYTES + CONSOLE_SLOTS as usize * crate::ring::SLOT_BYTES) as u64
            <= PAGE_SIZE
    );
    assert!(offset_of!(RegisterPage, magic) == 64);
    assert!(offset_of!(RegisterPage, vm_id) == 152);
    assert!(offset_of!(RegisterPage, memory_bytes) == 80);
    assert!(offset_of!(RegisterPage, tsc_hz) == 88);
    assert!(offset_of!(RegisterPage, ns_per_tick) == 96);
    assert!(offset_of!(RegisterPage, start_tsc) == 104);
    assert!(offset_of!(RegisterPage, start_unix_ns) == 112);
    assert!(offset_of!(RegisterPage, generation_id) == 120);
    assert!(offset_of!(RegisterPage, boot_args_len) == 136);
    assert!(offset_of!(RegisterPage, console_slots) == 140);
    assert!(offset_of!(RegisterPage, nic_page) == 144);
    assert!(offset_of!(RegisterPage, upcall_entry) == 160);
    assert!(offset_of!(RegisterPage, fault_entry) == 176);
    assert!(offset_of!(RegisterPage, enabled) == 192);
    assert!(offset_of!(RegisterPage, upcalls_on) == 200);
    assert!(offset_of!(RegisterPage, in_fault) == 204);
    assert!(offset_of!(RegisterPage, pending) == 208);
    assert!(offset_of!(RegisterPage, alarm) == 216);
    assert!(offset_of!(RegisterPage, upcall) == 224);
    assert!(offset_of!(RegisterPage, fault) == 256);
};

//! What a guest sees: the register page, hypercalls, upcalls and faults. `docs/virtual-architecture.md` explains them.

use crate::limits::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Guest-physical (and, identity-mapped, linear) address of the register page; RDI says it at the start. The page below, at
/// address 0, is a hole.
pub const REGISTER_PAGE: u64 = 0x1000;
/// The two pages of the guest's first page tables: PML4, then PDPT with 1 GiB entries.
pub const PAGE_TABLES: u64 = 0x2000;
/// The NIC page, then the receive slots, then the transmit slots ([`crate::nic`]).
pub const NIC_BASE: u64 = 0x4000;
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
    /// Have a frame of its own for each of the RSI pages from the page number RDI on, which may be written and either hold zeros
    /// at the start or were written, without waiting for one; at most [`super::TAKE_MAX`] pages. Returns how many of them, the first ones, are there: fewer where no more memory can be had now.
    pub const TAKE: u64 = 8;
}

/// Pages that one [`hypercall::TAKE`] may name.
pub const TAKE_MAX: u64 = 64;

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
    /// The virtual disk ([`crate::guest_disk`]), where the VM has one.
    pub const DISK: u64 = 2;
    /// The control ring ([`crate::guest_control`]), where the VM has one.
    pub const CONTROL: u64 = 3;
}

/// Bits of [`RegisterPage::pending`] and [`RegisterPage::enabled`].
pub mod pending {
    /// The alarm, or the timeout of an idle, is due.
    pub const ALARM: u64 = 1 << 0;
    /// The NIC: something to receive, or space to transmit after the ring was full.
    pub const NIC: u64 = 1 << 1;
    /// The VM is asked to end itself.
    pub const SHUTDOWN: u64 = 1 << 2;
    /// Who the VM is, its address or its clock has changed: what stands under [`super::RegisterPage::sequence`]. Connections
    /// are to be dropped without a word, secrets and generators seeded anew, and all of it read again, before anything else is
    /// done. Ends an idle and causes an upcall whatever [`super::RegisterPage::enabled`] says.
    pub const IDENTITY: u64 = 1 << 3;
    /// Somebody has written into the console's input ring, or wanted to while the VM was out.
    pub const CONSOLE_INPUT: u64 = 1 << 4;
    /// The virtual disk is there, or has completed requests ([`crate::guest_disk`]).
    pub const DISK: u64 = 1 << 5;
    /// The core has put answers into the control ring ([`crate::guest_control`]).
    pub const CONTROL: u64 = 1 << 6;
    /// A console that this VM watches ([`crate::control::ControlRequest::ConsoleRead`]) has said something since it was read.
    pub const WATCHED: u64 = 1 << 7;
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
    /// x86 vector (SDM vol. 3, table 6-1), or [`FAULT_REFUSED`], or one of the memory's, from [`FAULT_ADDRESS`] to
    /// [`FAULT_RIGHTS`].
    pub vector: u32,
    /// Error code of the vector; for [`FAULT_REFUSED`] the number of the refused class ([`refused`]); for the memory's what was
    /// tried ([`access`]).
    pub error_code: u32,
    /// Linear address of a page fault; guest-physical address of the memory's faults; else 0.
    pub address: u64,
}

/// The guest executed an instruction that the virtual architecture does not have.
pub const FAULT_REFUSED: u32 = 0x100;
/// The guest accessed a guest-physical address beyond its memory.
pub const FAULT_ADDRESS: u32 = 0x101;
/// The guest accessed the page at address 0: most likely through a null pointer.
pub const FAULT_NULL: u32 = 0x102;
/// The guest accessed a hole that its image has declared: most likely its stack has overflowed into the guard below.
pub const FAULT_GUARD: u32 = 0x103;
/// The guest wrote to what its image says is not writable, or executed what is not code.
pub const FAULT_RIGHTS: u32 = 0x104;

/// What was tried: [`FaultRecord::error_code`] of the memory's faults.
pub mod access {
    /// A read.
    pub const READ: u32 = 0;
    /// A write.
    pub const WRITE: u32 = 1;
    /// An instruction fetch.
    pub const EXECUTE: u32 = 2;
}

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

/// The page at [`REGISTER_PAGE`], shared with the core. The offsets are part of the virtual architecture.
///
/// What says "under the sequence" changes only together with [`RegisterPage::sequence`], as does the MAC address in the NIC
/// page.
#[repr(C)]
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RegisterPage {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// Odd while the core writes what lies under it; another even number afterwards. Whoever reads several of these words reads
    /// this one before and after, and begins again when it was odd or has changed.
    pub sequence: u32,
    /// [`crate::vm::VmId::raw`] of this VM. Under the sequence.
    pub vm_id: u64,
    /// Random; new at every start, clone, restore and change of identity. Under the sequence.
    pub generation_id: [u8; 16],
    /// Bytes of memory, from address 0, holes included.
    pub memory_bytes: u64,
    /// Frames that are kept for this VM whatever others do. 0: none are, yet.
    pub reserve_frames: u32,
    /// Frames of memory that this VM can have at most.
    pub limit_frames: u32,
    /// Written by the core: frames of memory that this VM has now, of its own.
    pub held_frames: u32,
    /// Bytes of boot arguments at [`BOOT_ARGS`], ASCII. Under the sequence, as they are.
    pub boot_args_len: u32,
    /// Ticks of the TSC in a second ("CPU speed"). Under the sequence.
    pub tsc_hz: u64,
    /// Nanoseconds per tick as a 32.32 fixed-point number. Under the sequence.
    pub ns_per_tick: u64,
    /// A TSC at which the time was [`RegisterPage::clock_unix_ns`]; at the start of the VM, the one when its creation began. Under
    /// the sequence.
    pub clock_tsc: u64,
    /// Unix time in nanoseconds at [`RegisterPage::clock_tsc`]. Under the sequence.
    pub clock_unix_ns: u64,
    /// Guest-physical address of the NIC page ([`crate::nic::NicPage`]), 0 without a NIC.
    pub nic_page: u64,
    _reserved_nic: [u64; 4],
    /// Guest-physical address of the disk page ([`crate::guest_disk::DiskPage`]), 0 without a virtual disk.
    pub disk_page: u64,
    /// Slots of the console ring, whose header is at [`CONSOLE_RING`].
    pub console_slots: u32,
    /// Slots of the console's input ring, whose header is at [`CONSOLE_INPUT_RING`].
    pub console_input_slots: u32,
    /// Guest-physical address of the control page ([`crate::guest_control`]), 0 for a VM that does not control the machine.
    pub control_page: u64,
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
    /// 1 where VMs that idle may go out to make room for others: what a VM does not need is worth giving back soon. Where nobody goes out,
    /// what lies within its reserve is kept for it, and nobody else has it when it gives that back.
    pub may_go_out: u32,
    /// Written by the core: how often pages that the guest had were taken while it did not run: empty ones of the NIC's rings, or, where it was out, any
    /// that hold only zeros. They have memory again when they are touched, if there is some.
    pub takings: u32,
}

/// Offset of the boot arguments in the register page.
pub const BOOT_ARGS: u64 = 1024;
/// Bytes of boot arguments at most.
pub const BOOT_ARGS_MAX: usize = 1024;
/// Offset of the console ring's header in the register page; its slots follow [`crate::ring::HEADER_BYTES`] later.
pub const CONSOLE_RING: u64 = 2048;
/// Slots of the console ring.
pub const CONSOLE_SLOTS: u32 = 16;
/// Offset of the header of the console's input ring in the register page, into which the core puts what the operator types; its slots follow.
pub const CONSOLE_INPUT_RING: u64 = 3328;
/// Slots of the console's input ring.
pub const CONSOLE_INPUT_SLOTS: u32 = 8;
/// Text bytes in one console slot: a [`ConsoleSlot`].
pub const CONSOLE_TEXT_BYTES: usize = 62;
/// Text bytes that fit into the console's input ring.
pub const INPUT_BYTES: usize = CONSOLE_INPUT_SLOTS as usize * CONSOLE_TEXT_BYTES;

/// One slot of a console ring, of either direction: a piece of a line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConsoleSlot {
    /// Bytes of text that are used.
    pub len: u8,
    /// 1 when the line goes on in the next slot.
    pub more: u8,
    /// The text. Of what a guest writes, what is not printable ASCII is shown as `?`; what it reads may be any bytes.
    pub text: [u8; CONSOLE_TEXT_BYTES],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<ConsoleSlot>() == crate::ring::SLOT_BYTES);
    assert!(size_of::<RegisterPage>() as u64 <= BOOT_ARGS);
    assert!(BOOT_ARGS + BOOT_ARGS_MAX as u64 <= CONSOLE_RING);
    assert!(
        CONSOLE_RING + (crate::ring::HEADER_BYTES + CONSOLE_SLOTS as usize * crate::ring::SLOT_BYTES) as u64
            <= CONSOLE_INPUT_RING
    );
    assert!(
        CONSOLE_INPUT_RING
            + (crate::ring::HEADER_BYTES + CONSOLE_INPUT_SLOTS as usize * crate::ring::SLOT_BYTES) as u64
            <= PAGE_SIZE
    );
    assert!(offset_of!(RegisterPage, magic) == 0);
    assert!(offset_of!(RegisterPage, abi_version) == 8);
    assert!(offset_of!(RegisterPage, sequence) == 12);
    assert!(offset_of!(RegisterPage, vm_id) == 16);
    assert!(offset_of!(RegisterPage, generation_id) == 24);
    assert!(offset_of!(RegisterPage, memory_bytes) == 40);
    assert!(offset_of!(RegisterPage, reserve_frames) == 48);
    assert!(offset_of!(RegisterPage, limit_frames) == 52);
    assert!(offset_of!(RegisterPage, held_frames) == 56);
    assert!(offset_of!(RegisterPage, boot_args_len) == 60);
    assert!(offset_of!(RegisterPage, tsc_hz) == 64);
    assert!(offset_of!(RegisterPage, ns_per_tick) == 72);
    assert!(offset_of!(RegisterPage, clock_tsc) == 80);
    assert!(offset_of!(RegisterPage, clock_unix_ns) == 88);
    assert!(offset_of!(RegisterPage, nic_page) == 96);
    assert!(offset_of!(RegisterPage, disk_page) == 136);
    assert!(offset_of!(RegisterPage, console_slots) == 144);
    assert!(offset_of!(RegisterPage, console_input_slots) == 148);
    assert!(offset_of!(RegisterPage, control_page) == 152);
    assert!(offset_of!(RegisterPage, upcall_entry) == 160);
    assert!(offset_of!(RegisterPage, fault_entry) == 176);
    assert!(offset_of!(RegisterPage, enabled) == 192);
    assert!(offset_of!(RegisterPage, upcalls_on) == 200);
    assert!(offset_of!(RegisterPage, in_fault) == 204);
    assert!(offset_of!(RegisterPage, pending) == 208);
    assert!(offset_of!(RegisterPage, alarm) == 216);
    assert!(offset_of!(RegisterPage, upcall) == 224);
    assert!(offset_of!(RegisterPage, fault) == 256);
    assert!(offset_of!(RegisterPage, may_go_out) == 304);
    assert!(offset_of!(RegisterPage, takings) == 308);
};

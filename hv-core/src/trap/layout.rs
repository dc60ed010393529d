//! What the assembly of this module knows by offset: the words that it reaches through GS, and a component's registers.

use super::descriptors::{GDT_ENTRIES, TaskState};
use abi::log::Registers;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

/// What the assembly of this module reaches through GS. One per CPU.
#[repr(C)]
pub struct PerCpu {
    /// Address of this structure.
    pub(super) own_address: u64,
    /// RSP of the core while a component runs.
    pub(super) core_rsp: u64,
    /// Where the running component's registers go.
    pub(super) context: *mut UserContext,
    /// Room for one register at SYSCALL.
    pub(super) scratch: u64,
    /// Vector of the interrupt that ended an idle, 0 when none did.
    pub(super) idle_vector: u64,
    /// Number of this CPU, from 0.
    pub index: u32,
    pub(super) tss: TaskState,
    pub(super) gdt: [u64; GDT_ENTRIES],
}

pub(super) const GS_CORE_RSP: usize = offset_of!(PerCpu, core_rsp);
pub(super) const GS_CONTEXT: usize = offset_of!(PerCpu, context);
pub(super) const GS_SCRATCH: usize = offset_of!(PerCpu, scratch);
pub(super) const GS_IDLE_VECTOR: usize = offset_of!(PerCpu, idle_vector);

/// NMIs that came since boot; the handler can do nothing else, because it may interrupt anything.
pub(super) static NMI_COUNT: AtomicU64 = AtomicU64::new(0);

/// A component's registers while it does not run.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct UserContext {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 … r15: the order that the stubs know.
    pub rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
    /// Third argument of a system call.
    pub rdx: u64,
    /// Second argument of a system call.
    pub rsi: u64,
    /// First argument of a system call.
    pub rdi: u64,
    pub(crate) rbp: u64,
    pub(crate) r8_to_r15: [u64; 8],
    /// Where it goes on.
    pub rip: u64,
    /// Its flags.
    pub rflags: u64,
    /// Its stack pointer.
    pub rsp: u64,
    /// Why it stopped: an x86 vector, or [`VECTOR_SYSCALL`].
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) cr2: u64,
}

impl UserContext {
    /// For the log.
    pub fn said(&self) -> Registers {
        let &UserContext { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8_to_r15, rip, rflags, rsp, .. } = self;
        Registers { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8_to_r15, rip, rflags, rsp }
    }
}

pub(super) const CTX_RIP: usize = offset_of!(UserContext, rip);
pub(super) const CTX_RFLAGS: usize = offset_of!(UserContext, rflags);
pub(super) const CTX_RSP: usize = offset_of!(UserContext, rsp);
pub(super) const CTX_VECTOR: usize = offset_of!(UserContext, vector);
pub(super) const CTX_ERROR: usize = offset_of!(UserContext, error);
pub(super) const CTX_CR2: usize = offset_of!(UserContext, cr2);

const _: () = {
    assert!(offset_of!(UserContext, rdi) == 40);
    assert!(offset_of!(UserContext, r8_to_r15) == 56);
    assert!(CTX_RIP == 120);
};

/// `vector` of a system call; x86 vectors are below.
pub(super) const VECTOR_SYSCALL: u64 = 0x100;

impl UserContext {
    /// Registers of a component that starts at `rip` with its stack at `rsp`: all others zero, interrupts on.
    pub fn start(rip: u64, rsp: u64) -> Self {
        UserContext { rip, rsp, rflags: 0x202, ..UserContext::default() }
    }
}

//! Committing a crime and going on after the fault that it causes.
//!
//! [`attempt`] keeps what the calling convention wants kept, and calls the crime. When the core enters the fault handler, that
//! notes the fault and returns to behind the call, with the stack as it was. Crimes may leave any register changed.

use crate::machine::{hypercall, offset, peek32, peek64, set64};
use crate::register;
use abi::guest::{FaultRecord, Interrupted, hypercall::FAULT_RETURN};
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of the fault handler's stack.
const STACK_BYTES: usize = 4096;

#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: nobody looks at it but the CPU, through RSP.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

/// RSP inside of `call`, for the way back from a fault.
static KEPT_RSP: AtomicU64 = AtomicU64::new(0);
static VECTOR: AtomicU32 = AtomicU32::new(0);
static CODE: AtomicU32 = AtomicU32::new(0);
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// A fault that was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// `FaultRecord::vector`.
    pub vector: u32,
    /// `FaultRecord::error_code`.
    pub code: u32,
    /// `FaultRecord::address`.
    pub address: u64,
}

/// A crime in assembly: may change all registers but RSP, and takes its argument in RDI.
pub type Act = unsafe extern "sysv64" fn(u64);

/// Makes this module's handler the fault handler of the VM.
pub fn arm() {
    set64(register!(fault_stack), stack());
    set64(register!(fault_entry), handler());
}

/// Leaves the VM without a fault handler.
pub fn disarm() {
    set64(register!(fault_entry), 0);
}

/// Address of the handler.
pub fn handler() -> u64 {
    offset((on_fault as extern "sysv64" fn() -> !) as *const () as usize)
}

/// Top of the handler's stack.
pub fn stack() -> u64 {
    // The handler is entered by a jump: RSP is what the calling convention wants to find behind a call.
    offset(STACK.0.get().expose_provenance()) + offset(STACK_BYTES) - 8
}

/// Commits `act` with an argument. `Some`: it caused a fault.
pub fn attempt(act: Act, argument: u64) -> Option<Caught> {
    // SAFETY: `call` keeps all registers that the calling convention keeps, whatever `act` does to them and whether it
    // returns or faults. What else `act` does is a crime whose author vouches for Rust's own memory.
    let faulted = unsafe { call(act, argument) };
    (faulted != 0).then(|| Caught {
        vector: VECTOR.load(Ordering::Relaxed),
        code: CODE.load(Ordering::Relaxed),
        address: ADDRESS.load(Ordering::Relaxed),
    })
}

/// Calls RDI with the argument RSI. Returns 0, or 1 when it faulted.
#[unsafe(naked)]
unsafe extern "sysv64" fn call(act: Act, argument: u64) -> u64 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // Seven words and the return address: aligned.
        "sub rsp, 8",
        "mov [rip + {kept}], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "xor eax, eax",
        "jmp 2f",
        "4:",
        "mov eax, 1",
        "2:",
        "cld",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        // Where `resume` finds the address of label 4.
        ".globl hostile_after_fault",
        ".set hostile_after_fault, 4b",
        kept = sym KEPT_RSP,
    )
}

unsafe extern "sysv64" {
    /// Label in [`call`]; not a function.
    fn hostile_after_fault();
}

/// Where the core enters on a fault. Notes it, and has the core go on behind [`attempt`]'s call.
extern "sysv64" fn on_fault() -> ! {
    let base = register!(fault);
    let field = |at: usize| base + offset(at);
    VECTOR.store(peek32(field(offset_of!(FaultRecord, vector))), Ordering::Relaxed);
    CODE.store(peek32(field(offset_of!(FaultRecord, error_code))), Ordering::Relaxed);
    ADDRESS.store(peek64(field(offset_of!(FaultRecord, address))), Ordering::Relaxed);
    set64(field(offset_of!(Interrupted, rip)), resume_address());
    set64(field(offset_of!(Interrupted, rsp)), KEPT_RSP.load(Ordering::Relaxed));
    set64(field(offset_of!(Interrupted, rflags)), 2);
    loop {
        hypercall(FAULT_RETURN, 0, 0);
    }
}

/// Behind the call in [`attempt`].
fn resume_address() -> u64 {
    offset((hostile_after_fault as unsafe extern "sysv64" fn()) as *const () as usize)
}

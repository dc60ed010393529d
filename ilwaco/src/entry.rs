//! From the first instruction to the program, and the ways out: faults and panics.

use crate::args::Args;
use crate::{clock, console, heap, net, platform, registers};
use abi::note::{KIND_GUEST, Note};
use core::arch::naked_asm;
use core::panic::PanicInfo;

/// Code of a VM whose program panicked.
pub const EXIT_PANIC: u64 = 101;
/// Code of a VM that was started by a machine with another ABI.
pub const EXIT_ABI: u64 = 102;
/// Code of a VM whose stack was too small.
pub const EXIT_STACK: u64 = 103;
/// Code of a VM that faulted: this plus the vector.
pub const EXIT_FAULT: u64 = 200;

/// Bytes of the stack. Only pages that were touched cost memory, and they are given back when the VM is quiet.
const STACK_BYTES: usize = 32 * 1024;
/// Bytes at the bottom of the stack on which the fault handler runs, which never returns to what lies there.
const FAULT_STACK_BYTES: usize = 4096;

#[unsafe(link_section = ".note.foraker")]
#[used]
static NOTE: Note = Note::new(KIND_GUEST);

/// What lies at the lowest word of the stack proper, above the fault stack. The page tables that a guest starts with have no
/// holes, and its own would cost two pages, so there is no guard page: this is looked at whenever the guest idles. It is
/// part of the image, and as long as it is only read, its page is shared by all VMs of the image.
const MARK: u64 = 0x4b43_4154_534f_4e21;

#[repr(C, align(4096))]
struct Stack(core::cell::UnsafeCell<[u64; STACK_BYTES / 8]>);

// SAFETY: nobody looks at it but the CPU, through RSP.
unsafe impl Sync for Stack {}

/// The linker script puts it below everything else that is written.
#[unsafe(link_section = ".stack")]
static STACK: Stack = {
    let mut words = [0; STACK_BYTES / 8];
    words[FAULT_STACK_BYTES / 8] = MARK;
    Stack(core::cell::UnsafeCell::new(words))
};

unsafe extern "C" {
    /// The first byte behind everything of the image, from the linker script.
    static __ilwaco_heap_start: u8;
}

unsafe extern "Rust" {
    /// The program, from [`crate::main!`].
    safe fn ilwaco_main() -> u64;
}

/// Address of the stack's lowest byte.
pub(crate) fn stack_bottom() -> usize {
    STACK.0.get().addr()
}

/// Ends the VM when its stack has been used up to the last word. What has happened by then concerns nobody but this VM.
#[inline]
pub(crate) fn check_stack() {
    // SAFETY: within the stack, aligned, and no reference points there.
    let mark = unsafe { STACK.0.get().cast::<u64>().add(FAULT_STACK_BYTES / 8).read_volatile() };
    if mark != MARK {
        console::line(format_args!("stack overflow: more than {} bytes", STACK_BYTES - FAULT_STACK_BYTES));
        platform::exit(EXIT_STACK);
    }
}

/// Where the core starts the guest: without a stack, with the address of the register page in RDI.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text._start")]
extern "C" fn _start() -> ! {
    naked_asm!(
        "lea rsp, [{stack} + {size}]",
        "xor ebp, ebp",
        "call {start}",
        "ud2",
        stack = sym STACK,
        size = const STACK_BYTES,
        start = sym start,
    )
}

extern "C" fn start() -> ! {
    if !registers::valid() {
        platform::exit(EXIT_ABI);
    }
    registers::set_fault_handler(address(on_fault as *const ()), address(STACK.0.get()) + FAULT_STACK);
    let heap = (&raw const __ilwaco_heap_start).cast_mut();
    let memory = usize::try_from(registers::memory_bytes()).unwrap_or(0);
    // SAFETY: the loader maps memory from 0 to the size in the register page; behind the image nothing else lies in it. This
    // is the only call.
    unsafe { heap::init(heap, memory.saturating_sub(heap.addr())) };
    clock::start();
    let args = Args::of_this_vm();
    console::start_log(args.get("log"));
    net::start(&args);
    drop(args);
    platform::exit(ilwaco_main())
}

const FAULT_STACK: u64 = {
    // Widening only; `u64::from` is not const.
    #[allow(clippy::cast_lossless)]
    let bytes = FAULT_STACK_BYTES as u64;
    bytes
};

fn address<T>(of: *const T) -> u64 {
    u64::try_from(of.expose_provenance()).unwrap_or(0)
}

/// Where the core continues after a fault, on the fault stack. There is no way back.
#[unsafe(naked)]
extern "C" fn on_fault() -> ! {
    naked_asm!("xor ebp, ebp", "call {report}", "ud2", report = sym report_fault)
}

extern "C" fn report_fault() -> ! {
    let fault = registers::fault();
    console::line(format_args!(
        "fault {:#x} (error code {:#x}) at {:#x}, stack {:#x}, address {:#x}",
        fault.vector, fault.error_code, fault.at.rip, fault.at.rsp, fault.address
    ));
    platform::exit(EXIT_FAULT + u64::from(fault.vector))
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    console::line(format_args!("{info}"));
    platform::exit(EXIT_PANIC)
}

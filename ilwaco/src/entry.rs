//! From the first instruction to the program, and the ways out: faults and panics.

use crate::args::Args;
use crate::fault::Fault;
use crate::stack::{STACK, STACK_BYTES};
use crate::{clock, console, heap, net, platform, registers, stack};
use abi::note::{KIND_GUEST, Note};
use core::arch::naked_asm;
use core::panic::PanicInfo;

/// Code of a VM whose program panicked.
pub const EXIT_PANIC: u64 = 101;
/// Code of a VM that was started by a machine with another ABI.
pub const EXIT_ABI: u64 = 102;
/// Code of a VM whose heap had no room left.
pub const EXIT_HEAP: u64 = 104;

/// Bytes at the bottom of the stack on which the fault handler runs, which never returns to what lies there. Whoever overflows
/// the stack has written over them before.
const FAULT_STACK_BYTES: usize = 4096;

#[unsafe(link_section = ".note.foraker")]
#[used]
static NOTE: Note = Note::new(KIND_GUEST);

unsafe extern "C" {
    /// The first byte behind everything of the image, from the linker script.
    static __ilwaco_heap_start: u8;
}

unsafe extern "Rust" {
    /// The program, from [`crate::main!`].
    safe fn ilwaco_main() -> u64;
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

/// `register_page`: where the register page lies.
extern "C" fn start(register_page: usize) -> ! {
    platform::set_registers(register_page);
    if !registers::valid() {
        platform::exit(EXIT_ABI);
    }
    registers::set_fault_handler(address(on_fault as *const ()), wide(stack::bottom()) + wide(FAULT_STACK_BYTES));
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

// Widening only; `u64::from` is not const.
#[allow(clippy::cast_lossless)]
const fn wide(bytes: usize) -> u64 {
    bytes as u64
}

fn address<T>(of: *const T) -> u64 {
    u64::try_from(of.expose_provenance()).unwrap_or(0)
}

/// Where the core continues after a fault, on the fault stack. There is no way back.
#[unsafe(naked)]
extern "C" fn on_fault() -> ! {
    naked_asm!("xor ebp, ebp", "call {report}", "ud2", report = sym report_fault)
}

extern "C" fn report_fault() -> ! {
    let bottom = wide(stack::bottom());
    let fault = Fault::new(registers::fault(), &(bottom..=bottom + wide(STACK_BYTES)));
    console::line(format_args!("{fault}"));
    platform::exit(fault.code())
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let message = info.message();
    // Who allocates and cannot do without ends in a panic of `alloc`'s, which is known by its words alone.
    if heap::is_exhaustion(&message) {
        let (used, size) = heap::heap_usage();
        console::line(format_args!("out of memory: {message}: {used} of the heap's {size} bytes are in use"));
        platform::exit(EXIT_HEAP)
    }
    console::line(format_args!("{info}"));
    platform::exit(EXIT_PANIC)
}

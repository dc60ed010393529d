//! What the guest has of its own: stacks, page tables, hypercalls, memory by address.

use abi::guest::hypercall as number;
use core::arch::asm;
use core::cell::UnsafeCell;
use guest_fuzz::{CORPUS_BYTES, MARK};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Pages that are used by address only: by the processor, and by [`load`] and [`store`].
#[repr(C, align(4096))]
pub struct Pages<const N: usize>(UnsafeCell<[[u8; PAGE]; N]>);

// SAFETY: nobody makes a reference to what is inside.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Pages<N> {
    /// Zeros.
    pub const fn new() -> Pages<N> {
        Pages(UnsafeCell::new([[0; PAGE]; N]))
    }

    /// Where they are.
    pub fn address(&self) -> u64 {
        // No target has a `usize` of more than 64 bits.
        u64::try_from(self.0.get().expose_provenance()).unwrap_or(0)
    }
}

/// Bytes of the guest's own stack.
pub const STACK_BYTES: usize = 16 * 1024;

#[unsafe(link_section = ".stack")]
pub static STACK: Pages<{ STACK_BYTES / PAGE }> = Pages::new();

/// Where the instructions are put before the guest boots. In a section of code, since it is to be executed.
#[repr(C, align(4096))]
pub struct Corpus([u8; CORPUS_BYTES]);

const fn marked() -> [u8; CORPUS_BYTES] {
    let mut bytes = [guest_fuzz::corpus::BREAKPOINT; CORPUS_BYTES];
    let mut at = 0;
    while at < MARK.len() {
        bytes[at] = MARK[at];
        at += 1;
    }
    bytes
}

#[unsafe(link_section = ".text.corpus")]
#[used]
pub static CORPUS: Corpus = Corpus(marked());

/// Address of the instructions.
pub fn corpus() -> u64 {
    u64::try_from((&raw const CORPUS).expose_provenance()).unwrap_or(0)
}

/// A hypercall that changes no memory but the register page.
pub fn hypercall(number: u64, first: u64) -> u64 {
    let result;
    // SAFETY: NOP, IDLE, KICK, ALARM and EXIT preserve all registers but RAX; no reference points to the register page.
    unsafe { asm!("vmcall", inlateout("rax") number => result, in("rdi") first, in("rsi") 0, options(nostack)) };
    result
}

/// The time-stamp counter.
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC only writes these two registers.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Ends this VM.
pub fn exit(code: u64) -> ! {
    loop {
        hypercall(number::EXIT, code);
    }
}

/// Reads eight bytes.
pub fn load(address: u64) -> u64 {
    let value;
    // SAFETY: all memory of the VM can be read; nothing changes.
    unsafe { asm!("mov {0}, [{1}]", out(reg) value, in(reg) address, options(nostack, preserves_flags, readonly)) };
    value
}

/// Writes 1, 2, 4 or 8 bytes.
///
/// # Safety
/// They are in [`Pages`] or below the image.
pub unsafe fn store(address: u64, value: u64, bytes: u8) {
    // SAFETY: upheld by the caller: no Rust object lies there.
    unsafe {
        match bytes {
            1 => asm!("mov [{1}], {0:l}", in(reg) value, in(reg) address, options(nostack, preserves_flags)),
            2 => asm!("mov [{1}], {0:x}", in(reg) value, in(reg) address, options(nostack, preserves_flags)),
            4 => asm!("mov [{1}], {0:e}", in(reg) value, in(reg) address, options(nostack, preserves_flags)),
            8 => asm!("mov [{1}], {0:r}", in(reg) value, in(reg) address, options(nostack, preserves_flags)),
            _ => {}
        }
    }
}

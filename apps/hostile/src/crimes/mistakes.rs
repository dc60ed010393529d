//! What programs do wrong without meaning any harm. Ilwaco's own fault handler is left in place: it, or its heap, has to say
//! what it was.

use super::Deed;
use crate::machine::{peek64, poke64, scratch};
use alloc::alloc::{alloc, dealloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hint::black_box;

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    Some(Deed::Mistake(match name {
        "overflow-32k" => overflow::<{ 32 << 10 }>,
        "overflow-64k" => overflow::<{ 64 << 10 }>,
        "overflow-256k" => overflow::<{ 256 << 10 }>,
        "overflow-4m" => overflow::<{ 4 << 20 }>,
        "endless-recursion" => || {
            black_box(recursion(0));
        },
        "null-read" => || {
            black_box(peek64(black_box(16)));
        },
        // SAFETY: nothing is there.
        "null-write" => || unsafe { poke64(black_box(16), 1) },
        "null-call" => || call(0),
        "call-data" => || call(scratch(0)),
        // SAFETY: it is not done.
        "write-code" => || unsafe { poke64(code(), 0) },
        "exhausted-heap" => exhaust,
        "double-free" => free_twice,
        _ => return None,
    }))
}

/// Uses so many bytes of the stack at once.
#[inline(never)]
fn overflow<const BYTES: usize>() {
    let mut large = [0_u8; BYTES];
    large[BYTES / 2] = 1;
    black_box(&mut large);
}

/// Uses some of the stack again and again.
#[inline(never)]
#[allow(unconditional_recursion)] // That is the point.
fn recursion(depth: u64) -> u64 {
    let here = black_box([depth; 16]);
    recursion(depth + 1).wrapping_add(here[0])
}

fn code() -> u64 {
    crate::machine::offset((free_twice as fn()) as *const () as usize)
}

/// Calls what lies at an address.
fn call(address: u64) {
    // SAFETY: what is called cannot be executed, so nothing of it ever is.
    unsafe { core::arch::asm!("call {0}", in(reg) black_box(address), clobber_abi("sysv64")) };
}

/// Allocates until there is no more.
fn exhaust() {
    let mut all: Vec<Box<[u8; 64 << 10]>> = Vec::new();
    loop {
        // Not touched: it is the heap that has an end here, not the machine.
        let mut piece = Box::<[u8; 64 << 10]>::new_uninit();
        piece.as_mut_ptr();
        // SAFETY: any bytes are bytes.
        all.push(unsafe { piece.assume_init() });
        black_box(&mut all);
    }
}

fn free_twice() {
    let layout = Layout::new::<[u64; 8]>();
    // SAFETY: what it is here for: the second call breaks the promise.
    unsafe {
        let at = alloc(layout);
        dealloc(at, layout);
        dealloc(black_box(at), layout);
    }
}

//! Ilwaco: the library OS that guests of Foraker link.
//!
//! It is what a guest needs between the virtual architecture and its own program: entry and heap, console and log, time
//! and timers, tasks, TCP/IP. A program is an `async fn` and one line:
//!
//! ```ignore
//! #![no_std]
//! #![cfg_attr(target_os = "none", no_main)]
//! ilwaco::main!(serve);
//!
//! async fn serve() -> u64 {
//!     let listener = ilwaco::net::TcpListener::bind(7).expect("a network");
//!     loop { /* … */ }
//! }
//! ```
//!
//! `docs/ilwaco.md` explains how to build one, and what it costs.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod args;
#[allow(unsafe_code)]
mod cell;
mod clock;
pub mod console;
pub mod control;
pub mod disk;
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
mod entry;
#[cfg(any(target_os = "none", test))]
mod fault;
#[allow(unsafe_code)]
mod heap;
mod identity;
#[allow(unsafe_code)]
mod memory;
pub mod net;
#[allow(unsafe_code)]
mod platform;
mod registers;
mod run;
#[cfg(not(target_os = "none"))]
pub mod sim;
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
mod stack;
pub mod sync;
pub mod task;
pub mod time;
mod wheel;

pub use heap::heap_usage;
pub use registers::{generation_id, memory_bytes, tsc_hz, vm_id};
pub use run::block_on;

/// True when the VM can have so many bytes more of memory, and leave enough for its connections. What is there then may be gone after the next
/// await.
pub fn has_memory_for(bytes: usize) -> bool {
    net::secures_bytes(bytes)
}

/// True when a connection can have so many bytes more of memory that was promised to it when it was accepted: [`net::PROMISED_BYTES`] in all. What is
/// there then may be gone after the next await. False only where others took more than could be foreseen.
pub fn has_promised_memory_for(bytes: usize) -> bool {
    net::secures_promised(bytes)
}

/// Ends this VM with a code.
pub fn exit(code: u64) -> ! {
    platform::exit(code)
}

/// Makes an `async fn() -> u64` the program of the guest; what it returns is the code that the VM ends with.
///
/// On the host, where guests do not run, the program only says so.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "Rust" fn ilwaco_main() -> u64 {
            $crate::block_on($main())
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _ = $main;
            $crate::not_a_guest();
        }
    };
}

/// What a guest's program does when it is started on the host.
#[cfg(not(target_os = "none"))]
#[doc(hidden)]
pub fn not_a_guest() {
    std::eprintln!("This program is a guest: build it for x86_64-unknown-none and boot it in Foraker.");
    std::process::exit(2);
}

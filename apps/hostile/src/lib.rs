//! A guest that commits every crime that its authors could think of, on command, and says what came of it.
//!
//! With the boot argument `crime=NAME` it commits that one at once and ends; with `bare` beside it, it does so without a
//! fault handler, so that the core has to end it. Without `crime=` it serves: `GET /crimes` and `GET /crime/NAME`.
//!
//! `unsafe` is what this program is about. Its rule: whatever the crime, Rust's own memory is left alone while the guest is
//! to go on; what is written to by address are the register page, the NIC's pages, scratch pages and free memory.
#![no_std]

extern crate alloc;

mod catch;
mod crimes;
mod judge;
pub mod machine;
mod serve;
pub mod table;

use judge::escaped;
pub use judge::{Verdict, commit};
pub use serve::serve;

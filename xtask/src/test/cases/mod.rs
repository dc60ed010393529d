//! The machine tests.
//!
//! A new group is a file with a `pub const CASES: &[Case]` and a line in [`all`]. Each case boots machines of its own from the
//! [`Lab`](super::lab::Lab) and returns a sentence when something is not as it says.

mod asm_guest;
mod boot;
mod elf;
mod fatal;
mod frames;
mod hostile;
mod recovery;
mod web;

use super::Case;

/// All machine tests in the order in which they run.
pub fn all() -> Vec<Case> {
    [boot::CASES, fatal::CASES, asm_guest::CASES, web::CASES, frames::CASES, recovery::CASES, hostile::CASES].concat()
}

/// Fails with a sentence unless `good`.
fn ensure(good: bool, otherwise: impl FnOnce() -> String) -> crate::error::Result<()> {
    if good { Ok(()) } else { Err(otherwise().into()) }
}

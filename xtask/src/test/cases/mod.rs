//! The machine tests.
//!
//! A new group is a file with a `pub const CASES: &[Case]` and a line in [`all`]. Each case boots machines of its own from the
//! [`Lab`](super::lab::Lab) and returns a sentence when something is not as it says.

mod asm_guest;
mod boot;
mod command;
mod components;
mod elf;
mod fatal;
mod frames;
mod hostile;
mod nic;
mod recovery;
mod uefi;
mod web;

use super::Case;
use crate::setup::is_root;

/// All machine tests in the order in which they run; those that take root only for root.
pub fn all() -> Vec<Case> {
    let takes_root = if is_root().unwrap_or(false) { command::ROOT_CASES } else { &[] };
    [
        boot::CASES,
        fatal::CASES,
        asm_guest::CASES,
        web::CASES,
        nic::CASES,
        frames::CASES,
        recovery::CASES,
        components::CASES,
        hostile::CASES,
        uefi::CASES,
        command::CASES,
        takes_root,
    ]
    .concat()
}

/// Names of the tests that take root, when we are not.
pub fn left_out() -> Vec<&'static str> {
    if is_root().unwrap_or(false) { Vec::new() } else { command::ROOT_CASES.iter().map(|case| case.name).collect() }
}

/// Fails with a sentence unless `good`.
fn ensure(good: bool, otherwise: impl FnOnce() -> String) -> crate::error::Result<()> {
    if good { Ok(()) } else { Err(otherwise().into()) }
}

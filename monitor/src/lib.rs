//! The operator's line console: editor, commands, and the conversation with the core, as pure code.
//!
//! Its output is an interface that scripts rely on: docs/messages.md, "The monitor's console".
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod address;
pub mod arguments;
mod assembly;
pub mod command;
mod composition;
mod disks;
pub mod editor;
pub mod host;
pub mod mistake;
pub mod power;
mod processor;
mod quota;
mod refusal;
mod report;
pub mod session;
mod step;
mod terms;

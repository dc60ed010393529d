//! The services between the core and its parties, one file each: what the core tells them, and what it does on their word.

mod admission;
mod ask_disks;
mod called;
mod callers;
mod clock;
mod come;
mod console;
mod control;
mod disk;
mod disk_questions;
mod hold;
mod images;
mod leave;
mod log;
mod net;
mod out;
mod pager;
mod pages;
mod plan;
mod resync;
mod room;
mod shared;
mod stuck;
mod swap;
mod swapped;
mod tenants;
mod wakes;
mod windows;

pub use disk_questions::DiskQuestions;
pub use net::NoRingPage;
pub use stuck::Stuck;
pub use swapped::Swapped;
pub use wakes::Wakes;
pub use windows::Windows;
#[cfg(test)]
pub use windows::{Open, Order};

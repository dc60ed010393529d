//! Virtual machines: their slots, their lives, their memory, their registers, and the images that they start from.

mod args;
mod away;
#[cfg(test)]
pub mod bench_test;
mod build;
mod console;
mod create;
mod deaths;
mod disk_told;
mod end;
mod identity;
mod image;
mod image_pages;
mod images;
mod incoming;
mod life;
mod memory;
mod pause;
mod queues;
mod registers;
mod requested;
mod seats;
mod seed;
mod state;
mod table;
mod tenants;
mod timers;
#[allow(clippy::module_inception)]
mod vm;
mod wakers;
mod watches;

pub use args::BootArgs;
pub use away::{Away, Discarded, GONE};
pub use console::Console;
pub use create::{CreateError, METADATA_FRAMES, Order};
pub use deaths::Deaths;
pub use disk_told::DiskTold;
pub use identity::IdentityError;
pub use image::{Image, Sent};
pub use images::Images;
pub use incoming::{Incoming, Next as NextPart};
pub use life::{Devices, End, Handling, PageFault, Shortage, State};
pub use memory::{Memory, PageError, Pages};
pub use queues::{EMPTY_LINK, Link, Queue, Queues};
pub use registers::Registers;
pub use requested::Requested;
pub use seats::EMPTY_SEAT;
pub use seed::Seed;
pub use state::StateError;
pub use table::{Leavings, NotCreated, Table, Written};
pub use tenants::{Account, AccountNumber, EMPTY_ACCOUNT, OverQuota, Standing};
pub use timers::{EMPTY_CELL, NEVER, TimerCell, Timers};
pub use vm::{Hazard, Vm};
pub use wakers::{EMPTY_WAKER, Wakers};
pub use watches::{NoWatch, Watches};

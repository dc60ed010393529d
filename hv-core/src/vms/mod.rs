//! Virtual machines: their slots, their memory, their registers, and the images that they start from.

mod console;
mod images;
mod memory;
mod registers;
mod table;
mod vm;

pub use console::Console;
pub use images::{Image, Images};
pub use memory::{MapError, Memory};
pub use registers::Registers;
pub use table::{EMPTY_SLOT, Slot, Table};
pub use vm::{Pending, Seed, State, Vm};

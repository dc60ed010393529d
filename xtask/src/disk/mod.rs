//! `mkdisk` and `fsck`: the disks of a set as files or block devices of the host.

pub mod fsck;
mod kept;
pub mod mkdisk;
mod opened;
mod set;
pub mod tree;
pub use kept::{FILES, has_operator, kept, with_files};

#[cfg(test)]
mod tests;

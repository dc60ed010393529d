//! `mkdisk` and `fsck`: the disks of a set as files or block devices of the host.

pub mod fsck;
pub mod mkdisk;
mod opened;
mod set;
#[cfg(test)]
mod tests;

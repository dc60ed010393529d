//! Power cuts: what disks may hold when the power fails, out of a log of all that was written to them.
//!
//! [`log`] reads what QEMU's `blklogwrites` has noted, [`replay`] makes every state that a cut may leave, and [`model`] says what must be there.

pub mod log;
mod model;
pub mod replay;

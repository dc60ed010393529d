//! Servers that are asked for names.

use alloc::vec::Vec;
use core::net::IpAddr;

/// As many are asked.
pub(super) const SERVERS: usize = 3;

/// Who is asked.
pub(super) struct Servers {
    pub(super) list: Vec<IpAddr>,
    /// The boot arguments say so.
    pub(super) given: bool,
}

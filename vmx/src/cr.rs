//! Bits of CR0 and CR4 (SDM vol. 3, 2.5).
#![allow(missing_docs)]

use crate::error::Error;

pub const CR0_PE: u64 = 1 << 0;
pub const CR0_MP: u64 = 1 << 1;
pub const CR0_EM: u64 = 1 << 2;
pub const CR0_TS: u64 = 1 << 3;
pub const CR0_ET: u64 = 1 << 4;
pub const CR0_NE: u64 = 1 << 5;
pub const CR0_WP: u64 = 1 << 16;
pub const CR0_PG: u64 = 1 << 31;
pub const CR4_PAE: u64 = 1 << 5;
pub const CR4_MCE: u64 = 1 << 6;
pub const CR4_OSFXSR: u64 = 1 << 9;
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
pub const CR4_VMXE: u64 = 1 << 13;
pub const CR4_FSGSBASE: u64 = 1 << 16;
pub const CR4_OSXSAVE: u64 = 1 << 18;

/// Check a control register against its fixed bits (SDM vol. 3, A.7 and A.8): 1 where `must` is 1, 0 where `may` is 0.
///
/// # Errors
/// [`Error::FixedBits`].
pub fn fixed(register: &'static str, value: u64, [must, may]: [u64; 2]) -> Result<(), Error> {
    let bits = must & !value | value & !may;
    if bits == 0 { Ok(()) } else { Err(Error::FixedBits { register, bits }) }
}

//! What the manifest is as a file: its header, the digests of the other modules, and what holds for who writes one.

use crate::limits::Name;
use core::hash::Hasher;
use siphasher::sip128::{Hasher128, SipHasher24};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Header::magic`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"FKRMANIF");
/// Bytes of default boot options.
pub const DEFAULTS_BYTES: usize = 256;
/// Bytes of a module's digest.
pub const DIGEST_BYTES: usize = 16;

/// Start of the manifest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_VERSION`].
    pub abi_version: u32,
    /// Bytes of the manifest, this header included.
    pub bytes: u32,
    /// [`checksum`] of everything behind the header.
    pub checksum: u32,
    /// Components behind the header.
    pub components: u32,
    /// Rings behind the components.
    pub rings: u32,
    /// Images behind the rings.
    pub images: u32,
    /// Digests of modules behind the images.
    pub modules: u32,
    /// Quotas of tenants ([`crate::quota::TenantQuota`]) behind the digests.
    pub tenants: u32,
    /// Boot options that hold unless the command line says otherwise, in the command line's syntax, zero-padded.
    pub defaults: [u8; DEFAULTS_BYTES],
}

/// Bits of [`super::Component::flags`]. All others must be zero.
pub mod component_flags {
    /// Where the machine has no device for it, it is left out, and its rings with it; else the boot ends.
    pub const OPTIONAL: u32 = 1 << 0;
}

/// Frames that are kept for a VM whose image does not say: what an idle web server holds, and two for its rings.
pub const RESERVE_DEFAULT: u32 = 14;

/// Frames that a VM with so many bytes of memory holds at most: all its pages, the nested page tables for them, and its metadata.
#[must_use]
pub const fn all_frames(memory_bytes: u64) -> u64 {
    const ENTRIES: u64 = 512;
    let pages = memory_bytes / crate::limits::PAGE_SIZE;
    let leaves = pages.div_ceil(ENTRIES);
    2 + 2 + leaves.div_ceil(ENTRIES) + leaves + pages
}

/// What a boot module holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ModuleDigest {
    /// The module's name.
    pub name: Name,
    /// Its bytes.
    pub bytes: u64,
    /// [`digest`] of them.
    pub digest: [u8; DIGEST_BYTES],
}

const _: () = {
    // Entries follow it, of eight bytes' alignment.
    assert!(size_of::<Header>() == 40 + DEFAULTS_BYTES && size_of::<Header>().is_multiple_of(8));
    assert!(size_of::<ModuleDigest>() == 40);
};

/// SipHash-2-4 of 128 bits over `bytes`, with a key of zeros: tells a module that was changed on its way, or is another build's. It is no
/// signature: nobody signs the manifest either.
pub fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut hasher = SipHasher24::new();
    hasher.write(bytes);
    hasher.finish128().as_bytes()
}

/// Adler-32 of `bytes` (RFC 1950, section 8.2): guards against a truncated or mixed-up module, not against an attacker.
pub fn checksum(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

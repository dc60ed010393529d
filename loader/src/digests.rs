//! Whether a module is what the manifest says: one that was changed on its way, or is another build's, is named and refused.

use crate::modules::Module;
use abi::manifest::{ModuleDigest, digest};
use core::fmt;

/// Why a module is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The manifest does not know it.
    Unknown,
    /// It is longer or shorter: what it should have, in bytes.
    Length(u64),
    /// Something in it is not what it was.
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Unknown => f.write_str("the manifest has no digest of it"),
            Damage::Length(bytes) => write!(f, "it should have {bytes} bytes, and has not"),
            Damage::Content => f.write_str("its content is not what it was when the manifest was made"),
        }
    }
}

/// Checks a module whose bytes are `file`.
///
/// # Errors
/// [`Damage`].
pub fn check(digests: &[ModuleDigest], module: &Module, file: &[u8]) -> Result<(), Damage> {
    let known = digests.iter().find(|known| known.name == module.name).ok_or(Damage::Unknown)?;
    if known.bytes != file.len() as u64 {
        return Err(Damage::Length(known.bytes));
    }
    if digest(file) == known.digest { Ok(()) } else { Err(Damage::Content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::PhysAddr;
    use abi::limits::Name;

    #[test]
    fn every_bit_counts() {
        let mut file: Vec<u8> = (0..1000_u32).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
        let name = Name::new("pager-demand").expect("short");
        let module = Module { name, start: PhysAddr::new(0x20_0000), bytes: 1000 };
        let digests = [ModuleDigest { name, bytes: 1000, digest: digest(&file) }];
        assert_eq!(check(&digests, &module, &file), Ok(()));
        for bit in 0..8000 {
            file[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&digests, &module, &file), Err(Damage::Content), "bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(check(&digests, &module, &file[..999]), Err(Damage::Length(1000)));
        assert_eq!(check(&[], &module, &file), Err(Damage::Unknown));
        let other = Module { name: Name::new("pager").expect("short"), ..module };
        assert_eq!(check(&digests, &other, &file), Err(Damage::Unknown));
    }
}

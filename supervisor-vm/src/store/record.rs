//! A record: what is kept under a key, or that nothing is any more.

use super::block::HOLDS;
use alloc::vec::Vec;

/// Bytes in front of a key.
const HEADER: usize = 6;
/// Bytes of a value at most.
pub const VALUE_MOST: usize = 2048;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The private key of the host. Its key is empty.
    HostKey,
    /// Which start of the machine the rest is of. Its key is empty.
    Boot,
    /// A VM that has a name, which is the key.
    Vm,
    /// A token, by its name.
    Token,
    /// The quota of a tenant, by its name.
    Quota,
    /// An image that was put, by its name.
    Image,
    /// Whose a virtual disk is, by the disk's name.
    Disk,
    /// How much a tenant's virtual disks may have, by its name.
    DiskQuota,
}

impl Kind {
    const ALL: [Kind; 8] =
        [Kind::HostKey, Kind::Boot, Kind::Vm, Kind::Token, Kind::Quota, Kind::Image, Kind::Disk, Kind::DiskQuota];

    const fn raw(self) -> u8 {
        match self {
            Kind::HostKey => 1,
            Kind::Boot => 2,
            Kind::Vm => 3,
            Kind::Token => 4,
            Kind::Quota => 5,
            Kind::Image => 6,
            Kind::Disk => 7,
            Kind::DiskQuota => 8,
        }
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'b> {
    /// What it is about.
    pub kind: Kind,
    /// Its key, at most 255 bytes.
    pub key: &'b [u8],
    /// What is kept from now on, at most [`VALUE_MOST`] bytes; `None`: nothing is any more.
    pub value: Option<&'b [u8]>,
}

impl Record<'_> {
    /// Its bytes; `None` where key or value are too long.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let key = u8::try_from(self.key.len()).ok()?;
        let value = self.value.unwrap_or_default();
        let length = u16::try_from(value.len()).ok().filter(|_| value.len() <= VALUE_MOST)?;
        let mut bytes = Vec::with_capacity(HEADER + self.key.len() + value.len());
        bytes.extend([self.kind.raw(), u8::from(self.value.is_none()), key, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.key);
        bytes.extend(value);
        Some(bytes)
    }
}

const _: () = assert!(HEADER + 255 + VALUE_MOST <= HOLDS);

/// The first record in these bytes, and those behind it; `None` for what is none.
pub fn take(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let ([kind, gone, key, 0, low, high], rest) = bytes.split_first_chunk::<HEADER>()? else { return None };
    let kind = Kind::ALL.into_iter().find(|known| known.raw() == *kind)?;
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    let (key, rest) = rest.split_at_checked(usize::from(*key))?;
    let (value, rest) = rest.split_at_checked(length).filter(|_| length <= VALUE_MOST)?;
    let value = match gone {
        0 => Some(value),
        1 if value.is_empty() => None,
        _ => return None,
    };
    Some((Record { kind, key, value }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_found_as_they_were_put() {
        let long = [1; VALUE_MOST + 1];
        let of = |key, value| Record { kind: Kind::Vm, key, value };
        let all = [of(b"a", Some(&b"xyz"[..])), of(b"", None), of(&long[..255], Some(&long[..VALUE_MOST]))];
        let bytes: Vec<u8> = all.iter().flat_map(|record| record.to_bytes().expect("short")).collect();
        let mut rest = &bytes[..];
        for record in &all {
            let (found, behind) = take(rest).expect("a record");
            assert_eq!(&found, record);
            rest = behind;
        }
        assert!(rest.is_empty() && take(rest).is_none());
        assert_eq!(of(&long[..256], None).to_bytes(), None);
        assert_eq!(of(b"", Some(&long)).to_bytes(), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            &[0, 0, 0, 0, 0, 0][..],
            &[9, 0, 0, 0, 0, 0],
            &[1, 2, 0, 0, 0, 0],
            &[1, 1, 0, 0, 1, 0, 9],
            &[1, 0, 0, 1, 0, 0],
            &[1, 0, 1, 0, 0, 0],
            &[1, 0, 0, 0, 2, 0, 9],
            &[1, 0, 0, 0, 0],
        ] {
            assert_eq!(take(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some((record, rest)) = take(&bytes) {
                let back = record.to_bytes().expect("it was one");
                prop_assert_eq!(&bytes[..bytes.len() - rest.len()], &back[..]);
            }
        }
    }
}

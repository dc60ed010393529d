//! What somebody says of a tenant's quota, in one set of words: on the operator's line, over SSH and HTTP, in fleet files and in `system.toml`.
#![no_std]
#![forbid(unsafe_code)]

mod change;

pub use change::Change;

use abi::flow::Flow;
use abi::limits::PAGE_SIZE;
use abi::quota::Quota;

/// The word for no limit.
pub const UNLIMITED: &str = "unlimited";

/// What is to be another one of a quota; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// What the core has: VMs, frames, bytes of the pool, VMs that come in and bytes that are sent in a second.
    pub of_core: Change,
    /// Blocks of virtual disks, `None` inside for any number. The operator's VM has that.
    pub disk: Option<Option<u64>>,
}

impl TenantChange {
    /// The words for its parts.
    pub const KEYS: [&'static str; 6] = ["vms", "memory", "disk", "pool", "wakes", "rate"];

    /// Takes a part, by its word.
    ///
    /// # Errors
    ///
    /// What this part takes.
    pub fn take(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let size = || pages(value).ok_or("bytes, as 64M or 512K, whole pages of 4 KiB, or unlimited");
        match (key, value) {
            ("vms", UNLIMITED) => self.of_core.vms = Some(Quota::ANY_VMS),
            ("vms", value) => {
                let vms = value.parse().ok().filter(|&vms| vms != Quota::ANY_VMS);
                self.of_core.vms = Some(vms.ok_or("a number of VMs, or unlimited")?);
            }
            ("memory", UNLIMITED) => self.of_core.frames = Some(Quota::ANY_FRAMES),
            ("memory", _) => self.of_core.frames = Some(size()?),
            ("disk", UNLIMITED) => self.disk = Some(None),
            ("disk", _) => self.disk = Some(Some(size()?)),
            ("pool", UNLIMITED) => self.of_core.pool = Some(Quota::ANY_POOL),
            ("pool", _) => self.of_core.pool = Some(size()?.saturating_mul(PAGE_SIZE)),
            ("wakes", UNLIMITED) => self.of_core.wakes = Some(0),
            ("wakes", value) => {
                let wakes = value.parse().ok().filter(|&wakes| wakes != 0 && wakes != Flow::STAYS);
                self.of_core.wakes = Some(wakes.ok_or("VMs in a second, at least 1, or unlimited")?);
            }
            ("rate", UNLIMITED) => self.of_core.rate = Some(0),
            ("rate", value) => {
                let rate = bytes(value).and_then(|bytes| u32::try_from(bytes).ok());
                let rate = rate.filter(|&rate| rate != 0 && rate != Flow::STAYS);
                self.of_core.rate = Some(rate.ok_or("bytes in a second, as 125000 or 2M, below 4G, or unlimited")?);
            }
            _ => return Err("vms, memory, disk, pool, wakes or rate"),
        }
        Ok(())
    }
}

/// So many bytes, with a unit or without.
#[must_use]
pub fn bytes(size: &str) -> Option<u64> {
    let digits = size.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = size.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The pages of so many bytes: whole ones.
#[must_use]
pub fn pages(size: &str) -> Option<u64> {
    Some(bytes(size).filter(|bytes| bytes.is_multiple_of(PAGE_SIZE))? / PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(parts: &[(&str, &str)]) -> Result<TenantChange, &'static str> {
        let mut change = TenantChange::default();
        parts.iter().try_for_each(|(key, value)| change.take(key, value)).map(|()| change)
    }

    #[test]
    fn each_word_takes_what_it_should() {
        let all = [("vms", "3"), ("memory", "8M"), ("disk", "1GiB"), ("pool", "64K"), ("wakes", "7"), ("rate", "2M")];
        let of_core =
            Change { vms: Some(3), frames: Some(2048), pool: Some(64 << 10), wakes: Some(7), rate: Some(2 << 20) };
        assert_eq!(change(&all), Ok(TenantChange { of_core, disk: Some(Some(1 << 18)) }));
        assert!(all.iter().map(|(key, _)| *key).eq(TenantChange::KEYS));
        let none = TenantChange::KEYS.map(|key| (key, UNLIMITED));
        let none = change(&none).expect("each can be without a limit");
        assert_eq!(
            (none.of_core.of(Quota::NONE), none.of_core.flow(), none.disk),
            (Quota::NONE, Flow::NONE, Some(None))
        );
        let had = Quota { vms: 1, frames: 2, pool: 3 };
        assert_eq!(change(&[("vms", "0")]).map(|change| change.of_core.of(had)), Ok(Quota { vms: 0, ..had }));
    }

    #[test]
    fn what_is_none_is_refused_with_what_would_be_one() {
        for (key, value, says) in [
            ("vms", "-1", "a number of VMs"),
            ("vms", "4294967295", "a number of VMs"),
            ("memory", "5000", "whole pages"),
            ("memory", "1", "whole pages"),
            ("disk", "", "whole pages"),
            ("pool", "-1", "whole pages"),
            ("wakes", "0", "at least 1"),
            ("wakes", "4294967295", "at least 1"),
            ("rate", "0", "below 4G"),
            ("rate", "4GiB", "below 4G"),
            ("cpus", "1", "vms, memory, disk"),
        ] {
            assert!(change(&[(key, value)]).is_err_and(|takes| takes.contains(says)), "{key} {value}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (size, count) in
            [("1", Some(1)), ("2B", Some(2)), ("3K", Some(3072)), ("1MiB", Some(1 << 20)), ("1GB", None)]
        {
            assert_eq!(bytes(size), count, "{size}");
        }
        assert_eq!((bytes(""), bytes("99999999999999999999"), bytes("18446744073709551615G")), (None, None, None));
        assert_eq!((pages("8K"), pages("1"), pages("0")), (Some(2), None, Some(0)));
    }
}

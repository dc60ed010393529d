//! What somebody wants a tenant's quota to be.

use crate::wanted::{bytes, pages};
use abi::flow::Flow;
use abi::limits::PAGE_SIZE;
use abi::quota::{Change, Quota};

/// The word for no limit.
pub const UNLIMITED: &str = "unlimited";

/// What is to be another one of a quota; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// What the core has: VMs, frames, bytes of the pool, VMs that come in and bytes that are sent in a second.
    pub of_core: Change,
    /// Blocks of virtual disks, `None` inside for any number.
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

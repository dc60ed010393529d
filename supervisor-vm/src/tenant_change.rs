//! What somebody wants a tenant's quota to be.

use crate::wanted::pages;
use abi::limits::PAGE_SIZE;
use abi::quota::{Change, Quota};

/// The word for no limit.
pub const UNLIMITED: &str = "unlimited";

/// What is to be another one of a quota; what is not said stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// What the core has: VMs, frames and bytes of the pool.
    pub of_core: Change,
    /// Blocks of virtual disks, `None` inside for any number.
    pub disk: Option<Option<u64>>,
}

impl TenantChange {
    /// The words for its parts.
    pub const KEYS: [&'static str; 4] = ["vms", "memory", "disk", "pool"];

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
            _ => return Err("vms, memory, disk or pool"),
        }
        Ok(())
    }
}

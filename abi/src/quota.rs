//! What the VMs of a tenant may take together. The core keeps it, whatever components and policies do.

use crate::flow::Flow;
use crate::message::{BadMessage, Words};
use crate::tenant::Tenant;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the living VMs of a tenant may be together: how many, and the frames that they may hold, which are the sum of their limits
/// ([`crate::claim::Claim::limit`]). So what was allowed at a VM's creation stays so, and no VM that lives ever fails by its tenant's quota.
/// What those that are out may take of the pool is asked when one goes out: it stays in otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Quota {
    /// VMs that may live, or [`Quota::ANY_VMS`].
    pub vms: u32,
    /// Frames that they may hold, or [`Quota::ANY_FRAMES`].
    pub frames: u64,
    /// Bytes of the pool that those that are out may take, or [`Quota::ANY_POOL`]. What lies on the disks does not count.
    pub pool: u64,
}

impl Quota {
    /// [`Quota::vms`] of a tenant that may have any number.
    pub const ANY_VMS: u32 = u32::MAX;
    /// [`Quota::frames`] of a tenant whose VMs may hold as many as they can.
    pub const ANY_FRAMES: u64 = u64::MAX;
    /// [`Quota::pool`] of a tenant whose VMs may take all of the pool.
    pub const ANY_POOL: u64 = u64::MAX;
    /// No quota.
    pub const NONE: Quota = Quota { vms: Quota::ANY_VMS, frames: Quota::ANY_FRAMES, pool: Quota::ANY_POOL };

    /// The number of VMs, where it is limited.
    #[must_use]
    pub fn most_vms(self) -> Option<u32> {
        Some(self.vms).filter(|&vms| vms != Quota::ANY_VMS)
    }

    /// The number of frames, where it is limited.
    #[must_use]
    pub fn most_frames(self) -> Option<u64> {
        Some(self.frames).filter(|&frames| frames != Quota::ANY_FRAMES)
    }

    /// The bytes of the pool, where they are limited.
    #[must_use]
    pub fn most_pool(self) -> Option<u64> {
        Some(self.pool).filter(|&bytes| bytes != Quota::ANY_POOL)
    }
}

impl Words for Quota {
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.vms.put(words, at);
        self.frames.put(words, at);
        self.pool.put(words, at);
    }

    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        Ok(Quota {
            vms: Words::take(kind, words, at)?,
            frames: Words::take(kind, words, at)?,
            pool: Words::take(kind, words, at)?,
        })
    }
}

/// What a tenant may have, as the manifest says it and as boot leaves it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TenantQuota {
    /// Whose: [`Tenant::raw`].
    pub tenant: u32,
    /// [`Quota::vms`].
    pub vms: u32,
    /// [`Quota::frames`].
    pub frames: u64,
    /// [`Quota::pool`].
    pub pool: u64,
    /// [`Flow::wakes`].
    pub wakes: u32,
    /// [`Flow::rate`].
    pub rate: u32,
}

impl TenantQuota {
    /// That of the tenant with this number.
    #[must_use]
    pub const fn new(tenant: u32, Quota { vms, frames, pool }: Quota, Flow { wakes, rate }: Flow) -> TenantQuota {
        TenantQuota { tenant, vms, frames, pool, wakes, rate }
    }

    /// Whose it is; `None` for what is no tenant's name.
    #[must_use]
    pub fn tenant(&self) -> Option<Tenant> {
        Tenant::from_raw(self.tenant).filter(|tenant| !tenant.is_unsaid())
    }

    /// What its VMs may take together.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        Quota { vms: self.vms, frames: self.frames, pool: self.pool }
    }

    /// What they may do in each second.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        Flow { wakes: self.wakes, rate: self.rate }
    }
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(
        size_of::<TenantQuota>() == 32 && offset_of!(TenantQuota, vms) == 4 && offset_of!(TenantQuota, frames) == 8
    );
    assert!(
        offset_of!(TenantQuota, pool) == 16
            && offset_of!(TenantQuota, wakes) == 24
            && offset_of!(TenantQuota, rate) == 28
    );
};

/// A VM that was not created because of its tenant: the value of [`crate::control::ControlReply::Done`] then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Whose it was to be.
    pub tenant: Tenant,
    /// Frames that it was to be allowed to hold.
    pub frames: u32,
}

impl Beyond {
    /// The frames in bits 63..32, the tenant's number in bits 31..0.
    #[must_use]
    pub fn raw(self) -> u64 {
        u64::from(self.frames) << 32 | u64::from(self.tenant.raw())
    }

    /// What [`Beyond::raw`] gave; `None` for what is no tenant's number.
    #[must_use]
    pub fn from_raw(raw: u64) -> Option<Beyond> {
        // Both are halves of it.
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        let tenant = Tenant::from_raw(half(raw)).filter(|tenant| !tenant.is_unsaid())?;
        Some(Beyond { tenant, frames: half(raw >> 32) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_there_or_not() {
        let none = Quota::NONE;
        assert_eq!((none.most_vms(), none.most_frames(), none.most_pool()), (None, None, None));
        let quota = Quota { vms: 0, frames: 3, pool: 0 };
        assert_eq!((quota.most_vms(), quota.most_frames(), quota.most_pool()), (Some(0), Some(3), Some(0)));
    }

    #[test]
    fn who_was_refused_is_one_word() {
        let tenant = Tenant::new("------").expect("a name");
        for frames in [0, 1, u32::MAX] {
            let beyond = Beyond { tenant, frames };
            assert_eq!(Beyond::from_raw(beyond.raw()), Some(beyond));
        }
        assert_eq!(Beyond::from_raw(7 << 32), None, "nobody's");
        assert_eq!(Beyond::from_raw(u64::MAX), None, "no name's number");
    }
}

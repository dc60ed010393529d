//! Whether the VMs that a machine starts with are within the quotas of their tenants. Pure.

use crate::options::VmRequest;
use abi::limits::{MAX_TENANTS, PAGE_SIZE};
use abi::manifest::Image;
use abi::quota::TenantQuota;
use abi::tenant::Tenant;
use core::fmt;

/// More is asked for than the quota of a tenant allows. `Display` is a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// So many VMs, and so many may be.
    Vms(Tenant, u64, u32),
    /// VMs that could hold so many frames together, and so many they may.
    Memory(Tenant, u64, u64),
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |frames: u64| frames.saturating_mul(PAGE_SIZE / 1024);
        match *self {
            OverQuota::Vms(tenant, asked, quota) => write!(
                f,
                "'vms=' asks for {asked} VMs of the tenant {tenant}, whose quota is {quota}; ask for fewer, or raise 'vms' of the [[tenant]] in system.toml"
            ),
            OverQuota::Memory(tenant, asked, quota) => write!(
                f,
                "'vms=' asks for VMs of the tenant {tenant} that may hold {}KiB together, and its quota is {}KiB; ask for fewer or lower their 'limit', or raise 'memory' of the [[tenant]] in system.toml",
                kib(asked),
                kib(quota)
            ),
        }
    }
}

/// Looks at all that is asked for.
///
/// # Errors
/// The first tenant of which more is asked for than it may have.
pub fn check(
    quotas: &[TenantQuota],
    images: &[Image],
    requests: impl Iterator<Item = VmRequest>,
) -> Result<(), OverQuota> {
    let mut sums = [(0_u64, 0_u64); MAX_TENANTS];
    for request in requests {
        let Some(image) = images.get(request.image as usize) else { continue };
        let named = quotas.iter().zip(&mut sums).find(|(quota, _)| quota.tenant == image.tenant);
        let Some((_, (vms, frames))) = named else { continue };
        let each = image.claim().with_disk(request.disk.or(image.disk)).limit;
        *vms += u64::from(request.count);
        *frames = frames.saturating_add(u64::from(each).saturating_mul(request.count.into()));
    }
    for (told, (vms, frames)) in quotas.iter().zip(sums) {
        let (Some(tenant), quota) = (told.tenant(), told.quota()) else { continue };
        if let Some(most) = quota.most_vms().filter(|&most| vms > most.into()) {
            return Err(OverQuota::Vms(tenant, vms, most));
        }
        if let Some(most) = quota.most_frames().filter(|&most| frames > most) {
            return Err(OverQuota::Memory(tenant, frames, most));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest_test::image;
    use abi::attachment::Attachment;
    use abi::flow::Flow;
    use abi::quota::Quota;

    fn tenant(name: &str) -> u32 {
        Tenant::new(name).expect("a name").raw()
    }

    #[test]
    fn what_is_asked_for_is_within_the_quotas_or_refused_with_its_sum() {
        let (blue, red) = (tenant("blue"), tenant("red"));
        // Each of their VMs may hold 300 frames.
        let images = [
            image("own"),
            Image { tenant: blue, ..image("a") },
            Image { tenant: blue, ..image("b") },
            Image { tenant: red, ..image("c") },
        ];
        let ask = |quotas: &[TenantQuota], counts: &[(u32, u32)], disk| {
            let requests = counts.iter().map(|&(image, count)| VmRequest { image, count, disk });
            check(quotas, &images, requests).map_err(|error| error.to_string())
        };
        let told = |tenant, vms, frames| TenantQuota::new(tenant, Quota { vms, frames, ..Quota::NONE }, Flow::NONE);
        let quota = |vms, frames| told(blue, vms, frames);
        let three = [told(red, 0, 0), quota(3, Quota::ANY_FRAMES)];
        assert_eq!(ask(&three, &[(0, 9), (1, 1), (2, 2)], Attachment::NONE), Ok(()));
        assert_eq!(
            ask(&three, &[(1, 1), (2, 3)], Attachment::NONE),
            Err("'vms=' asks for 4 VMs of the tenant blue, whose quota is 3; ask for fewer, or raise 'vms' of the [[tenant]] in system.toml".into())
        );
        assert!(
            ask(&three, &[(3, 1)], Attachment::NONE).is_err_and(|why| why.contains("the tenant red, whose quota is 0"))
        );
        let memory = [quota(Quota::ANY_VMS, 1200)];
        assert_eq!(ask(&memory, &[(1, 4)], Attachment::NONE), Ok(()));
        assert_eq!(
            ask(&memory, &[(1, 5)], Attachment::NONE),
            Err("'vms=' asks for VMs of the tenant blue that may hold 6000KiB together, and its quota is 4800KiB; ask for fewer or lower their 'limit', or raise 'memory' of the [[tenant]] in system.toml".into())
        );
        let web = Attachment::parse("web:ro").expect("a name");
        assert!(ask(&memory, &[(1, 4)], web).is_err(), "what their disks take counts");
        assert!(ask(&memory, &[(1, u32::MAX); 9], web).is_err(), "no sum is too large");
    }
}

//! What the operator says of a tenant's quota, and is told when it refuses a VM.

use crate::host::Host;
use abi::control::{ControlReply, status};
use abi::limits::PAGE_SIZE;
use abi::quota::Beyond;
use quota_words::{Change, TenantChange};

/// What `tenants` takes.
pub(crate) const TAKES: &str = "[NAME vms=N memory=SIZE pool=SIZE wakes=N rate=SIZE]";

/// `vms=N`, `memory=SIZE`, `pool=SIZE`, `wakes=N`, `rate=SIZE` or several, each `unlimited` or a number; `None` for anything else. What virtual disks may
/// have, the operator's VM knows.
pub(crate) fn change(text: &str) -> Option<Change> {
    let mut said = TenantChange::default();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=')?;
        said.take(key, value).ok()?;
    }
    Some(said.of_core).filter(|change| said.disk.is_none() && *change != Change::default())
}

/// Prints why a VM was refused with this status because of its tenant, of whom the core says `reply`, and what to do.
pub(crate) fn say(word: &str, refused: u32, beyond: Beyond, reply: ControlReply, host: &mut impl Host) {
    let Beyond { tenant, frames } = beyond;
    let kib = |frames: u64| frames.saturating_mul(PAGE_SIZE / 1024);
    let ControlReply::Tenant { vms, frames: held, quota, .. } = reply else {
        return host.print(format_args!("error {word}: the quota of the tenant {tenant} was in the way; try again"));
    };
    let would = held.saturating_add(frames.into());
    match (refused, quota.most_frames()) {
        (status::OVER_MEMORY, Some(most)) => host.print(format_args!(
            "error {word}: with this one the VMs of the tenant {tenant} could hold {}KiB, and their quota is {}KiB; say a smaller limit=, end one of them, or write \"tenants {tenant} memory={}KiB\"",
            kib(would),
            kib(most),
            kib(would)
        )),
        _ => host.print(format_args!(
            "error {word}: the tenant {tenant} may have no more VMs: its quota is {}, and {vms} live; end one of them, or write \"tenants {tenant} vms={}\"",
            quota.vms,
            vms.saturating_add(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::flow::Flow;
    use abi::quota::Quota;

    #[test]
    fn a_change_is_a_word_or_two() {
        let had = Quota { vms: 3, frames: 5, pool: 9 };
        let of = |text| change(text).map(|change| change.of(had));
        assert_eq!(of("vms=7"), Some(Quota { vms: 7, ..had }));
        assert_eq!(of(" memory=64KiB "), Some(Quota { frames: 16, ..had }));
        assert_eq!(of("vms=0  memory=0"), Some(Quota { vms: 0, frames: 0, ..had }));
        assert_eq!(of("pool=64KiB vms=1"), Some(Quota { vms: 1, pool: 64 << 10, ..had }));
        assert_eq!(change("rate=1MiB").map(Change::flow), Some(Flow { rate: 1 << 20, ..Flow::UNCHANGED }));
        for wrong in ["", "vms", "vms=", "wakes=0", "memory=1", "disk=1M", "vms=1 disk=unlimited", "vms=1 x"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}

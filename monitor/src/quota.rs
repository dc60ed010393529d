//! What the operator says of a tenant's quota, and is told when it refuses a VM.

use crate::host::Host;
use crate::terms::long;
use abi::control::{ControlReply, status};
use abi::flow::Flow;
use abi::limits::PAGE_SIZE;
use abi::quota::{Beyond, Change, Quota};

/// What `tenants` takes.
pub(crate) const TAKES: &str = "[NAME vms=N memory=SIZE pool=SIZE wakes=N rate=SIZE]";

/// `vms=N`, `memory=SIZE`, `pool=SIZE`, `wakes=N`, `rate=SIZE` or several, each `unlimited` or a number; `None` for anything else.
pub(crate) fn change(text: &str) -> Option<Change> {
    let mut change = Change::default();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match word.split_once('=')? {
            ("vms", "unlimited") => change.vms = Some(Quota::ANY_VMS),
            ("vms", value) => change.vms = Some(value.parse().ok().filter(|&vms| vms != Quota::ANY_VMS)?),
            ("memory", "unlimited") => change.frames = Some(Quota::ANY_FRAMES),
            ("memory", value) => {
                change.frames = Some(long(value).filter(|bytes| bytes.is_multiple_of(PAGE_SIZE))? / PAGE_SIZE);
            }
            ("pool", "unlimited") => change.pool = Some(Quota::ANY_POOL),
            ("pool", value) => change.pool = Some(long(value).filter(|&bytes| bytes != Quota::ANY_POOL)?),
            ("wakes", "unlimited") => change.wakes = Some(0),
            ("wakes", value) => {
                change.wakes = Some(value.parse().ok().filter(|&wakes| wakes != 0 && wakes != Flow::STAYS)?)
            }
            ("rate", "unlimited") => change.rate = Some(0),
            ("rate", value) => {
                let rate = u32::try_from(long(value)?).ok().filter(|&rate| rate != 0 && rate != Flow::STAYS)?;
                change.rate = Some(rate);
            }
            _ => return None,
        }
    }
    (change != Change::default()).then_some(change)
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

    #[test]
    fn a_change_is_a_word_or_two() {
        let had = Quota { vms: 3, frames: 5, pool: 9 };
        let of = |text| change(text).map(|change| change.of(had));
        assert_eq!(of("vms=7"), Some(Quota { vms: 7, ..had }));
        assert_eq!(of(" memory=64KiB "), Some(Quota { frames: 16, ..had }));
        assert_eq!(of("vms=0  memory=0"), Some(Quota { vms: 0, frames: 0, ..had }));
        assert_eq!(of("pool=1000"), Some(Quota { pool: 1000, ..had }));
        assert_eq!(of("pool=64KiB vms=1"), Some(Quota { vms: 1, pool: 64 << 10, ..had }));
        assert_eq!(of("vms=unlimited memory=unlimited pool=unlimited"), Some(Quota::NONE));
        assert_eq!(change("wakes=7").map(Change::flow), Some(Flow { wakes: 7, ..Flow::UNCHANGED }));
        assert_eq!(change("rate=1MiB").map(Change::flow), Some(Flow { rate: 1 << 20, ..Flow::UNCHANGED }));
        assert_eq!(change("vms=1 wakes=unlimited rate=unlimited").map(Change::flow), Some(Flow::NONE));
        for wrong in [
            "wakes=0",
            "rate=0",
            "rate=4GiB",
            "wakes=4294967295",
            "",
            "vms",
            "vms=",
            "vms=x",
            "vms=4294967295",
            "memory=1",
            "memory=5000",
            "disk=1",
            "vms=1 x",
            "pool=",
            "pool=-1",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}

//! Whether VMs may have to go out, and where to, judged before anything is placed. Pure.

use crate::options::{Options, VmRequest};
use crate::vms::MOST_SLOT_BYTES;
use abi::limits::PAGE_SIZE;
use abi::manifest::Image;

/// Where VMs may have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// All stay in.
    Nowhere,
    /// To the disks, where there are any, and to no pool: `pool=0`.
    Disks,
    /// Into a pool, and from there to the disks.
    Pool,
}

/// Where VMs that go out may have to go, where `free_frames` are not taken yet: into a pool where the boot options ask for one, or the VMs with
/// their reserves may not fit beside what core and components still take. The core, which knows what is left then, decides; this says
/// [`Out::Nowhere`] only where it will decide so, too.
pub fn out(options: &Options, requests: impl Iterator<Item = VmRequest>, images: &[Image], free_frames: u64) -> Out {
    if let Some(bytes) = options.pool_bytes {
        return if bytes == 0 { Out::Disks } else { Out::Pool };
    }
    let reserve = |request: VmRequest| {
        let image = images.get(request.image as usize)?;
        let claim = image.claim().with_disk(request.disk.or(image.disk));
        Some(u64::from(claim.reserve) * u64::from(request.count))
    };
    let wanted: u64 = requests.filter_map(reserve).sum();
    let tables = u64::from(options.slots.unwrap_or(0)) * MOST_SLOT_BYTES / PAGE_SIZE;
    // Half of the memory for components is far more than they ever take.
    if wanted > free_frames.saturating_sub(tables) / 2 { Out::Pool } else { Out::Nowhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest_test::image;
    use abi::attachment::Attachment;

    fn options(pool_bytes: Option<u64>, slots: Option<u32>) -> Options {
        Options { pool_bytes, slots, ..Options::default() }
    }

    #[test]
    fn where_all_surely_fit_none_is_needed() {
        let mut images = [image("small"), image("large")];
        images[1].reserve_frames = 100;
        let each = u64::from(images[0].reserve_frames);
        let needed = |options: &Options, image, count, free| {
            let request = VmRequest { image, count, disk: Attachment::NONE };
            out(options, [request, request].into_iter(), &images, free) == Out::Pool
        };
        let unsaid = options(None, None);
        assert_eq!([0, 1].map(|more| needed(&unsaid, 0, 10, 40 * each - more)), [false, true]);
        assert_eq!([0, 1].map(|more| needed(&unsaid, 1, 10, 4_000 - more)), [false, true]);
        assert!(!needed(&unsaid, 7, 10, 0), "an image that is not there has no VMs");
        let slots = options(None, Some(1 << 20));
        assert_eq!([130_000, 200_000].map(|free| needed(&slots, 1, 10, free)), [true, false]);
        let said = [Some(0), Some(4096)].map(|pool| options(pool, None));
        assert_eq!([needed(&said[0], 1, 1_000_000, 10), needed(&said[1], 0, 1, 1 << 20)], [false, true]);
        assert_eq!(out(&said[0], [].into_iter(), &images, 1 << 20), Out::Disks);
    }
}

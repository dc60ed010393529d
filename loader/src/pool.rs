//! Whether VMs may have to go out, judged before anything is placed. Pure.

use crate::options::{Options, VmRequest};
use crate::vms::MOST_SLOT_BYTES;
use abi::limits::PAGE_SIZE;
use abi::manifest::Image;

/// Whether there may be a pool for VMs that are out, where `free_frames` are not taken yet: the boot options ask for one, or the VMs with
/// their reserves may not fit beside what core and components still take. The core, which knows what is left then, decides; this says
/// no only where it will decide so, too.
pub fn may_be_needed(
    options: &Options,
    requests: impl Iterator<Item = VmRequest>,
    images: &[Image],
    free_frames: u64,
) -> bool {
    if let Some(bytes) = options.pool_bytes {
        return bytes != 0;
    }
    let reserve = |request: VmRequest| {
        let image = images.get(request.image as usize)?;
        let claim = image.claim().with_disk(request.disk.or(image.disk));
        Some(u64::from(claim.reserve) * u64::from(request.count))
    };
    let wanted: u64 = requests.filter_map(reserve).sum();
    let tables = u64::from(options.slots.unwrap_or(0)) * MOST_SLOT_BYTES / PAGE_SIZE;
    // Half of the memory for components is far more than they ever take.
    wanted > free_frames.saturating_sub(tables) / 2
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
            may_be_needed(options, [request, request].into_iter(), &images, free)
        };
        let unsaid = options(None, None);
        assert_eq!([0, 1].map(|more| needed(&unsaid, 0, 10, 40 * each - more)), [false, true]);
        assert_eq!([0, 1].map(|more| needed(&unsaid, 1, 10, 4_000 - more)), [false, true]);
        assert!(!needed(&unsaid, 7, 10, 0), "an image that is not there has no VMs");
        let slots = options(None, Some(1 << 20));
        assert_eq!([130_000, 200_000].map(|free| needed(&slots, 1, 10, free)), [true, false]);
        let said = [Some(0), Some(4096)].map(|pool| options(pool, None));
        assert_eq!([needed(&said[0], 1, 1_000_000, 10), needed(&said[1], 0, 1, 1 << 20)], [false, true]);
    }
}

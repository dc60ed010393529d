//! What a controller says of an image that it gives a running machine ([`crate::control::ControlRequest::ImageBegin`]): it lies in the request
//! page, and its pages follow one by one.

use crate::boot::{Program, program};
use crate::limits::{IMAGE_PAGES_MAX, Name, PAGE_SIZE};
use crate::manifest;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a [`NewImage`].
pub const BYTES: usize = core::mem::size_of::<NewImage>();
/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// An image: what its VMs are like, where its segments lie, and a digest by which whoever has sent it knows it again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NewImage {
    /// As a manifest would have it. Its module has no name, and its flags are 0: VMs of such an image never control the machine.
    pub entry: manifest::Image,
    /// Its segments: `pristine` and `tail` are 0, `bytes` is how many of its first bytes come as pages.
    pub program: Program,
    /// SHA-256 of the file that it was made of. The core keeps it, and does not look at it.
    pub digest: [u8; DIGEST_BYTES],
}

impl NewImage {
    /// Its pages in the order in which they come: those of each segment that hold bytes of the file.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.program.segments().iter().map(|segment| segment.bytes.div_ceil(PAGE_SIZE)).fold(0, u64::saturating_add)
    }

    /// Bytes of the page of this number; the rest of it is zeros. `None` behind the last one.
    #[must_use]
    pub fn bytes_of(&self, page: u64) -> Option<u64> {
        let mut before = 0;
        for segment in self.program.segments() {
            let pages = segment.bytes.div_ceil(PAGE_SIZE);
            if page - before < pages {
                return Some((segment.bytes - (page - before) * PAGE_SIZE).min(PAGE_SIZE));
            }
            before += pages;
        }
        None
    }

    /// Whether it is one that a running machine could take, as far as its place in the machine goes: it has a name, comes as no module, names
    /// no component, and asks for nothing that only those who boot the machine may give. What it says of itself is not judged.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        let manifest::Image { name, module, net, pager, flags, .. } = &self.entry;
        let known = !name.is_empty() && name.as_str() != "?" && *module == Name::EMPTY;
        let served = [net, pager].iter().all(|&&by| by == manifest::ANY);
        let placed = self.program.segments().iter().any(|segment| segment.pristine != 0 || segment.tail != 0);
        let program = self.program.state == program::GOOD;
        let fits = (1..=IMAGE_PAGES_MAX as u64).contains(&self.pages());
        known && served && *flags == 0 && program && !placed && fits
    }
}

const _: () = {
    assert!(BYTES == 232 + 352 + DIGEST_BYTES && BYTES <= crate::request_page::BYTES);
    assert!(core::mem::offset_of!(NewImage, program) == 232 && core::mem::offset_of!(NewImage, digest) == 584);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Segment;
    use zerocopy::FromZeros;

    fn image(bytes: &[u64]) -> NewImage {
        let mut image = NewImage::new_zeroed();
        image.entry.name = Name::new("a").expect("short");
        (image.entry.net, image.entry.pager) = (manifest::ANY, manifest::ANY);
        image.program.segment_count = u32::try_from(bytes.len()).expect("few");
        for (segment, &bytes) in image.program.segments.iter_mut().zip(bytes) {
            *segment = Segment { bytes, ..Segment::default() };
        }
        image
    }

    #[test]
    fn pages_come_segment_by_segment() {
        let image = image(&[0x1000, 0, 0x1801, 1]);
        assert_eq!(image.pages(), 4);
        let bytes: [Option<u64>; 5] = core::array::from_fn(|page| image.bytes_of(page as u64));
        assert_eq!(bytes, [Some(0x1000), Some(0x1000), Some(0x801), Some(1), None]);
    }

    #[test]
    fn what_only_those_who_boot_may_give_nobody_sends() {
        assert!(image(&[1]).is_ordinary());
        assert!(image(&[IMAGE_PAGES_MAX as u64 * PAGE_SIZE]).is_ordinary());
        assert!(!image(&[]).is_ordinary() && !image(&[0]).is_ordinary());
        assert!(!image(&[IMAGE_PAGES_MAX as u64 * PAGE_SIZE + 1]).is_ordinary());
        assert!(!image(&[u64::MAX, u64::MAX]).is_ordinary());
        let lies: [fn(&mut NewImage); 8] = [
            |image| image.entry.flags = manifest::image_flags::CONTROL,
            |image| image.entry.flags = manifest::image_flags::LAZY,
            |image| image.entry.net = 0,
            |image| image.entry.pager = 1,
            |image| image.entry.module = image.entry.name,
            |image| image.entry.name = Name::EMPTY,
            |image| image.program.segments[0].pristine = 0x1000,
            |image| image.program.segments[0].tail = 0x1000,
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            let mut image = image(&[1]);
            lie(&mut image);
            assert!(!image.is_ordinary(), "{number}");
        }
    }
}

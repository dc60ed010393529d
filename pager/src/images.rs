//! The golden images' segments, as the core has described them.

use crate::policy::Oddity;
use abi::limits::{LIVE_IMAGES, MAX_SEGMENTS};
use abi::vm::ImageId;

/// One segment of an image. Page numbers are the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    first: u32,
    pages: u32,
    file_pages: u32,
    writable: bool,
}

impl Segment {
    /// A segment of `pages` pages from page `first`, of which `file_pages` come from the image; `None` where that makes no
    /// sense.
    pub fn new(first: u32, pages: u32, file_pages: u32, writable: bool) -> Option<Segment> {
        first.checked_add(pages)?;
        (file_pages <= pages).then_some(Segment { first, pages, file_pages, writable })
    }

    /// Whether the guest may write to it.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Whether `page` is one of those that come from the image.
    #[inline]
    fn has_file_page(&self, page: u32) -> bool {
        page.wrapping_sub(self.first) < self.file_pages
    }

    /// The file pages around `page`: those of the aligned cluster of `cluster` pages (a power of two) that `page` is in,
    /// cut to the segment's and to pages below `end`. `page` must be a file page below `end`.
    #[inline]
    pub fn cluster(&self, page: u32, cluster: u32, end: u32) -> (u32, u32) {
        let aligned = page & !(cluster - 1);
        let first = aligned.max(self.first);
        let last = (page | (cluster - 1)).min(self.first + (self.file_pages - 1)).min(end - 1);
        (first, last - first + 1)
    }
}

#[derive(Clone, Copy, Debug)]
struct Image {
    segments: [Segment; MAX_SEGMENTS],
    count: usize,
}

/// The segments of all images.
#[derive(Debug)]
pub struct Images([Image; LIVE_IMAGES]);

impl Images {
    /// No segments.
    pub const fn new() -> Self {
        let segment = Segment { first: 0, pages: 0, file_pages: 0, writable: false };
        Images([Image { segments: [segment; MAX_SEGMENTS], count: 0 }; LIVE_IMAGES])
    }

    /// Forgets all segments.
    pub fn clear(&mut self) {
        for image in &mut self.0 {
            image.count = 0;
        }
    }

    /// Forgets the segments of `image`: its number may be another one's.
    pub fn forget(&mut self, image: ImageId) {
        if let Some(image) = self.0.get_mut(image.index()) {
            image.count = 0;
        }
    }

    /// Adds a segment to `image`.
    ///
    /// # Errors
    ///
    /// [`Oddity::BadSegment`] beyond [`LIVE_IMAGES`] and [`MAX_SEGMENTS`].
    pub fn add(&mut self, image: ImageId, segment: Segment) -> Result<(), Oddity> {
        let bad = Oddity::BadSegment(image);
        let image = self.0.get_mut(image.index()).ok_or(bad)?;
        *image.segments.get_mut(image.count).ok_or(bad)? = segment;
        image.count += 1;
        Ok(())
    }

    /// The segment by which `page` comes from the file of `image`; `None` for a page of zeros.
    #[inline]
    pub fn file_segment(&self, image: u8, page: u32) -> Option<&Segment> {
        let image = self.0.get(usize::from(image))?;
        image.segments.iter().take(image.count).find(|segment| segment.has_file_page(page))
    }
}

impl Default for Images {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(first: u32, pages: u32, file_pages: u32) -> Segment {
        Segment::new(first, pages, file_pages, false).expect("makes sense")
    }

    #[test]
    fn clusters_are_aligned_and_cut() {
        let text = segment(0x21, 40, 30);
        assert_eq!(text.cluster(0x21, 8, 4096), (0x21, 7));
        assert_eq!(text.cluster(0x2a, 8, 4096), (0x28, 8));
        assert_eq!(text.cluster(0x3e, 8, 4096), (0x38, 7));
        assert_eq!(text.cluster(0x3a, 8, 0x3c), (0x38, 4));
        assert_eq!(text.cluster(0x3a, 1, 4096), (0x3a, 1));
    }

    #[test]
    fn clusters_at_the_end_of_the_numbers() {
        let last = segment(u32::MAX - 3, 3, 3);
        assert_eq!(last.cluster(u32::MAX - 1, 8, u32::MAX), (u32::MAX - 3, 3));
    }

    #[test]
    fn senseless_segments() {
        assert_eq!(Segment::new(u32::MAX, 1, 0, false), None);
        assert_eq!(Segment::new(5, 3, 4, false), None);
    }

    #[test]
    fn zero_pages_are_not_file_pages() {
        let mut images = Images::new();
        images.add(ImageId::new(3), segment(10, 4, 2)).expect("first");
        images.add(ImageId::new(3), segment(20, 4, 4)).expect("second");
        assert_eq!(images.file_segment(3, 11), Some(&segment(10, 4, 2)));
        assert_eq!(images.file_segment(3, 23), Some(&segment(20, 4, 4)));
        for page in [0, 9, 12, 13, 14, 19, 24, u32::MAX] {
            assert_eq!(images.file_segment(3, page), None);
        }
        assert_eq!(images.file_segment(2, 11), None);
        images.add(ImageId::new(4), segment(10, 4, 2)).expect("another");
        images.forget(ImageId::new(3));
        images.forget(ImageId::new(u32::MAX));
        assert_eq!((images.file_segment(3, 11), images.file_segment(4, 11)), (None, Some(&segment(10, 4, 2))));
        for first in 0..8 {
            images.add(ImageId::new(3), segment(first, 1, 1)).expect("there is room for all of its successor's");
        }
        images.clear();
        assert_eq!(images.file_segment(3, 1), None);
    }

    #[test]
    fn limits() {
        let mut images = Images::new();
        for i in 0..u32::try_from(MAX_SEGMENTS).expect("small") {
            images.add(ImageId::new(0), segment(i, 1, 1)).expect("fits");
        }
        assert_eq!(images.add(ImageId::new(0), segment(99, 1, 1)), Err(Oddity::BadSegment(ImageId::new(0))));
        assert_eq!(images.add(ImageId::new(48), segment(1, 1, 1)), Err(Oddity::BadSegment(ImageId::new(48))));
    }
}

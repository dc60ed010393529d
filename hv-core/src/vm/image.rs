//! One guest image: what a boot module or whoever has sent it holds, page by page, as golden frames that its VMs share.

use super::image_pages::ImagePages;
use crate::component::EndpointId;
use crate::memory::PhysAddr;
use abi::boot::{self, program, segment};
use abi::image::NewImage;
use abi::limits::{MAX_SEGMENTS, Name, PAGE_SHIFT, PAGE_SIZE};
use abi::manifest;
use backend::Rights;

/// One segment in pages.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// First guest page.
    pub first: u32,
    /// Pages.
    pub pages: u32,
    /// Of these, pages whose content comes from the image; the rest are zero.
    pub file_pages: u32,
    /// What the guest may do there; `None`: the segment is a hole.
    pub rights: Option<Rights>,
    golden: Golden,
}

/// Where the golden frames of a segment are.
#[derive(Clone, Copy, Debug)]
enum Golden {
    /// One behind the other from here on, as boot has placed them; and that of the last page where the image fills only a part of it.
    Placed(PhysAddr, Option<PhysAddr>),
    /// From this place on among the pages that were sent.
    Sent(u32),
}

/// One guest image.
pub struct Image {
    /// Its manifest entry.
    pub entry: manifest::Image,
    /// First instruction.
    pub start: u64,
    /// Its segments.
    pub segments: heapless::Vec<Segment, MAX_SEGMENTS>,
    /// First page behind all segments: from here on, all is memory without anything in it.
    pub end: u32,
    /// Who serves the NICs of its VMs, and who their page faults.
    pub net: EndpointId,
    /// See `net`.
    pub pager: EndpointId,
    /// What was sent of it, if it did not come with the machine.
    pub sent: Option<Sent>,
}

/// What is known only of an image that was sent.
pub struct Sent {
    /// Its golden frames.
    pub pages: ImagePages,
    /// What its sender said of it.
    pub said: NewImage,
}

impl Segment {
    /// Whether the guest may write there.
    pub fn writable(&self) -> bool {
        self.rights.is_some_and(|rights| rights.write)
    }
}

impl Image {
    /// The image that boot has placed and the record's check found good; `None` for one that was refused.
    pub fn new(entry: manifest::Image, program: &boot::Program) -> Option<Self> {
        if program.state != program::GOOD {
            return None;
        }
        let placed = |from: &boot::Segment| {
            let tail = (from.tail != 0).then_some(PhysAddr::new(from.tail));
            Golden::Placed(PhysAddr::new(from.pristine), tail)
        };
        Self::with(entry, program, placed)
    }

    /// An image that is sent, which was found good. Its pages are to come.
    pub fn sent(said: &NewImage) -> Option<Self> {
        let mut pages = 0;
        let mut image = Self::with(said.entry, &said.program, |from| {
            let first = pages;
            // No more than an image has.
            pages += u32::try_from(from.bytes.div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX);
            Golden::Sent(first)
        })?;
        image.sent = Some(Sent { pages: ImagePages::EMPTY, said: *said });
        Some(image)
    }

    fn with(
        entry: manifest::Image,
        program: &boot::Program,
        mut golden: impl FnMut(&boot::Segment) -> Golden,
    ) -> Option<Self> {
        let mut segments = heapless::Vec::new();
        let mut end = 0;
        for from in program.segments() {
            let (write, execute) = (from.flags & segment::WRITE != 0, from.flags & segment::EXECUTE != 0);
            let segment = Segment {
                first: u32::try_from(from.address >> PAGE_SHIFT).ok()?,
                pages: from.pages,
                file_pages: u32::try_from(from.bytes.div_ceil(PAGE_SIZE)).ok()?,
                rights: (from.flags & segment::HOLE == 0).then_some(Rights { write, execute }),
                golden: golden(from),
            };
            end = end.max(segment.first + segment.pages);
            segments.push(segment).ok()?;
        }
        let nobody = EndpointId::NONE;
        Some(Image { entry, start: program.entry, segments, end, net: nobody, pager: nobody, sent: None })
    }

    /// What the guest may do with a page; `None` in a hole. All memory that is in no segment can be written and not executed, but
    /// for the page at address 0, which is a hole.
    pub fn rights(&self, page: u32) -> Option<Rights> {
        if page == 0 {
            return None;
        }
        let within = |segment: &&Segment| page.wrapping_sub(segment.first) < segment.pages;
        self.segments.iter().find(within).map_or(Some(Rights::READ_WRITE), |segment| segment.rights)
    }

    /// The golden frame for a guest page.
    #[inline]
    pub fn golden(&self, page: u32) -> Option<PhysAddr> {
        self.golden_in(self.filled(page)?, page)
    }

    /// The golden frame for a guest page, and what the guest may do there as long as it is shared.
    #[inline]
    pub fn shared(&self, page: u32) -> Option<(PhysAddr, Rights)> {
        let segment = self.filled(page)?;
        let rights = Rights { write: false, ..segment.rights? };
        Some((self.golden_in(segment, page)?, rights))
    }

    /// Of up to `count` pages from this one on those whose golden frames lie one behind the other: the first frame, how many, and what the guest may do there as
    /// long as they are shared.
    pub fn shared_run(&self, page: u32, count: u32) -> Option<(PhysAddr, u32, Rights)> {
        let segment = self.filled(page)?;
        let rights = Rights { write: false, ..segment.rights? };
        let left = segment.first + segment.file_pages - page;
        let together = match segment.golden {
            Golden::Placed(_, None) => left,
            // The last one lies elsewhere.
            Golden::Placed(_, Some(_)) => left.saturating_sub(1).max(1),
            Golden::Sent(_) => 1,
        };
        Some((self.golden_in(segment, page)?, together.min(count), rights))
    }

    /// The segment in which the image fills this page.
    #[inline]
    fn filled(&self, page: u32) -> Option<&Segment> {
        self.segments.iter().find(|segment| page.wrapping_sub(segment.first) < segment.file_pages)
    }

    #[inline]
    fn golden_in(&self, segment: &Segment, page: u32) -> Option<PhysAddr> {
        let index = page - segment.first;
        match segment.golden {
            Golden::Placed(_, Some(tail)) if index + 1 == segment.file_pages => Some(tail),
            Golden::Placed(first, _) => Some(first.offset(u64::from(index) << PAGE_SHIFT)),
            Golden::Sent(first) => self.sent.as_ref()?.pages.get(first + index),
        }
    }

    /// Its name.
    pub fn name(&self) -> Name {
        self.entry.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(golden: Golden) -> Image {
        let all = Rights { write: true, execute: true };
        let segment = Segment { first: 32, pages: 9, file_pages: 6, rights: Some(all), golden };
        let hole = Segment { first: 50, pages: 1, file_pages: 1, rights: None, golden };
        let nobody = EndpointId::NONE;
        Image {
            entry: zerocopy::FromZeros::new_zeroed(),
            start: 0,
            segments: heapless::Vec::from_slice(&[segment, hole]).expect("room"),
            end: 51,
            net: nobody,
            pager: nobody,
            sent: None,
        }
    }

    #[test]
    fn frames_in_a_row_are_those_of_the_pages_one_by_one() {
        let (first, tail) = (PhysAddr::new(1 << 30), PhysAddr::new(1 << 20));
        for (golden, lasts) in [(Golden::Placed(first, None), 6), (Golden::Placed(first, Some(tail)), 5)] {
            let image = image(golden);
            for page in 30..52 {
                for count in 0..9 {
                    let run = image.shared_run(page, count);
                    assert_eq!(run.is_some(), image.shared(page).is_some(), "{page}");
                    let Some((frame, together, rights)) = run else { continue };
                    let expected = if page - 32 < lasts { (lasts - (page - 32)).min(count) } else { 1.min(count) };
                    assert_eq!(
                        (together, rights),
                        (expected, Rights { write: false, execute: true }),
                        "{page} {count}"
                    );
                    for by in 0..together {
                        let frame = frame.offset(u64::from(by) << PAGE_SHIFT);
                        assert_eq!(image.shared(page + by), Some((frame, rights)), "{page} {by}");
                    }
                }
            }
        }
    }
}

//! Guest images: what a boot module holds, page by page, as golden frames that VMs share.

use crate::component::EndpointId;
use crate::memory::PhysAddr;
use abi::boot::{self, program, segment};
use abi::limits::{MAX_IMAGES, MAX_SEGMENTS, Name, PAGE_SHIFT, PAGE_SIZE};
use abi::manifest;
use abi::service::Service;
use abi::vm::ImageId;
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
    /// Frame of the first page.
    golden: PhysAddr,
    /// Frame of the last page from the image, where the image fills only a part of it.
    tail: Option<PhysAddr>,
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
}

impl Segment {
    /// Whether the guest may write there.
    pub fn writable(&self) -> bool {
        self.rights.is_some_and(|rights| rights.write)
    }
}

/// All guest images, as the manifest numbers them; `None` where the module is missing or bad.
pub struct Images(heapless::Vec<Option<Image>, MAX_IMAGES>);

impl Image {
    /// The image that boot has placed and the record's check found good; `None` for one that was refused.
    pub fn new(entry: manifest::Image, program: &boot::Program) -> Option<Self> {
        if program.state != program::GOOD {
            return None;
        }
        let mut segments = heapless::Vec::new();
        let mut end = 0;
        for from in program.segments() {
            let (write, execute) = (from.flags & segment::WRITE != 0, from.flags & segment::EXECUTE != 0);
            let segment = Segment {
                first: u32::try_from(from.address >> PAGE_SHIFT).ok()?,
                pages: from.pages,
                file_pages: u32::try_from(from.bytes.div_ceil(PAGE_SIZE)).ok()?,
                rights: (from.flags & segment::HOLE == 0).then_some(Rights { write, execute }),
                golden: PhysAddr::new(from.pristine),
                tail: (from.tail != 0).then_some(PhysAddr::new(from.tail)),
            };
            end = end.max(segment.first + segment.pages);
            segments.push(segment).ok()?;
        }
        let nobody = EndpointId::NONE;
        Some(Image { entry, start: program.entry, segments, end, net: nobody, pager: nobody })
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
        let segment = self.segments.iter().find(|segment| page.wrapping_sub(segment.first) < segment.file_pages)?;
        let index = page - segment.first;
        match segment.tail {
            Some(tail) if index + 1 == segment.file_pages => Some(tail),
            _ => Some(segment.golden.offset(u64::from(index) << PAGE_SHIFT)),
        }
    }

    /// Its name.
    pub fn name(&self) -> Name {
        self.entry.name
    }
}

impl Images {
    /// None yet.
    pub const fn new() -> Self {
        Images(heapless::Vec::new())
    }

    /// Add the next one in the manifest's order; one that was refused has nothing. There is room for as many as a manifest names.
    pub fn add(&mut self, image: Option<Image>) {
        let _ = self.0.push(image);
    }

    /// Find who serves the VMs of each image: `find` is given the number of a component, or one that none has ([`manifest::ANY`]),
    /// and a service.
    pub fn connect(&mut self, find: impl Fn(usize, Service) -> EndpointId) {
        for image in self.0.iter_mut().flatten() {
            image.net = find(image.entry.net.into(), Service::Net);
            image.pager = find(image.entry.pager.into(), Service::Pager);
        }
    }

    /// The image of this name.
    #[inline]
    pub fn get(&self, id: ImageId) -> Option<&Image> {
        self.0.get(id.index())?.as_ref()
    }

    /// The image of this name, to be changed.
    #[cfg(test)]
    pub fn get_mut(&mut self, id: ImageId) -> Option<&mut Image> {
        self.0.get_mut(id.index())?.as_mut()
    }

    /// Whether VMs of any of them start with the first packet for them.
    pub fn has_lazy(&self) -> bool {
        self.0.iter().flatten().any(|image| image.entry.starts_lazily())
    }

    /// How many the manifest names.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

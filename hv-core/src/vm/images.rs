//! Guest images: what a boot module holds, page by page, as golden frames that VMs share.

use crate::boot::elf::Elf;
use crate::component::EndpointId;
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
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
    /// The image in a module that starts at the frame-aligned `module` and was checked to be `elf`. Allocates a frame for
    /// every page that the file fills only in part. `None` when there is none, or a segment reaches beyond 4 GiB pages.
    pub fn new(entry: manifest::Image, id: ImageId, module: PhysAddr, elf: &Elf, frames: &mut Frames) -> Option<Self> {
        let mut segments = heapless::Vec::new();
        let mut end = 0;
        for segment in &elf.segments {
            let file_pages = u32::try_from(segment.file_pages()).ok()?;
            let golden = module.offset(segment.file_offset);
            let rest = segment.file_bytes % PAGE_SIZE;
            let tail = if rest == 0 {
                None
            } else {
                let frame = frames.alloc_zeroed(Owner::Golden(id.number()), file_pages - 1)?;
                let from = core_memory(golden.offset(segment.file_bytes - rest), rest);
                from.copy_to(0, &core_memory(frame, PAGE_SIZE), 0, usize::try_from(rest).ok()?)?;
                Some(frame)
            };
            let segment = Segment {
                first: u32::try_from(segment.address >> PAGE_SHIFT).ok()?,
                pages: u32::try_from(segment.pages()).ok()?,
                file_pages,
                rights: (!segment.hole).then_some(Rights { write: segment.write, execute: segment.execute }),
                golden,
                tail,
            };
            end = end.max(segment.first + segment.pages);
            segments.push(segment).ok()?;
        }
        let nobody = EndpointId::NONE;
        Some(Image { entry, start: elf.entry, segments, end, net: nobody, pager: nobody })
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
    /// The images in the manifest's order.
    pub fn new(list: heapless::Vec<Option<Image>, MAX_IMAGES>) -> Self {
        Images(list)
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

    /// How many the manifest names.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

//! The guest images of the machine, by their numbers.

use super::image::Image;
use super::incoming::Incoming;
use crate::component::EndpointId;
use abi::attachment::Attachment;
use abi::limits::{LIVE_IMAGES, Name};
use abi::manifest;
use abi::service::Service;
use abi::vm::ImageId;

/// All guest images: first as the manifest numbers them, `None` where the module is missing or bad; behind them those that were sent, `None` where
/// one was forgotten.
pub struct Images {
    list: heapless::Vec<Option<Image>, LIVE_IMAGES>,
    /// How many the manifest names.
    booted: usize,
    /// Who serves the NICs of VMs whose image does not say, and who their page faults.
    anyone: (EndpointId, EndpointId),
    /// One that is being sent, for the first place that is free.
    pub incoming: Option<Incoming>,
    /// Virtual disks that VMs which control the machine were given beside what the manifest says.
    given: heapless::Vec<Name, GIVEN>,
    /// Whether there were more of these.
    gave_more: bool,
}

/// Virtual disks that are kept so: as many as VMs can control the machine at a time, and some that have come before.
const GIVEN: usize = 2 * abi::guest_control::MAX_CONTROL_VMS;

impl Images {
    /// None yet.
    pub const fn new() -> Self {
        let anyone = (EndpointId::NONE, EndpointId::NONE);
        Images {
            list: heapless::Vec::new(),
            booted: 0,
            anyone,
            incoming: None,
            given: heapless::Vec::new(),
            gave_more: false,
        }
    }

    /// Add the next one in the manifest's order; one that was refused has nothing. There is room for as many as a manifest names.
    pub fn add(&mut self, image: Option<Image>) {
        let _ = self.list.push(image);
        self.booted = self.list.len();
    }

    /// Find who serves the VMs of each image: `find` is given the number of a component, or one that none has ([`manifest::ANY`]),
    /// and a service.
    pub fn connect(&mut self, find: impl Fn(usize, Service) -> EndpointId) {
        let any = usize::from(manifest::ANY);
        self.anyone = (find(any, Service::Net), find(any, Service::Pager));
        for image in self.list.iter_mut().flatten() {
            image.net = find(image.entry.net.into(), Service::Net);
            image.pager = find(image.entry.pager.into(), Service::Pager);
        }
    }

    /// The image of this name.
    #[inline]
    pub fn get(&self, id: ImageId) -> Option<&Image> {
        self.list.get(id.index())?.as_ref()
    }

    /// The image of this name, to be changed.
    #[cfg(test)]
    pub fn get_mut(&mut self, id: ImageId) -> Option<&mut Image> {
        self.list.get_mut(id.index())?.as_mut()
    }

    /// The image of this name in words.
    pub fn named(&self, name: Name) -> Option<&Image> {
        self.list.iter().flatten().find(|image| image.name() == name)
    }

    /// A VM of this image has this virtual disk: boot or the operator's line may have named it.
    pub fn note_disk(&mut self, image: ImageId, disk: Name) {
        let controls = self.get(image).is_some_and(|image| image.entry.controls());
        if controls && !disk.is_empty() && !self.keep(disk) {
            self.gave_more |= self.given.push(disk).is_err();
        }
    }

    /// Whether VMs that control the machine have this virtual disk, by the manifest, or had it since the machine's start: what they keep there, keys among it, is
    /// nobody else's. Where they had more than can be noted, each may be one of these.
    pub fn keep(&self, disk: Name) -> bool {
        let of = |image: &Image| image.entry.controls() && image.entry.disk.disk == disk;
        !disk.is_empty() && (self.gave_more || self.given.contains(&disk) || self.list.iter().flatten().any(of))
    }

    /// Whether a VM of an image, for which this virtual disk was named or none, would get one that is [kept](Self::keep) for those of others.
    pub fn withhold(&self, image: ImageId, named: Attachment) -> bool {
        let Some(Image { entry, .. }) = self.get(image) else { return false };
        let disk = named.or(entry.disk).disk;
        self.keep(disk) && !(entry.controls() && entry.disk.disk == disk)
    }

    /// The number of the next image that is sent; `None` when there are as many as can be.
    pub fn next(&self) -> Option<ImageId> {
        let free = self.list.iter().skip(self.booted).position(Option::is_none);
        let index = free.map_or(self.list.len(), |behind| self.booted + behind);
        u32::try_from(index).ok().filter(|_| index < LIVE_IMAGES).map(ImageId::new)
    }

    /// The image that is being sent takes the place that was the next. False, and nothing has changed, when there is none, or the place is not free.
    #[must_use]
    pub fn settle(&mut self) -> bool {
        let Some(id) = self.incoming.as_ref().map(|incoming| incoming.id) else { return false };
        if id.index() > self.list.len() || id.index() >= LIVE_IMAGES || self.get(id).is_some() {
            return false;
        }
        if id.index() == self.list.len() {
            // There is room: it is below the limit.
            let _ = self.list.push(None);
        }
        self.list[id.index()] = self.incoming.take().map(Incoming::into_image);
        if let Some(image) = self.list[id.index()].as_mut() {
            (image.net, image.pager) = self.anyone;
        }
        true
    }

    /// An image that was sent is there no more. `None` for any other.
    pub fn take(&mut self, id: ImageId) -> Option<Image> {
        self.get(id)?.sent.as_ref()?;
        self.list.get_mut(id.index())?.take()
    }

    /// Whether VMs of any of them start with the first packet for them.
    pub fn has_lazy(&self) -> bool {
        self.list.iter().flatten().any(|image| image.entry.starts_lazily())
    }

    /// How many numbers there are, of images that are there and others.
    pub fn len(&self) -> usize {
        self.list.len()
    }
}

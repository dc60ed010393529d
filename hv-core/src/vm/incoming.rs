//! An image that a controller is sending: what of it is there.

use super::image::{Image, Sent};
use crate::component::EndpointId;
use crate::memory::{Frames, PhysAddr};
use abi::vm::ImageId;

/// An image that is being sent.
pub struct Incoming {
    /// By whom.
    pub from: EndpointId,
    /// The number that it is going to have.
    pub id: ImageId,
    image: Image,
}

/// What is expected next of an image that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The page of this number, with so many bytes.
    Page(u32, u16),
    /// Nothing: all is there.
    End,
}

impl Incoming {
    /// Nothing of it is there yet. `None` for an image that is not sent.
    pub fn new(from: EndpointId, id: ImageId, image: Image) -> Option<Self> {
        image.sent.is_some().then_some(Incoming { from, id, image })
    }

    fn sent(&mut self) -> Option<&mut Sent> {
        self.image.sent.as_mut()
    }

    /// What is to come next.
    pub fn next(&mut self) -> Next {
        let Some(Sent { pages, said }) = self.sent() else { return Next::End };
        let bytes = said.bytes_of(pages.count().into()).and_then(|bytes| u16::try_from(bytes).ok());
        bytes.map_or(Next::End, |bytes| Next::Page(pages.count(), bytes))
    }

    /// A cleared frame for the next page; `None` when there is none for it.
    pub fn page(&mut self, frames: &mut Frames) -> Option<PhysAddr> {
        let id = self.id;
        self.sent()?.pages.push(frames, id)
    }

    /// The whole image.
    pub fn into_image(self) -> Image {
        self.image
    }

    /// It does not come: its frames are free.
    pub fn drop_pages(self, frames: &mut Frames) {
        let Incoming { id, image, .. } = self;
        if let Some(Sent { pages, .. }) = image.sent {
            pages.release(frames, id);
        }
    }
}

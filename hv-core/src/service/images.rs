//! Images that controllers send to the running machine, page by page. What they say is an allegation: it is copied, judged by the rules that hold for
//! what boot brings, and VMs of such an image never get what only those who boot the machine may give. The frames are those that are kept for
//! nobody; they are free again when the controller ends before the image does, and when an image is removed, which no VM may be made of then.

use crate::board::Board;
use crate::boot::{check_layout, is_image};
use crate::component::{BadPiece, Endpoint, EndpointId};
use crate::kernel::{Cpu, Kernel};
use crate::memory::core_memory;
use crate::vm::{Image, Incoming, NextPart, Sent};
use abi::control::{ControlReply, status};
use abi::guest::IMAGE_BASE;
use abi::image::{BYTES, NewImage};
use abi::limits::{LIVE_IMAGES, MAX_SEGMENTS, PAGE_SIZE};
use abi::pager::PagerEvent;
use abi::request_page::Piece;
use abi::service::Service;
use abi::vm::ImageId;
use backend::Backend;
use zerocopy::{FromBytes, IntoBytes};

/// Status and value.
type Answer = (u32, u64);

const DONE: Answer = (status::OK, 0);

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Forget an image that was sent, or what this controller has sent of one.
    pub fn remove_image(&mut self, from: EndpointId, id: ImageId) -> ControlReply {
        let cpu = &mut self.cpu;
        if cpu.images.incoming.as_ref().is_some_and(|incoming| incoming.id == id && incoming.from == from) {
            cpu.drop_incoming(from);
            return answer(DONE);
        }
        if cpu.images.get(id).is_none_or(|image| image.sent.is_none()) {
            return answer((status::NOT_FOUND, 0));
        }
        let vms = self.vms.of_image(id);
        if vms != 0 {
            return answer((status::IN_USE, vms.into()));
        }
        if !cpu.pagers_have_space() {
            return answer((status::BUSY, 0));
        }
        if let Some(Image { sent: Some(Sent { pages, .. }), .. }) = cpu.images.take(id) {
            pages.release(&mut cpu.frames, id);
        }
        cpu.tell_pagers(PagerEvent::ImageGone { image: id });
        answer(DONE)
    }

    /// Write what is known of an image that was sent into the request page of this endpoint.
    pub fn image_details(&self, of: EndpointId, id: ImageId, to: Piece) -> ControlReply {
        let sent = self.cpu.images.get(id).and_then(|image| image.sent.as_ref());
        let (Some(endpoint), Some(sent)) = (self.cpu.endpoints.get(of), sent) else {
            return answer((status::NOT_FOUND, 0));
        };
        if usize::from(to.len) < BYTES {
            return answer((status::TOO_LONG, 0));
        }
        match endpoint.copy_out(sent.said.as_bytes(), to) {
            Ok(()) => answer((status::OK, self.vms.of_image(id).into())),
            Err(_) => answer((status::BAD_REQUEST, 0)),
        }
    }
}

impl<B: Backend, H: Board> Cpu<B, H> {
    /// A controller begins to send an image.
    pub fn begin_image(&mut self, from: EndpointId, piece: Piece) -> ControlReply {
        let mut copy = heapless::Vec::<u8, BYTES>::new();
        let copied = self.endpoints.get(from).map_or(Err(BadPiece::Outside), |party| party.copy_in(piece, &mut copy));
        let said = copied.ok().and_then(|()| NewImage::read_from_bytes(&copy).ok()).filter(can_be);
        let Some((said, image)) = said.and_then(|said| Some((said, Image::sent(&said)?))) else {
            return answer((status::BAD_REQUEST, 0));
        };
        self.drop_incoming(from);
        if self.images.incoming.is_some() {
            return answer((status::BUSY, 0));
        }
        if self.images.named(said.entry.name).is_some() {
            return answer((status::TAKEN, 0));
        }
        let Some(id) = self.images.next() else { return answer((status::NO_SPACE, LIVE_IMAGES as u64)) };
        if self.frames.spare() <= said.pages() {
            return answer((status::NO_FRAMES, self.frames.spare()));
        }
        self.images.incoming = Incoming::new(from, id, image);
        answer((status::OK, id.number().into()))
    }

    /// The next page of an image comes.
    pub fn image_page(&mut self, from: EndpointId, id: ImageId, page: u32, piece: Piece) -> ControlReply {
        let Self { images, frames, endpoints, .. } = self;
        let incoming = images.incoming.as_mut().filter(|incoming| incoming.from == from && incoming.id == id);
        let Some(incoming) = incoming else { return answer((status::NOT_FOUND, 0)) };
        let request = endpoints.get(from).and_then(|party| party.page.as_ref());
        let (Some(range), Some(request)) = (piece.range(), request) else { return answer((status::BAD_REQUEST, 0)) };
        if incoming.next() != NextPart::Page(page, piece.len) {
            return answer((status::BAD_REQUEST, 0));
        }
        // One for the page, and perhaps one for the list of pages.
        let frame = if frames.spare() > 1 { incoming.page(frames) } else { None };
        let Some(frame) = frame else { return answer((status::NO_FRAMES, frames.spare())) };
        // Both lie within a page.
        let _ = request.copy_to(range.start, &core_memory(frame, PAGE_SIZE), 0, range.len());
        answer(DONE)
    }

    /// An image is whole: VMs can be made of it from now on.
    pub fn end_image(&mut self, from: EndpointId, id: ImageId) -> ControlReply {
        let incoming = self.images.incoming.as_mut().filter(|incoming| incoming.from == from && incoming.id == id);
        match incoming.map(Incoming::next) {
            None => return answer((status::NOT_FOUND, 0)),
            Some(NextPart::Page(..)) => return answer((status::BAD_REQUEST, 0)),
            Some(NextPart::End) if !self.pagers_have_space() => return answer((status::BUSY, 0)),
            Some(NextPart::End) => {}
        }
        // Its place is free: no other one was begun meanwhile.
        if !self.images.settle() {
            return answer((status::NO_SPACE, LIVE_IMAGES as u64));
        }
        for pager in self.endpoints.all(Service::Pager) {
            self.tell_image(pager, id);
        }
        answer(DONE)
    }

    /// Whatever this controller was sending does not come.
    pub fn drop_incoming(&mut self, from: EndpointId) {
        if let Some(incoming) = self.images.incoming.take_if(|incoming| incoming.from == from) {
            incoming.drop_pages(&mut self.frames);
        }
    }

    /// Whether each pager has space for what is said of an image.
    fn pagers_have_space(&mut self) -> bool {
        const { assert!(MAX_SEGMENTS <= 8) };
        self.endpoints.all(Service::Pager).all(|pager| {
            // A ring that is less than half full, of the pager's, has room for more than that.
            self.has_room(pager) && self.endpoints.get_mut(pager).is_some_and(Endpoint::has_space)
        })
    }

    fn tell_pagers(&mut self, event: PagerEvent) {
        for pager in self.endpoints.all(Service::Pager) {
            self.tell(pager, &event.into(), false);
        }
    }
}

/// Whether a controller may send this, and VMs could be like it.
fn can_be(said: &NewImage) -> bool {
    let NewImage { entry, program, .. } = said;
    said.is_ordinary() && is_image(entry) && check_layout(program, IMAGE_BASE, entry.memory_bytes, true).is_ok()
}

const fn answer((status, value): Answer) -> ControlReply {
    ControlReply::Done { status, value }
}

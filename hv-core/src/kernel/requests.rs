//! The VMs that the boot options ask for, created a few at a time: components are told of each, and must come to their turn
//! before their rings are full.

use super::Kernel;
use crate::board::Board;
use crate::boot::options::VmRequest;
use abi::limits::MAX_IMAGES;
use abi::service::Service;
use abi::vm::ImageId;
use backend::Backend;

/// VMs that are created before components come to their turn.
const BATCH: usize = 32;

/// What has still to be created; the last entry is the next.
pub struct Requests(heapless::Vec<VmRequest, MAX_IMAGES>);

impl Requests {
    /// In the order of the boot options.
    pub fn new(mut list: heapless::Vec<VmRequest, MAX_IMAGES>) -> Self {
        list.reverse();
        Requests(list)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Whether more of them can be created now: it is known which node this is, and the scheduler can be told.
    pub fn may_create(&mut self) -> bool {
        self.cpu.node.is_some() && self.cpu.has_room(self.cpu.endpoints.first(Service::Plan))
    }

    /// Create the next of the VMs that the boot options ask for.
    pub fn create_requested(&mut self) {
        for _ in 0..BATCH {
            let Some(request) = self.requests.0.last_mut() else { return };
            if request.count == 0 {
                self.requests.0.pop();
                continue;
            }
            if !self.cpu.has_room(self.cpu.endpoints.first(Service::Plan)) {
                return;
            }
            request.count -= 1;
            let left = request.count;
            // The manifest's images are fewer than 2^32.
            let image = ImageId::new(u32::try_from(request.image).unwrap_or(u32::MAX));
            if let Err(why) = self.create(image, &[0; abi::control::CREATE_ARGS_BYTES]) {
                log::error!(target: "core", "{} VMs of image {image} are not created: {why}", left + 1);
                self.requests.0.pop();
            }
        }
    }
}

//! The VMs that the boot options ask for. Boot has written them into the first slots before the loop starts; here they come to
//! live a few at a time: components are told of each, and must come to their turn before their rings are full.

use super::Kernel;
use crate::board::Board;
use abi::service::Service;
use backend::Backend;

/// VMs that come to live before components come to their turn.
const BATCH: usize = 32;

impl<B: Backend, H: Board> Kernel<B, H> {
    /// Whether there are some, and they can come to live now: it is known which node this is, and those who have to know can be told.
    pub fn may_create(&mut self) -> bool {
        !self.requested.is_empty() && self.cpu.node.is_some() && self.can_tell()
    }

    /// Whether there is room to tell of one more. Demultiplexers hear of those that are out.
    fn can_tell(&mut self) -> bool {
        if self.cpu.images.has_lazy() {
            self.cpu.all_have_room()
        } else {
            self.cpu.has_room(self.cpu.endpoints.first(Service::Plan))
        }
    }

    /// The next of the VMs that the boot options ask for come to live.
    pub fn create_requested(&mut self) {
        for _ in 0..BATCH {
            if !self.can_tell() {
                return;
            }
            let Some(slot) = self.requested.take() else { return };
            let created_tsc = self.cpu.board.now();
            if let Some(seed) = self.vms.bring_to_life(slot, created_tsc, self.cpu.stolen_ms(created_tsc)) {
                self.arrived(&seed);
            }
        }
    }
}

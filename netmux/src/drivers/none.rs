//! The driver for a machine without a NIC that we know: VMs reach each other, and nobody else.

use super::{Faults, Nic, Received};
use crate::frame::Mac;
use ring::SharedMemory;

/// No NIC. Frames of VMs are checked in one buffer.
pub struct NoNic {
    memory: SharedMemory,
}

impl NoNic {
    /// `None` when the memory cannot hold a frame.
    pub fn new(memory: SharedMemory) -> Option<Self> {
        (memory.len() >= abi::nic::MAX_FRAME.next_multiple_of(8)).then_some(NoNic { memory })
    }
}

impl Nic for NoNic {
    fn memory(&self) -> SharedMemory {
        self.memory
    }

    fn mac(&self) -> Mac {
        Mac::new([0; 6])
    }

    fn link_up(&self) -> bool {
        false
    }

    fn interrupt(&mut self) {}

    fn received(&mut self) -> Option<Received> {
        None
    }

    fn release(&mut self) {}

    fn buffer(&mut self) -> Option<usize> {
        Some(0)
    }

    /// The link is down, so nobody calls this; a frame would be lost like on a cable that leads nowhere.
    fn send(&mut self, _len: usize) {}

    fn flush(&mut self) {}

    fn interrupt_on_space(&mut self) -> bool {
        false
    }

    fn faults(&self) -> Faults {
        Faults::default()
    }
}

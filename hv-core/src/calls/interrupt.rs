//! External interrupts.

use crate::board::{Board, vectors};
use crate::kernel::Cpu;
use crate::log::say;
use abi::limits::MAX_DEVICES_PER_COMPONENT;
use abi::log::Record;
use backend::Backend;

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Serve an interrupt, wherever it was taken: the timer is the core's, everything else is a component's.
    pub fn interrupt(&mut self, vector: u8) {
        self.counters.interrupts += 1;
        match vector {
            vectors::TIMER => {
                self.armed = u64::MAX;
                self.attention.set_timer();
                self.board.end_of_interrupt();
            }
            vectors::GSI..vectors::TIMER => {
                let gsi = u32::from(vector - vectors::GSI);
                // Masked until the component has served the device; with a level-triggered line the acknowledgement would
                // else bring it again at once. A message that cannot be masked may come again: its bit is set already.
                self.board.mask(gsi);
                self.notify_devices(gsi);
                self.board.end_of_interrupt();
            }
            vectors::ERROR => {
                say(Record::ApicError);
                self.board.end_of_interrupt();
            }
            // Spurious ones, of the APIC and of the legacy controllers, must not be acknowledged (SDM vol. 3, section 11.9).
            _ => {}
        }
    }

    /// Tell every component that has a device on this line (lines may be shared).
    fn notify_devices(&mut self, gsi: u32) {
        let mut left = self.components.with_devices;
        while left != 0 {
            let rank = left.trailing_zeros() as usize;
            left &= left - 1;
            let bits = self.components.list[rank].interrupt_bits(gsi);
            if bits != 0 {
                self.notify(rank, bits);
            }
        }
    }

    /// A component that waits has served the devices whose bits are set: their interrupts may come again. Bits of none do nothing.
    #[inline(never)]
    pub(super) fn acknowledge_all(&mut self, rank: usize, devices: u64) {
        let mut left = devices & ((1 << MAX_DEVICES_PER_COMPONENT) - 1);
        while left != 0 {
            let device = left.trailing_zeros() as usize;
            left &= left - 1;
            let _ = self.acknowledge(rank, device);
        }
    }

    /// A component has served its device: the interrupt may come again. False for one that it does not have.
    #[must_use]
    pub(super) fn acknowledge(&mut self, rank: usize, device: usize) -> bool {
        let device = self.components.list[rank].devices.get(device);
        let gsi = device.and_then(|device| device.gsi);
        if let Some(gsi) = gsi {
            self.board.unmask(gsi);
        }
        gsi.is_some()
    }
}

//! External interrupts.

use super::Machine;
use crate::platform::vectors;
use abi::component::bits;
use backend::Backend;

impl<B: Backend> Machine<B> {
    /// Serve an interrupt, wherever it was taken: the timer is the core's, everything else is a component's.
    pub(super) fn interrupt(&mut self, vector: u8) {
        self.counters.interrupts += 1;
        match vector {
            vectors::TIMER => {
                self.armed = u64::MAX;
                self.timer_fired = true;
                self.hardware.end_of_interrupt();
            }
            vectors::GSI..vectors::TIMER => {
                let gsi = u32::from(vector - vectors::GSI);
                // Masked until the component has served the device; with a level-triggered line the acknowledgement would
                // else bring it again at once. A message that cannot be masked may come again: its bit is set already.
                self.hardware.mask(gsi);
                self.notify_devices(gsi);
                self.hardware.end_of_interrupt();
            }
            vectors::ERROR => {
                log::warn!(target: "core", "the local APIC reports an error");
                self.hardware.end_of_interrupt();
            }
            // Spurious ones, of the APIC and of the legacy controllers, must not be acknowledged (SDM vol. 3, section 11.9).
            _ => {}
        }
    }

    /// Tell every component that has a device on this line (lines may be shared).
    fn notify_devices(&mut self, gsi: u32) {
        for rank in 0..self.components.list.len() {
            let bits = self.components.list[rank]
                .devices
                .iter()
                .filter(|device| device.gsi == Some(gsi))
                .fold(0, |bits, device| bits | device.bit);
            if bits != 0 {
                self.components.notify(rank, bits);
            }
        }
    }

    /// A component has served its device.
    pub(super) fn acknowledge(&mut self, rank: usize, device: usize) -> bool {
        let found = self.components.list.get(rank).and_then(|component| component.devices.get(device));
        match found.and_then(|device| device.gsi) {
            Some(gsi) => {
                self.hardware.unmask(gsi);
                true
            }
            None => false,
        }
    }

    /// Let the interrupts of a component come: at its start, when nothing is being served.
    pub(super) fn open_interrupts(&mut self, rank: usize) {
        let Some(component) = self.components.list.get_mut(rank) else { return };
        component.notified &= !(bits::KICK | bits::PORT_IRQ);
        for device in &component.devices {
            if let Some(gsi) = device.gsi {
                self.hardware.unmask(gsi);
            }
        }
    }
}

//! Message-signalled interrupts: MSI-X where the device has it, else MSI (PCI Local Bus 3.0, section 6.8).
//!
//! A device gets one message. Its number counts on behind the global system interrupts, so that the rest of the core need
//! not know which of the two an interrupt is.

use super::msix::{CONTROL, MASKED, MsixTable};
use super::pci::PciDevice;
use super::vectors;

/// Where messages go (SDM vol. 3, section 11.11.1): the APIC id in bits 19..12.
const ADDRESS: u32 = 0xfee0_0000;
/// The messages of all devices.
#[derive(Debug, Default)]
pub struct Messages {
    /// The tables of those that can be masked: those with MSI-X.
    tables: heapless::Vec<Option<MsixTable>, { vectors::MESSAGE_COUNT as usize }>,
}

// SAFETY: the registers are the machine's, not a thread's.
unsafe impl Send for Messages {}

impl Messages {
    /// Has the device raise its interrupt by a message to the CPU with this APIC id, masked where it can be. Returns the
    /// number of the interrupt; `None` when the device has no messages, there is no vector left, or the id does not fit.
    pub fn route(&mut self, device: &PciDevice, apic_id: u32) -> Option<u32> {
        let index = u8::try_from(self.tables.len()).ok().filter(|&index| index < vectors::MESSAGE_COUNT)?;
        let destination = u8::try_from(apic_id).ok()?;
        let address = ADDRESS | u32::from(destination) << 12;
        // Fixed delivery, edge-triggered: the vector is all there is to say.
        let data = u32::from(vectors::MESSAGE + index);
        let table = device.send_messages(address, data)?;
        self.tables.push(table).ok()?;
        Some(u32::from(vectors::GSI_COUNT + index))
    }

    /// The table behind an interrupt's number, if it is a message that can be masked.
    #[inline]
    fn table(&self, number: u32) -> Option<MsixTable> {
        let index = number.checked_sub(u32::from(vectors::GSI_COUNT))?;
        *self.tables.get(usize::try_from(index).ok()?)?
    }

    /// True for a message that can be held back.
    pub fn can_mask(&self, number: u32) -> bool {
        self.table(number).is_some()
    }

    /// Holds the message back where the device can: what happens meanwhile is sent after [`Messages::unmask`] (section
    /// 6.8.3.4). Others come again at once, which costs time and loses nothing.
    #[inline]
    pub fn mask(&self, number: u32) {
        if let Some(table) = self.table(number) {
            table.write(0, CONTROL, MASKED);
        }
    }

    /// Lets the message come.
    #[inline]
    pub fn unmask(&self, number: u32) {
        if let Some(table) = self.table(number) {
            table.write(0, CONTROL, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    #[test]
    fn entry_0_gets_the_message_and_all_are_masked() {
        let mut memory = [7_u32; 12];
        let registers: NonNull<u32> = NonNull::from(&mut memory).cast();
        // SAFETY: three entries, used through the table alone meanwhile.
        let table = unsafe { MsixTable::new(registers, 3) };
        let mut messages = Messages::default();
        messages.tables.push(Some(table)).expect("room");
        messages.tables.push(None).expect("room");
        table.set_up(0xfee0_3000, 0xb0);
        // SAFETY: as above.
        let read = |word: usize| unsafe { registers.as_ptr().wrapping_add(word).read_volatile() };
        assert_eq!([0, 1, 2, 3].map(read), [0xfee0_3000, 0, 0xb0, MASKED]);
        assert_eq!([read(7), read(11), read(4)], [MASKED, MASKED, 7]);
        assert!(messages.can_mask(0x80) && !messages.can_mask(0x81));
        messages.unmask(0x80);
        assert_eq!(read(3), 0);
        // No message, one that cannot be masked, and none of ours.
        [17, 0x81, 0x82].into_iter().for_each(|number| messages.mask(number));
        assert_eq!(read(3), 0);
        messages.mask(0x80);
        assert_eq!(read(3), MASKED);
        // Beyond the table nothing is written.
        table.write(3, 0, 9);
        table.write(0, 4, 9);
        assert_eq!(read(4), 7);
    }
}

//! Going on with the rings of a driver that has died. A reset takes 15 ms, loses what has arrived, and QEMU's model takes no frame for a second after
//! RCTL was written.
//!
//! What is there is an allegation, by the NIC and by the predecessor: only where all is as this driver would have left it, it goes on.

use super::{
    DESCRIPTOR, E1000, INTERRUPTS, ITR, RAH_AV, RCTL, RX_DONE, Registers, Ring, TCTL, halves, narrow, reg, wide,
};
use crate::frame::Mac;

/// How often, and how long each time, in microseconds, it waits for frames to leave that the predecessor has given to the NIC.
const LOOKS: usize = 20;
const PAUSE: u32 = 500;
/// How often it looks at a receive ring that the NIC fills meanwhile.
const TRIES: usize = 4;

/// Offsets of a ring's registers from that of its address.
const HIGH: usize = 4;
const BYTES: usize = 8;
const HEAD: usize = 0x10;
const TAIL: usize = 0x18;

/// Where the driver goes on in the receive ring.
#[derive(Clone, Copy)]
struct Resumed {
    next: usize,
    /// Descriptors before it that are empty, and that the NIC has not been told of.
    released: usize,
}

impl<R: Registers> E1000<R> {
    /// Go on where the predecessor was. False when the NIC has to be reset; nothing is changed then.
    pub(super) fn take_over(&mut self, physical: u64, sleep: &mut impl FnMut(u32)) -> bool {
        let high = self.registers.read(reg::RAH0);
        let is_set_up = self.registers.read(reg::RCTL) == RCTL
            && self.registers.read(reg::TCTL) == TCTL
            && self.registers.read(reg::ITR) == ITR
            && high & RAH_AV != 0;
        if !is_set_up || !self.is_at(reg::RDBAL, self.rx, physical) || !self.is_at(reg::TDBAL, self.tx, physical) {
            return false;
        }
        let has_buffer = |index: usize| self.load(self.rx.word(index) - 8) == physical + wide(self.rx.buffer(index));
        if !(0..self.rx.count).all(has_buffer) {
            return false;
        }
        let Some(sent) = self.sent(sleep) else { return false };
        let Some(resumed) = (0..TRIES).find_map(|_| self.resumed()) else { return false };
        // The NIC has sent everything, and looks at none of them before it is told: records of segments leave other things in them.
        for index in 0..self.tx.count {
            self.store(self.tx.word(index) - 8, physical + wide(self.tx.buffer(index)));
        }
        let [a, b, c, d] = self.registers.read(reg::RAL0).to_le_bytes();
        let [e, f, ..] = high.to_le_bytes();
        self.mac = Mac::new([a, b, c, d, e, f]);
        (self.rx_next, self.rx_released) = (resumed.next, resumed.released);
        (self.tx_next, self.tx_oldest) = (sent, sent);
        // The predecessor may have waited for space. What has arrived is found without an interrupt.
        self.registers.write(reg::IMC, u32::MAX);
        self.registers.read(reg::ICR);
        self.look_at_link();
        self.registers.write(reg::IMS, INTERRUPTS);
        true
    }

    /// Whether the NIC has this ring, by the registers from `base` on.
    fn is_at(&self, base: usize, ring: Ring, physical: u64) -> bool {
        let [low, high, bytes] = [0, HIGH, BYTES].map(|offset| self.registers.read(base + offset));
        (low, high) == halves(physical + wide(ring.descriptors)) && bytes == narrow(ring.count * DESCRIPTOR)
    }

    /// Head and tail of a ring, by the registers from `base` on.
    fn ends(&self, base: usize, ring: Ring) -> Option<(usize, usize)> {
        let [head, tail] = [HEAD, TAIL].map(|offset| usize::try_from(self.registers.read(base + offset)).ok());
        let is_inside = |&index: &usize| index < ring.count;
        Some((head.filter(is_inside)?, tail.filter(is_inside)?))
    }

    /// The descriptor to go on with when the NIC has sent all that it was given; `None` where it does not get there.
    fn sent(&self, sleep: &mut impl FnMut(u32)) -> Option<usize> {
        for _ in 0..LOOKS {
            let (head, tail) = self.ends(reg::TDBAL, self.tx)?;
            if head == tail {
                return Some(tail);
            }
            sleep(PAUSE);
        }
        None
    }

    /// Where to go on in the receive ring, if it is as a driver of this kind leaves it: behind the tail, first descriptors that were released, then
    /// those with frames up to the head, and empty ones from there to the tail.
    fn resumed(&self) -> Option<Resumed> {
        let (head, tail) = self.ends(reg::RDBAL, self.rx)?;
        let is_done = |index: usize| self.load(self.rx.word(index)) & RX_DONE != 0;
        let first = self.rx.after(tail);
        let mut next = first;
        while next != head && !is_done(next) {
            next = self.rx.after(next);
        }
        let mut index = next;
        while index != head && is_done(index) {
            index = self.rx.after(index);
        }
        let is_full_up_to_head = index == head;
        // The descriptor at the tail is nobody's and is empty, too.
        while index != first && !is_done(index) {
            index = self.rx.after(index);
        }
        let released = next.wrapping_sub(first) & (self.rx.count - 1);
        (is_full_up_to_head && (index == first)).then_some(Resumed { next, released })
    }
}

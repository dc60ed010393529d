//! What the ends of a ring of packets do and those of a ring of messages do not: go on at slot 0, and count by the last look.

use super::{ConsumerEnd, IndexWord, ProducerEnd, WRAP, WRAP_VALID, wrap_in};
use crate::mem::{HeaderWords, Memory};

impl<M: Memory> ProducerEnd<M> {
    /// As [`ProducerEnd::attach`], for a ring that may have been wrapped.
    pub(crate) fn attach_wrapping(header: M::Header, capacity: u32) -> Self {
        let mut end: Self = ProducerEnd::attach(header, capacity);
        let word = end.header.load64::<WRAP>();
        end.wrap = wrap_in(end.epoch, capacity, word).filter(|wrap| end.tail.wrapping_sub(*wrap) <= capacity);
        if end.wrap.is_none() && word != 0 {
            end.header.store64::<WRAP>(0);
        }
        end
    }

    /// Goes on at slot 0 in the next round. The ring must be empty, with nothing staged, and not be there already.
    pub(crate) fn wrap(&mut self) {
        let to = (self.tail | (self.capacity - 1)).wrapping_add(1);
        self.header.store64::<WRAP>(IndexWord { epoch: self.epoch, index: to | WRAP_VALID }.pack());
        self.wrap = Some(to);
        self.tail = to;
        self.head = to;
    }

    /// Slots that are free by the last look.
    pub(crate) fn free(&self) -> u32 {
        self.capacity - self.tail.wrapping_sub(self.head)
    }
}

impl<M: Memory, const WRAPS: bool> ConsumerEnd<M, WRAPS> {
    /// Filled slots from `head` on by the last look.
    #[inline]
    pub(crate) fn known(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    /// As if the last look had shown so many filled slots from `head` on, no more than it has.
    #[inline]
    pub(crate) fn know(&mut self, filled: u32) {
        self.tail = self.head.wrapping_add(filled);
    }
}

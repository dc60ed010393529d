//! Rings of messages.

use crate::end::{ConsumerEnd, ProducerEnd, checked};
use crate::error::{AttachError, PushError, RingError};
use crate::mem::{ByteMemory, Memory, SlotArray, SlotWords};
use abi::message::Message;
use abi::ring::{HEADER_BYTES, SLOT_BYTES};

/// Header and slots of a ring whose slots follow its header.
pub(crate) fn split<M: ByteMemory>(ring: &M, count: u32) -> Result<(M, M), AttachError> {
    let slot_bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(SLOT_BYTES));
    let header = ring.sub(0, HEADER_BYTES).ok_or(AttachError::Memory)?;
    let slots = slot_bytes.and_then(|bytes| ring.sub(HEADER_BYTES, bytes)).ok_or(AttachError::Memory)?;
    Ok((header, slots))
}

/// The end that puts messages in.
pub struct Producer<M: Memory> {
    end: ProducerEnd<M>,
    slots: M::Slots,
}

impl<M: Memory> Producer<M> {
    /// Attaches to the ring whose header is at the start of `header` and whose `count` slots are at the start of `slots`.
    pub fn attach(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let (header, slots) = checked(header, slots, count)?;
        Ok(Producer { end: ProducerEnd::attach(header, count), slots })
    }

    /// Attaches to the ring at the start of `ring`, whose slots follow its header.
    pub fn attach_contiguous(ring: &M, count: u32) -> Result<Self, AttachError>
    where
        M: ByteMemory,
    {
        let (header, slots) = split(ring, count)?;
        Producer::attach(&header, &slots, count)
    }

    /// Puts one message in and shows it to the consumer.
    #[inline]
    pub fn push(&mut self, message: &Message) -> Result<(), PushError> {
        self.stage(message)?;
        self.publish();
        Ok(())
    }

    /// Puts one message in that the consumer sees with the next [`Producer::publish`].
    #[inline]
    pub fn stage(&mut self, message: &Message) -> Result<(), PushError> {
        let words: &SlotWords = zerocopy::transmute_ref!(message);
        self.stage_words(words)
    }

    /// As [`Producer::stage`], with a slot of any content.
    #[inline]
    pub fn stage_words(&mut self, words: &SlotWords) -> Result<(), PushError> {
        self.end.room(1)?;
        self.slots.store(self.end.tail, words);
        self.end.tail = self.end.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows everything that was staged to the consumer.
    #[inline]
    pub fn publish(&mut self) {
        self.end.publish();
    }

    /// How many messages were put in since the epoch began: the index of the next one.
    pub fn index(&self) -> u32 {
        self.end.tail
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u32 {
        self.end.capacity()
    }

    /// What the consumer's end says of itself: the index up to which it has given slots back, and messages that it has not
    /// given back yet.
    ///
    /// # Errors
    /// [`RingError`].
    #[inline]
    pub fn progress(&mut self) -> Result<(u32, u32), RingError> {
        self.end.check_epoch()?;
        let used = self.end.used()?;
        Ok((self.end.tail.wrapping_sub(used), used))
    }

    /// Messages that the consumer has not released yet, the staged ones included.
    pub fn in_flight(&mut self) -> Result<u32, RingError> {
        self.end.check_epoch()?;
        self.end.used()
    }
}

/// The end that takes messages out.
pub struct Consumer<M: Memory> {
    end: ConsumerEnd<M, false>,
    slots: M::Slots,
}

impl<M: Memory> Consumer<M> {
    /// Attaches to the ring whose header is at the start of `header` and whose `count` slots are at the start of `slots`.
    pub fn attach(header: &M, slots: &M, count: u32) -> Result<Self, AttachError> {
        let (header, slots) = checked(header, slots, count)?;
        Ok(Consumer { end: ConsumerEnd::attach(header, count), slots })
    }

    /// Attaches to the ring at the start of `ring`, whose slots follow its header.
    pub fn attach_contiguous(ring: &M, count: u32) -> Result<Self, AttachError>
    where
        M: ByteMemory,
    {
        let (header, slots) = split(ring, count)?;
        Consumer::attach(&header, &slots, count)
    }

    /// Takes one message out; its slot goes back with the next [`Consumer::release`]. `Ok(None)` when the ring is empty.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Message>, RingError> {
        Ok(self.take_words()?.map(|words| zerocopy::transmute!(words)))
    }

    /// Takes the next message out and gives its slot back, if there was one at the last look, and what `wants` makes of it is something. Only its first
    /// `N` words are read; the others are shown as 0. An epoch that has changed counts as no message.
    #[inline(always)]
    pub fn take_if<const N: usize, T>(&mut self, wants: impl FnOnce(&Message) -> Option<T>) -> Option<T> {
        if self.end.is_at_tail() {
            return None;
        }
        let mut words: SlotWords = [0; 8];
        words[..N].copy_from_slice(&self.slots.load_start::<N>(self.end.head));
        self.end.confirm().ok()?;
        let wanted = wants(&zerocopy::transmute!(words))?;
        self.end.head = self.end.head.wrapping_add(1);
        self.release();
        Some(wanted)
    }

    /// As [`Consumer::take`], for slots that hold something else than a message (the console).
    #[inline]
    pub fn take_words(&mut self) -> Result<Option<SlotWords>, RingError> {
        if self.end.filled()? == 0 {
            return Ok(None);
        }
        let words = self.slots.load(self.end.head);
        self.end.confirm()?;
        self.end.head = self.end.head.wrapping_add(1);
        Ok(Some(words))
    }

    /// Gives the slots of everything that was taken back to the producer.
    #[inline]
    pub fn release(&mut self) {
        self.end.release();
    }

    /// How many messages were taken since the epoch began: the index of the next one.
    pub fn index(&self) -> u32 {
        self.end.head
    }
}

#[cfg(feature = "beyond-core")]
#[path = "message_sleep.rs"]
mod sleep;

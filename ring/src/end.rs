//! What message and packet rings have in common: indices, epochs and waiting flags.

use crate::error::{AttachError, PushError, RingError};
use crate::mem::{HeaderWords, Memory};
use abi::ring::{CONSUMER_WAITS, EPOCH, HEAD, IndexWord, MAX_SLOTS, PRODUCER_WAITS, TAIL, WRAP, WRAP_VALID};
use core::sync::atomic::Ordering;

/// The index that the word stands for in `epoch`.
#[inline]
fn index_in(epoch: u32, word: u64) -> u32 {
    let word = IndexWord::unpack(word);
    if word.epoch == epoch { word.index } else { 0 }
}

/// Header and slots of a ring, checked.
pub(crate) fn checked<M: Memory>(header: &M, slots: &M, count: u32) -> Result<(M::Header, M::Slots), AttachError> {
    if !count.is_power_of_two() || count > MAX_SLOTS {
        return Err(AttachError::SlotCount);
    }
    let header = header.header().ok_or(AttachError::Memory)?;
    let slots = slots.slots(count).ok_or(AttachError::Memory)?;
    Ok((header, slots))
}

/// Resets the ring with this header: moves its epoch, so that both ends drop to an empty ring. Only the ring's owner (the
/// core) may do this, when an end has stopped for good and before its successor starts; it then rings both doorbells.
/// Believes nothing that stands in the header: the end that has stopped may have written every word of it,
/// the epoch and the other end's index included. With an epoch that has been turned back, one that counts on would be the one
/// in which the other end still is, and it would notice nothing; with indices for the epoch to come, the ring would begin in
/// the middle.
///
/// `epoch` is one that no end can have foreseen, so a random number. Neither end may run meanwhile. Returns the new epoch.
pub fn reset_to<M: Memory>(header: &M, epoch: u32) -> Result<u32, AttachError> {
    let header = header.header().ok_or(AttachError::Memory)?;
    // Honest ends are in the epoch that stands there, or were before they were lied to.
    let epoch = if header.load32::<EPOCH>() == epoch { epoch.wrapping_add(1) } else { epoch };
    let start = IndexWord { epoch, index: 0 }.pack();
    header.store64::<TAIL>(start);
    header.store64::<HEAD>(start);
    header.store64::<WRAP>(0);
    header.store32::<EPOCH>(epoch);
    Ok(epoch)
}

/// Private state of a producer.
pub(crate) struct ProducerEnd<M: Memory> {
    header: M::Header,
    capacity: u32,
    epoch: u32,
    /// Slots filled in this epoch, whether published or not.
    pub(crate) tail: u32,
    /// What the consumer had freed when we last looked: `tail - head <= capacity` always.
    head: u32,
    /// Where the ring has gone on from when it was empty, as long as the consumer has not been seen behind that.
    wrap: Option<u32>,
    // The core never sets it; a switch takes two instructions more where an end is as long as it would be without.
    #[cfg_attr(not(feature = "beyond-core"), expect(dead_code))]
    waiting: bool,
}

/// The index that a wrap word stands for in `epoch`, in a ring of so many slots.
#[inline]
fn wrap_in(epoch: u32, capacity: u32, word: u64) -> Option<u32> {
    let word = IndexWord::unpack(word);
    let at = word.index ^ WRAP_VALID;
    (word.epoch == epoch && at & (capacity - 1) == 0 && word.index & WRAP_VALID != 0).then_some(at)
}

/// Whether `index` is less than a round of `capacity` slots before `wrap`.
#[inline]
fn before(index: u32, wrap: u32, capacity: u32) -> bool {
    wrap.wrapping_sub(index).wrapping_sub(1) < capacity - 1
}

impl<M: Memory> ProducerEnd<M> {
    pub(crate) fn attach(header: M::Header, capacity: u32) -> Self {
        let epoch = header.load32::<EPOCH>();
        let tail = index_in(epoch, header.load64::<TAIL>());
        header.store32::<PRODUCER_WAITS>(0);
        // As if the ring were full, so that the first operation looks at what the consumer wrote.
        ProducerEnd { header, capacity, epoch, tail, head: tail.wrapping_sub(capacity), wrap: None, waiting: false }
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline]
    pub(crate) fn check_epoch(&mut self) -> Result<(), RingError> {
        let epoch = self.header.load32::<EPOCH>();
        if epoch == self.epoch { Ok(()) } else { Err(self.restart(epoch)) }
    }

    #[cold]
    fn restart(&mut self, epoch: u32) -> RingError {
        self.epoch = epoch;
        self.tail = 0;
        self.head = 0;
        self.wrap = None;
        RingError::EpochChanged
    }

    /// Makes sure that `needed` slots from `tail` on are free. After that they may be written.
    #[inline]
    pub(crate) fn room(&mut self, needed: u32) -> Result<(), PushError> {
        self.check_epoch()?;
        if self.capacity - self.tail.wrapping_sub(self.head) < needed {
            self.look(needed)?;
        }
        // A consumer that sees a word we write from here on sees the epoch that we have seen, too.
        M::fence(Ordering::Release);
        Ok(())
    }

    #[cold]
    fn look(&mut self, needed: u32) -> Result<(), PushError> {
        let used = self.used()?;
        if self.capacity - used < needed { Err(PushError::Full) } else { Ok(()) }
    }

    /// Slots that are still in use, after a look at the consumer's index.
    pub(crate) fn used(&mut self) -> Result<u32, RingError> {
        if let Some(used) = self.claimed() {
            return Ok(used);
        }
        // A consumer that knows a newer epoch than we do tells the truth.
        self.check_epoch()?;
        Err(RingError::Corrupt)
    }

    /// Slots that are in use by what the consumer wrote; `None` when that cannot be.
    fn claimed(&mut self) -> Option<u32> {
        let mut head = index_in(self.epoch, self.header.load64::<HEAD>());
        if let Some(wrap) = self.wrap
            && before(head, wrap, self.capacity)
        {
            head = wrap;
        }
        let used = self.tail.wrapping_sub(head);
        if used > self.capacity {
            return None;
        }
        if self.wrap.is_some_and(|wrap| wrap != head) {
            // The consumer has gone along: nothing is before the wrap.
            self.wrap = None;
            self.header.store64::<WRAP>(0);
        }
        self.head = head;
        Some(used)
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        self.header.store64::<TAIL>(IndexWord { epoch: self.epoch, index: self.tail }.pack());
    }
}

/// What only ends outside the core need.
#[cfg(feature = "beyond-core")]
#[path = "sleep.rs"]
pub mod sleep;

/// What only rings of packets need.
#[cfg(feature = "packet")]
#[path = "wrap.rs"]
mod wrap;

/// Private state of a consumer; with `WRAPS` of one whose producer may go on at slot 0 when the ring is empty.
pub(crate) struct ConsumerEnd<M: Memory, const WRAPS: bool> {
    header: M::Header,
    capacity: u32,
    epoch: u32,
    /// Slots taken in this epoch, whether released or not.
    pub(crate) head: u32,
    /// What the producer had filled when we last looked: `tail - head <= capacity` always.
    tail: u32,
    // The core never sets it; a switch takes two instructions more where an end is as long as it would be without.
    #[cfg_attr(not(feature = "beyond-core"), expect(dead_code))]
    waiting: bool,
}

impl<M: Memory, const WRAPS: bool> ConsumerEnd<M, WRAPS> {
    pub(crate) fn attach(header: M::Header, capacity: u32) -> Self {
        let epoch = header.load32::<EPOCH>();
        let head = index_in(epoch, header.load64::<HEAD>());
        header.store32::<CONSUMER_WAITS>(0);
        ConsumerEnd { header, capacity, epoch, head, tail: head, waiting: false }
    }

    #[inline]
    pub(crate) fn check_epoch(&mut self) -> Result<(), RingError> {
        let epoch = self.header.load32::<EPOCH>();
        if epoch == self.epoch { Ok(()) } else { Err(self.restart(epoch)) }
    }

    #[cold]
    fn restart(&mut self, epoch: u32) -> RingError {
        self.epoch = epoch;
        self.head = 0;
        self.tail = 0;
        RingError::EpochChanged
    }

    /// After slots were read: fails if a reset may have let the producer write them meanwhile.
    #[inline]
    pub(crate) fn confirm(&mut self) -> Result<(), RingError> {
        M::fence(Ordering::Acquire);
        self.check_epoch()
    }

    /// Filled slots from `head` on; looks at the producer's index only when there is none by the last look.
    #[inline]
    pub(crate) fn filled(&mut self) -> Result<u32, RingError> {
        let filled = self.tail.wrapping_sub(self.head);
        if filled != 0 { Ok(filled) } else { self.look() }
    }

    /// Whether no filled slot is left by the last look.
    #[inline]
    pub(crate) fn is_at_tail(&self) -> bool {
        self.tail == self.head
    }

    /// Filled slots from `head` on, after a look at the producer's index.
    pub(crate) fn look(&mut self) -> Result<u32, RingError> {
        self.check_epoch()?;
        if let Some(filled) = self.claimed() {
            return Ok(filled);
        }
        // A producer that knows a newer epoch than we do tells the truth.
        self.check_epoch()?;
        Err(RingError::Corrupt)
    }

    /// Filled slots by what the producer wrote; `None` when that cannot be.
    #[inline]
    fn claimed(&mut self) -> Option<u32> {
        let tail = index_in(self.epoch, self.header.load64::<TAIL>());
        let mut filled = tail.wrapping_sub(self.head);
        if WRAPS && filled != 0 && self.tail == self.head {
            let word = self.header.load64::<WRAP>();
            if word != 0
                && let Some(wrap) = wrap_in(self.epoch, self.capacity, word)
                && before(self.head, wrap, self.capacity)
                && wrap.wrapping_sub(self.head) <= filled
            {
                filled = tail.wrapping_sub(wrap);
                if filled <= self.capacity {
                    self.head = wrap;
                }
            }
        }
        (filled <= self.capacity).then(|| {
            self.tail = tail;
            filled
        })
    }

    #[inline]
    pub(crate) fn release(&mut self) {
        self.header.store64::<HEAD>(IndexWord { epoch: self.epoch, index: self.head }.pack());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_word_is_of_its_epoch_valid_and_for_slot_0() {
        let wrap = |epoch, index| wrap_in(3, 8, IndexWord { epoch, index }.pack());
        assert_eq!((wrap(3, 16 | WRAP_VALID), wrap(3, WRAP_VALID)), (Some(16), Some(0)));
        assert_eq!((wrap(2, 16 | WRAP_VALID), wrap(3, 16), wrap(3, 18 | WRAP_VALID)), (None, None, None));
        // Without the bit, what the bit would be taken from.
        assert_eq!((wrap(3, 17 ^ WRAP_VALID), wrap(3, 0)), (None, None));
    }
}

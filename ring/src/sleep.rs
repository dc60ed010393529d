//! What ends of rings do that the core does not: sleep until the other end rings, and drop what a liar has written. And how a ring is reset whose
//! ends are believed.

use super::{ConsumerEnd, ProducerEnd, index_in};
use crate::error::{AttachError, RingError};
use crate::mem::{HeaderWords, Memory};
use abi::ring::{CONSUMER_WAITS, EPOCH, PRODUCER_WAITS, TAIL};
use core::sync::atomic::Ordering;

/// As [`reset_to`](super::reset_to), but believes the epoch that stands in the header, and counts on from there. For a ring both of whose ends are honest.
/// Returns the new epoch.
pub fn reset<M: Memory>(header: &M) -> Result<u32, AttachError> {
    let header = header.header().ok_or(AttachError::Memory)?;
    let epoch = header.load32::<EPOCH>().wrapping_add(1);
    header.store32::<EPOCH>(epoch);
    Ok(epoch)
}

impl<M: Memory> ProducerEnd<M> {
    #[inline]
    pub(crate) fn consumer_waits(&self) -> bool {
        M::fence(Ordering::SeqCst);
        self.header.load32::<CONSUMER_WAITS>() != 0
    }

    pub(crate) fn prepare_wait(&mut self, needed: u32) -> bool {
        self.header.store32::<PRODUCER_WAITS>(1);
        self.waiting = true;
        M::fence(Ordering::SeqCst);
        let moved = self.header.load32::<EPOCH>() != self.epoch;
        // A lying consumer counts as a full ring: whoever waits for it sleeps until it tells the truth and rings.
        let full = !moved && self.claimed().is_none_or(|used| self.capacity - used < needed);
        if !full {
            self.cancel_wait();
        }
        full
    }

    #[inline]
    pub(crate) fn cancel_wait(&mut self) {
        if self.waiting {
            self.waiting = false;
            self.header.store32::<PRODUCER_WAITS>(0);
        }
    }
}

impl<M: Memory, const WRAPS: bool> ConsumerEnd<M, WRAPS> {
    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Drops everything up to what the producer claims to have written, whatever that is.
    pub(crate) fn skip_all(&mut self) -> Result<(), RingError> {
        self.check_epoch()?;
        self.head = index_in(self.epoch, self.header.load64::<TAIL>());
        self.tail = self.head;
        self.release();
        Ok(())
    }

    #[inline]
    pub(crate) fn producer_waits(&self) -> bool {
        M::fence(Ordering::SeqCst);
        self.header.load32::<PRODUCER_WAITS>() != 0
    }

    pub(crate) fn prepare_wait(&mut self) -> bool {
        self.header.store32::<CONSUMER_WAITS>(1);
        self.waiting = true;
        M::fence(Ordering::SeqCst);
        let moved = self.header.load32::<EPOCH>() != self.epoch;
        // A lying producer counts as an empty ring: its consumer sleeps until it tells the truth and rings.
        let empty = !moved && self.claimed().is_none_or(|filled| filled == 0);
        if !empty {
            self.cancel_wait();
        }
        empty
    }

    #[inline]
    pub(crate) fn cancel_wait(&mut self) {
        if self.waiting {
            self.waiting = false;
            self.header.store32::<CONSUMER_WAITS>(0);
        }
    }
}

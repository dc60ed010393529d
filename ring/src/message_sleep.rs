//! What ends of rings of messages do that the core's do not.

use super::{Consumer, Producer};
use crate::error::RingError;
use crate::mem::Memory;
use abi::message::Message;

impl<M: Memory> Producer<M> {
    /// Reports a reset of the ring without doing anything else. For an end that has been woken and has nothing to push.
    #[inline]
    pub fn check_epoch(&mut self) -> Result<(), RingError> {
        self.end.check_epoch()
    }

    /// After [`Producer::publish`]: whether the consumer sleeps, so that its doorbell must be rung.
    #[inline]
    #[must_use]
    pub fn consumer_waits(&self) -> bool {
        self.end.consumer_waits()
    }

    /// Announces that this end is about to sleep until there is space. True: still full, sleep. False: there is space (or the
    /// ring was reset), go on; the announcement is withdrawn.
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        self.end.prepare_wait(1)
    }

    /// Withdraws the announcement. To be called after waking up.
    #[inline]
    pub fn cancel_wait(&mut self) {
        self.end.cancel_wait();
    }
}

impl<M: Memory> Consumer<M> {
    /// Takes one message out and gives its slot back. `Ok(None)` when the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Message>, RingError> {
        let message = self.take()?;
        if message.is_some() {
            self.release();
        }
        Ok(message)
    }

    /// Slots of the ring.
    pub fn capacity(&self) -> u32 {
        self.end.capacity()
    }

    /// Messages that can be taken. A bound for a loop that is to end even while the producer goes on.
    pub fn available(&mut self) -> Result<u32, RingError> {
        self.end.look()
    }

    /// Drops everything up to what the producer claims to have written. The way on after [`RingError::Corrupt`].
    pub fn skip_all(&mut self) -> Result<(), RingError> {
        self.end.skip_all()
    }

    /// Reports a reset of the ring without doing anything else.
    #[inline]
    pub fn check_epoch(&mut self) -> Result<(), RingError> {
        self.end.check_epoch()
    }

    /// After [`Consumer::release`]: whether the producer sleeps, so that its doorbell must be rung.
    #[inline]
    #[must_use]
    pub fn producer_waits(&self) -> bool {
        self.end.producer_waits()
    }

    /// Announces that this end is about to sleep until there is something to take. True: still empty, sleep. False: there is
    /// something (or the ring was reset), go on; the announcement is withdrawn.
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        self.end.prepare_wait()
    }

    /// Withdraws the announcement. To be called after waking up.
    #[inline]
    pub fn cancel_wait(&mut self) {
        self.end.cancel_wait();
    }
}

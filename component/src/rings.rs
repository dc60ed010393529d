//! The two kinds of ring ends that a component has.

use abi::message::Message;
use ring::{Consumer, Producer, PushError, RingError, SharedMemory};

/// A ring that this component takes messages from.
pub struct Inbox {
    /// The ring.
    pub ring: Consumer<SharedMemory>,
    /// Its doorbell's bit in the notification word.
    pub doorbell: u64,
}

impl Inbox {
    /// Gives the messages that are there to `handle`, as many as the ring has slots at most. True: the ring is empty now;
    /// false: there may be more, and no doorbell will tell.
    ///
    /// A reset ring counts as empty, and what a peer cannot have meant is skipped.
    #[inline]
    pub fn drain(&mut self, mut handle: impl FnMut(&Message)) -> bool {
        let mut empty = false;
        let mut taken = 0;
        while taken < self.ring.capacity() {
            match self.ring.take() {
                Ok(Some(message)) => handle(&message),
                Ok(None) => {
                    empty = true;
                    break;
                }
                Err(error) => {
                    self.recover(error);
                    break;
                }
            }
            taken += 1;
        }
        if taken > 0 {
            self.ring.release();
        }
        empty
    }

    #[cold]
    fn recover(&mut self, error: RingError) {
        // A reset while skipping is found by the next look at the ring, which follows since `drain` reports more.
        if error == RingError::Corrupt {
            let _ = self.ring.skip_all();
        }
    }
}

/// A ring that this component puts messages into.
pub struct Outbox {
    /// The ring.
    pub ring: Producer<SharedMemory>,
    /// What to give to [`crate::wait`] or [`crate::notify`] to ring the other end's doorbell. The core needs no doorbell: it
    /// looks at its rings from a component whenever that waits or notifies.
    pub doorbell: u64,
}

impl Outbox {
    /// Puts a message in; the other end sees it with the next [`Outbox::publish`]. A full ring to the core is emptied first.
    /// False when there is no space all the same, and the message was dropped.
    #[inline]
    #[must_use]
    pub fn stage(&mut self, message: &Message) -> bool {
        match self.ring.stage(message) {
            Ok(()) => true,
            Err(error) => self.stage_again(message, error),
        }
    }

    #[cold]
    #[inline(never)]
    fn stage_again(&mut self, message: &Message, error: PushError) -> bool {
        match error {
            PushError::Full => {
                self.ring.publish();
                crate::syscall::notify(self.doorbell);
            }
            // The ring is empty now, and this end knows.
            PushError::EpochChanged => {}
            PushError::Corrupt => return false,
        }
        self.ring.stage(message).is_ok()
    }

    /// Shows everything that was staged to the other end.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.publish();
    }

    /// [`Outbox::stage`] and [`Outbox::publish`].
    #[inline]
    #[must_use]
    pub fn send(&mut self, message: &Message) -> bool {
        let staged = self.stage(message);
        self.publish();
        staged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of eight slots, as its two ends.
    fn pair() -> (Outbox, Inbox, SharedMemory) {
        let memory = SharedMemory::from_static(Box::leak(vec![0_u64; (256 + 8 * 64) / 8].into_boxed_slice()));
        let producer = Producer::attach_contiguous(&memory, 8).expect("good");
        let consumer = Consumer::attach_contiguous(&memory, 8).expect("good");
        (Outbox { ring: producer, doorbell: 1 }, Inbox { ring: consumer, doorbell: 2 }, memory)
    }

    fn kinds(inbox: &mut Inbox) -> (Vec<u32>, bool) {
        let mut kinds = Vec::new();
        let empty = inbox.drain(|message| kinds.push(message.kind));
        (kinds, empty)
    }

    #[test]
    fn what_is_published_arrives_in_order() {
        let (mut out, mut inbox, _) = pair();
        assert_eq!(kinds(&mut inbox), (vec![], true));
        assert!(out.stage(&Message::new(1, [])) && out.stage(&Message::new(2, [])));
        assert_eq!(kinds(&mut inbox), (vec![], true));
        out.publish();
        assert_eq!(kinds(&mut inbox), (vec![1, 2], true));
    }

    #[test]
    fn draining_is_bounded_and_says_so() {
        let (mut out, mut inbox, _) = pair();
        for kind in 0..8 {
            assert!(out.send(&Message::new(kind, [])));
        }
        assert_eq!(kinds(&mut inbox), ((0..8).collect(), false));
        assert_eq!(kinds(&mut inbox), (vec![], true));
        // The slots are free again.
        assert!(out.send(&Message::new(9, [])));
        assert_eq!(kinds(&mut inbox), (vec![9], true));
    }

    #[test]
    fn a_reset_empties_the_ring_and_it_goes_on() {
        let (mut out, mut inbox, memory) = pair();
        assert!(out.send(&Message::new(1, [])));
        ring::reset(&memory).expect("good");
        assert_eq!(kinds(&mut inbox), (vec![], false));
        assert!(out.send(&Message::new(2, [])));
        assert_eq!(kinds(&mut inbox), (vec![2], true));
    }

    #[test]
    fn a_lying_producer_is_skipped() {
        let (_, mut inbox, memory) = pair();
        memory.store64(abi::ring::TAIL, 77).expect("inside");
        assert_eq!(kinds(&mut inbox), (vec![], false));
        assert_eq!(kinds(&mut inbox), (vec![], true));
    }
}

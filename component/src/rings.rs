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
    /// Gives the messages that are there now to `handle`. True: for those that come later the doorbell rings again; false:
    /// look again without waiting, something was wrong with the ring. (It was reset, so whoever filled it starts anew; or
    /// it held what no peer can have meant, which was skipped.)
    #[inline]
    pub fn drain(&mut self, mut handle: impl FnMut(&Message)) -> bool {
        let mut left = match self.ring.available() {
            Ok(0) => return true,
            Ok(available) => available,
            Err(error) => return self.recover(error),
        };
        while left > 0 {
            match self.ring.take() {
                Ok(Some(message)) => handle(&message),
                Ok(None) => break,
                Err(error) => return self.recover(error),
            }
            left -= 1;
        }
        self.ring.release();
        true
    }

    #[cold]
    fn recover(&mut self, error: RingError) -> bool {
        if error == RingError::Corrupt {
            // A reset at this very moment is found by the next look at the ring.
            let _ = self.ring.skip_all();
        }
        false
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
            // A copy, so that the message itself need not be in memory.
            Err(error) => self.stage_again(*message, error),
        }
    }

    #[cold]
    #[inline(never)]
    fn stage_again(&mut self, message: Message, error: PushError) -> bool {
        match error {
            PushError::Full => {
                self.ring.publish();
                crate::syscall::notify(self.doorbell);
            }
            // The ring is empty now, and this end knows.
            PushError::EpochChanged => {}
            PushError::Corrupt => return false,
        }
        self.ring.stage(&message).is_ok()
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
    fn draining_frees_the_slots() {
        let (mut out, mut inbox, _) = pair();
        for kind in 0..8 {
            assert!(out.send(&Message::new(kind, [])));
        }
        assert_eq!(kinds(&mut inbox), ((0..8).collect(), true));
        assert!(out.send(&Message::new(9, [])));
        assert_eq!(kinds(&mut inbox), (vec![9], true));
    }

    #[test]
    fn what_comes_meanwhile_is_left_for_the_next_doorbell() {
        let (mut out, mut inbox, _) = pair();
        assert!(out.send(&Message::new(0, [])));
        let mut taken = 0;
        assert!(inbox.drain(|message| {
            taken += 1;
            assert!(out.send(&Message::new(message.kind + 1, [])));
        }));
        assert_eq!(taken, 1);
        assert_eq!(kinds(&mut inbox), (vec![1], true));
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

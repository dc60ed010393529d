//! The rings between components and the core.

use abi::message::Message;
use ring::{Consumer, Producer, PushError, RingError, SharedMemory};

/// Who hears a doorbell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Rank of the component at the other end.
    pub rank: usize,
    /// Its notification bit; 0 when the core is the other end, or there is no such ring.
    pub bit: u64,
}

/// What became of a message to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is in the ring.
    Yes,
    /// There is no such ring: nobody listens.
    Nobody,
    /// The component does not empty its ring, or wrote nonsense into it.
    Full,
}

/// The core's ends of the rings with one component.
#[derive(Default)]
pub struct CoreEnds {
    /// Core to component.
    pub to: Option<Producer<SharedMemory>>,
    /// The component's notification bit for messages from the core; 0 when there is no such ring.
    pub bit: u64,
    /// Component to core.
    pub from: Option<Consumer<SharedMemory>>,
}

impl CoreEnds {
    /// Put a message into the ring to the component. After a restart of the component the first try only takes note of
    /// the new epoch.
    #[inline]
    pub fn tell(&mut self, message: &Message) -> Told {
        let Some(to) = &mut self.to else { return Told::Nobody };
        match to.push(message) {
            Ok(()) => Told::Yes,
            Err(PushError::EpochChanged) => match to.push(message) {
                Ok(()) => Told::Yes,
                Err(_) => Told::Full,
            },
            Err(PushError::Full | PushError::Corrupt) => Told::Full,
        }
    }

    /// The next message. Its slot goes back with [`CoreEnds::release`]. What the component wrote is an allegation; nonsense in
    /// the index words counts as empty.
    #[inline(always)]
    pub fn take(&mut self) -> Option<Message> {
        let from = self.from.as_mut()?;
        match from.take() {
            Ok(message) => message,
            Err(RingError::EpochChanged) => from.take().ok().flatten(),
            Err(RingError::Corrupt) => None,
        }
    }

    /// Give the slots of what was taken back.
    #[inline]
    pub fn release(&mut self) {
        if let Some(from) = &mut self.from {
            from.release();
        }
    }

    /// True when the ring to the component is less than half full, so that it can be told more of what is not urgent.
    pub fn has_space(&mut self) -> bool {
        self.to.as_mut().is_some_and(|to| to.in_flight().is_ok_and(|used| used * 2 < to.capacity()))
    }
}

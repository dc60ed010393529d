//! What can go wrong at an end of a ring of packets.

use crate::error::{PushError, RingError};

/// Why no packet can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeekError {
    /// See [`RingError::EpochChanged`].
    EpochChanged,
    /// See [`RingError::Corrupt`].
    Corrupt,
    /// This end has not been given the page of the slots that the packet begins or goes on in (counted from 0). Nothing was
    /// done, and the next call looks again. Only where the pages come one by one.
    NoPage(u32),
}

/// Why no space for a packet was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// Not enough free slots.
    Full,
    /// The packet would take more than half of the ring's slots, and might never fit in front of the wrap.
    TooLong,
    /// See [`RingError::EpochChanged`].
    EpochChanged,
    /// See [`RingError::Corrupt`]; the ring counts as full.
    Corrupt,
    /// This end has not been given that page of the slots (counted from 0), which the packet would be written to. Only where
    /// the pages come one by one.
    NoPage(u32),
}

impl From<RingError> for PeekError {
    fn from(error: RingError) -> PeekError {
        match error {
            RingError::EpochChanged => PeekError::EpochChanged,
            RingError::Corrupt => PeekError::Corrupt,
        }
    }
}

impl From<RingError> for ReserveError {
    fn from(error: RingError) -> ReserveError {
        PushError::from(error).into()
    }
}

impl From<PushError> for ReserveError {
    fn from(error: PushError) -> ReserveError {
        match error {
            PushError::Full => ReserveError::Full,
            PushError::EpochChanged => ReserveError::EpochChanged,
            PushError::Corrupt => ReserveError::Corrupt,
        }
    }
}

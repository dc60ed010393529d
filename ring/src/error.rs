//! What can go wrong at an end of a ring.

use core::fmt;

/// Why a ring cannot be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The number of slots is not a power of two from 1 to [`abi::ring::MAX_SLOTS`].
    SlotCount,
    /// The memory is too small for the header or the slots, or not aligned to 8 bytes.
    Memory,
}

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// The ring was reset: this end starts from an empty ring again, and whoever has requests in flight sends them again.
    /// Reported once for each end.
    EpochChanged,
    /// What the peer wrote cannot be: more slots in use than there are, or a record that makes no sense. Nothing was done,
    /// and the next call looks again.
    Corrupt,
}

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

/// Why nothing was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No free slot.
    Full,
    /// See [`RingError::EpochChanged`].
    EpochChanged,
    /// See [`RingError::Corrupt`]; the ring counts as full.
    Corrupt,
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

impl From<RingError> for PushError {
    fn from(error: RingError) -> PushError {
        match error {
            RingError::EpochChanged => PushError::EpochChanged,
            RingError::Corrupt => PushError::Corrupt,
        }
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

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachError::SlotCount => "the number of slots is not a power of two within the limits",
            AttachError::Memory => "the memory is too small for the ring, or not aligned",
        })
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PushError::from(*self).fmt(f)
    }
}

impl fmt::Display for PeekError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeekError::EpochChanged => ReserveError::EpochChanged,
            PeekError::Corrupt => ReserveError::Corrupt,
            PeekError::NoPage(page) => ReserveError::NoPage(*page),
        }
        .fmt(f)
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ReserveError::from(*self).fmt(f)
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReserveError::NoPage(page) => return write!(f, "page {page} of the ring is not there"),
            ReserveError::Full => "the ring is full",
            ReserveError::TooLong => "the packet is too long for the ring",
            ReserveError::EpochChanged => "the ring was reset",
            ReserveError::Corrupt => "the peer wrote what cannot be",
        })
    }
}

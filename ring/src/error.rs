//! What can go wrong at an end of a ring.

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

impl From<RingError> for PushError {
    fn from(error: RingError) -> PushError {
        match error {
            RingError::EpochChanged => PushError::EpochChanged,
            RingError::Corrupt => PushError::Corrupt,
        }
    }
}

//! What errors are called.

use crate::error::{AttachError, PushError, RingError};
use crate::packet_error::{PeekError, ReserveError};
use core::fmt;

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

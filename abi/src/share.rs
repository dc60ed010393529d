//! What a VM gets of what it shares with others, as its image or its creator says it: an allegation to policies, which may
//! honour it or not.

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Weight of a VM when nobody says another one.
pub const WEIGHT: u16 = 100;
/// The largest weight.
pub const WEIGHT_MAX: u16 = 10_000;
/// [`Share::rate`] of a VM that may send as fast as it can.
pub const UNLIMITED: u32 = u32::MAX;
/// Bytes that a VM whose rate is limited may send at once when nobody says another number.
pub const BURST: u32 = 64 << 10;
/// The smallest burst: one frame of full length, or it could never be sent.
pub const BURST_MIN: u32 = 1514;

/// The share of one VM. 0 in a field means that it was not said.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Share {
    /// Weight against the other VMs, 1 to [`WEIGHT_MAX`]: twice the weight is twice the share.
    pub weight: u16,
    /// Bytes in a second that it may send, headers of Ethernet included, or [`UNLIMITED`].
    pub rate: u32,
    /// Bytes that it may send at once after a pause, at least [`BURST_MIN`].
    pub burst: u32,
}

impl Share {
    /// Nothing was said.
    pub const UNSAID: Share = Share { weight: 0, rate: 0, burst: 0 };
    /// What holds when nobody says anything.
    pub const DEFAULT: Share = Share { weight: WEIGHT, rate: UNLIMITED, burst: BURST };

    /// This share, with what was not said taken from `other`.
    #[must_use]
    pub const fn or(self, other: Share) -> Share {
        Share {
            weight: if self.weight == 0 { other.weight } else { self.weight },
            rate: if self.rate == 0 { other.rate } else { self.rate },
            burst: if self.burst == 0 { other.burst } else { self.burst },
        }
    }

    /// Whether every field is within its limits, or was not said.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.weight <= WEIGHT_MAX && (self.burst == 0 || self.burst >= BURST_MIN)
    }

    /// Rate and burst as one word of a message: burst in bits 63..32, rate in bits 31..0.
    #[must_use]
    pub const fn limits(self) -> u64 {
        // `From` is not const yet.
        #[allow(clippy::cast_lossless)]
        {
            (self.burst as u64) << 32 | self.rate as u64
        }
    }

    /// A share from a weight and what [`Share::limits`] gave.
    #[must_use]
    pub const fn from_limits(weight: u16, limits: u64) -> Share {
        // The two halves of the word.
        #[allow(clippy::cast_possible_truncation)]
        Share { weight, rate: limits as u32, burst: (limits >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_comes_from_the_other() {
        let image = Share { weight: 7, rate: 0, burst: 2000 };
        assert_eq!(Share { weight: 0, rate: 5, burst: 0 }.or(image), Share { weight: 7, rate: 5, burst: 2000 });
        assert_eq!(image.or(Share::DEFAULT), Share { weight: 7, rate: UNLIMITED, burst: 2000 });
        assert_eq!(Share::UNSAID.or(image), image);
        assert_eq!(Share { rate: UNLIMITED, ..Share::UNSAID }.or(Share { rate: 9, ..image }).rate, UNLIMITED);
    }

    #[test]
    fn limits_are_two_halves() {
        let share = Share { weight: 3, rate: 0x1234_5678, burst: 0x9abc_def0 };
        assert_eq!(share.limits(), 0x9abc_def0_1234_5678);
        assert_eq!(Share::from_limits(3, share.limits()), share);
    }

    #[test]
    fn the_limits_of_each_field() {
        assert!(Share::UNSAID.is_valid() && Share::DEFAULT.is_valid());
        assert!(Share { weight: WEIGHT_MAX, rate: 1, burst: BURST_MIN }.is_valid());
        assert!(!Share { weight: WEIGHT_MAX + 1, ..Share::DEFAULT }.is_valid());
        assert!(!Share { burst: BURST_MIN - 1, ..Share::DEFAULT }.is_valid());
    }
}

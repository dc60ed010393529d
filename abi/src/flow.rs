//! What the VMs of a tenant may do together in each second. The core keeps it beside their quota ([`crate::quota`]).

use crate::message::{BadMessage, Words};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// How often things may happen; 0 for as often as they do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Flow {
    /// VMs that come in in a second and were out, because a packet or their alarm called them: so many at once after a pause, and then one after the other.
    /// Those beyond that wait until it is their turn.
    pub wakes: u32,
    /// Bytes that they send in a second, headers of Ethernet included; over a longer time, as they may send some at once after a pause. The network demultiplexer
    /// keeps it, each one for the VMs that it has.
    pub rate: u32,
}

impl Flow {
    /// No limit.
    pub const NONE: Flow = Flow { wakes: 0, rate: 0 };
    /// What is to stay as it is, in a change.
    pub const STAYS: u32 = u32::MAX;
    /// A change of nothing.
    pub const UNCHANGED: Flow = Flow { wakes: Flow::STAYS, rate: Flow::STAYS };

    /// VMs that come in in a second, where they are limited.
    #[must_use]
    pub fn most_wakes(self) -> Option<u32> {
        Some(self.wakes).filter(|&wakes| wakes != 0)
    }

    /// Bytes that they send in a second, where they are limited.
    #[must_use]
    pub fn most_rate(self) -> Option<u32> {
        Some(self.rate).filter(|&rate| rate != 0)
    }

    /// What holds after this change of what `had` held.
    #[must_use]
    pub fn of(self, had: Flow) -> Flow {
        let said = |now, before| if now == Flow::STAYS { before } else { now };
        Flow { wakes: said(self.wakes, had.wakes), rate: said(self.rate, had.rate) }
    }
}

impl Words for Flow {
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        // In the upper and the lower half.
        (u64::from(self.rate) << 32 | u64::from(self.wakes)).put(words, at);
    }

    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let word = <u64 as Words>::take(kind, words, at)?;
        // They are halves of it.
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        Ok(Flow { wakes: half(word), rate: half(word >> 32) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let had = Flow { wakes: 7, rate: 11 };
        assert_eq!(Flow::UNCHANGED.of(had), had);
        assert_eq!(Flow::NONE.of(had), Flow::NONE);
        assert_eq!(Flow { wakes: 9, ..Flow::UNCHANGED }.of(had), Flow { wakes: 9, ..had });
        assert_eq!(Flow { rate: 9, ..Flow::UNCHANGED }.of(had), Flow { rate: 9, ..had });
    }

    #[test]
    fn nothing_is_no_limit() {
        let some = Flow { wakes: 1, rate: 2 };
        assert_eq!((Flow::NONE.most_wakes(), some.most_wakes()), (None, Some(1)));
        assert_eq!((Flow::NONE.most_rate(), some.most_rate()), (None, Some(2)));
    }
}

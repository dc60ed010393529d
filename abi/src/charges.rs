//! What is charged to a VM beside the time that it runs itself.

use crate::guest_disk::BLOCK_BYTES;
use crate::message::{BadMessage, Word, Words};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Frames that a VM got and sent, and their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Traffic {
    /// Bytes of the frames that it got.
    pub rx_bytes: u64,
    /// Bytes of the frames that it sent.
    pub tx_bytes: u64,
    /// Frames that it got, modulo 2³².
    pub rx_frames: u32,
    /// Frames that it sent, modulo 2³².
    pub tx_frames: u32,
}

impl Traffic {
    /// No traffic.
    pub const NONE: Traffic = Traffic { rx_bytes: 0, tx_bytes: 0, rx_frames: 0, tx_frames: 0 };

    /// This traffic and that.
    #[must_use]
    pub const fn and(self, other: Traffic) -> Traffic {
        Traffic {
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
            rx_frames: self.rx_frames.wrapping_add(other.rx_frames),
            tx_frames: self.tx_frames.wrapping_add(other.tx_frames),
        }
    }
}

/// What was done with a VM's virtual disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct DiskUse {
    /// Its requests that the disks were asked for, of any kind, done or failed, modulo 2³².
    pub requests: u32,
    /// Blocks that were read for it and that it has written, modulo 2³².
    pub blocks: u32,
}

impl DiskUse {
    /// None.
    pub const NONE: DiskUse = DiskUse { requests: 0, blocks: 0 };

    /// This use and that.
    #[must_use]
    pub const fn and(self, other: DiskUse) -> DiskUse {
        DiskUse { requests: self.requests.wrapping_add(other.requests), blocks: self.blocks.wrapping_add(other.blocks) }
    }

    /// Bytes of its blocks.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.blocks as u64 * BLOCK_BYTES as u64
    }
}

/// What one VM has cost, from its creation on, wherever it was.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
pub struct Charges {
    /// Ticks that components and the core ran on its behalf.
    pub service_ticks: u64,
    /// What it got and sent.
    pub traffic: Traffic,
    /// Pages that it waited for, modulo 2³².
    pub faults: u32,
    /// Times that it was woken from idling, modulo 2³².
    pub wakes: u32,
}

impl Charges {
    /// Nothing.
    pub const NONE: Charges = Charges { service_ticks: 0, traffic: Traffic::NONE, faults: 0, wakes: 0 };
}

impl Words for Traffic {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.rx_bytes.put(words, at);
        self.tx_bytes.put(words, at);
        (self.rx_frames.to_word() << 32 | self.tx_frames.to_word()).put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let (rx_bytes, tx_bytes) = (Words::take(kind, words, at)?, Words::take(kind, words, at)?);
        let frames: u64 = Words::take(kind, words, at)?;
        let (rx_frames, tx_frames) =
            (Word::from_word(kind, frames >> 32)?, Word::from_word(kind, frames & 0xffff_ffff)?);
        Ok(Traffic { rx_bytes, tx_bytes, rx_frames, tx_frames })
    }
}

impl Words for DiskUse {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        (self.requests.to_word() << 32 | self.blocks.to_word()).put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let counts: u64 = Words::take(kind, words, at)?;
        let (requests, blocks) = (Word::from_word(kind, counts >> 32)?, Word::from_word(kind, counts & 0xffff_ffff)?);
        Ok(DiskUse { requests, blocks })
    }
}

impl Words for Charges {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.service_ticks.put(words, at);
        self.traffic.put(words, at);
        (self.faults.to_word() << 32 | self.wakes.to_word()).put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let (service_ticks, traffic) = (Words::take(kind, words, at)?, Words::take(kind, words, at)?);
        let counts: u64 = Words::take(kind, words, at)?;
        let (faults, wakes) = (Word::from_word(kind, counts >> 32)?, Word::from_word(kind, counts & 0xffff_ffff)?);
        Ok(Charges { service_ticks, traffic, faults, wakes })
    }
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Traffic>() == 24 && offset_of!(Traffic, tx_bytes) == 8);
    assert!(offset_of!(Traffic, rx_frames) == 16 && offset_of!(Traffic, tx_frames) == 20);
    assert!(size_of::<DiskUse>() == 8 && offset_of!(DiskUse, blocks) == 4);
    assert!(size_of::<Charges>() == 40 && align_of::<Charges>() == 8);
    assert!(offset_of!(Charges, traffic) == 8 && offset_of!(Charges, faults) == 32 && offset_of!(Charges, wakes) == 36);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_added_up_and_counts_wrap() {
        let some = Traffic { rx_bytes: 1 << 40, tx_bytes: 2, rx_frames: u32::MAX, tx_frames: 4 };
        let sum = some.and(Traffic { rx_bytes: 1, tx_bytes: 1, rx_frames: 1, tx_frames: 1 });
        assert_eq!(sum, Traffic { rx_bytes: (1 << 40) + 1, tx_bytes: 3, rx_frames: 0, tx_frames: 5 });
        assert_eq!(some.and(Traffic::NONE), some);
    }

    #[test]
    fn uses_of_a_disk_are_added_up_and_counts_wrap() {
        let sum = DiskUse { requests: u32::MAX, blocks: 1 << 31 }.and(DiskUse { requests: 2, blocks: 3 });
        assert_eq!(sum, DiskUse { requests: 1, blocks: (1 << 31) + 3 });
        assert_eq!(sum.bytes(), (1 << 43) + 3 * 4096);
    }
}

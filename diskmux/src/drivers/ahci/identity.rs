//! What an ATA disk says of itself.

/// What a disk says that it is (ATA8-ACS, section 7.16): 256 words.
pub(super) struct Identity(pub [u8; 512]);

impl Identity {
    fn word(&self, index: usize) -> u16 {
        u16::from_le_bytes([self.0[2 * index], self.0[2 * index + 1]])
    }

    /// Blocks of 4 KiB, and sectors in one.
    pub fn size(&self) -> Result<(u64, u8), &'static str> {
        // Word 49, bit 8: DMA. Word 83, bit 10: 48-bit addresses.
        if self.word(49) & 1 << 8 == 0 || self.word(83) & 1 << 10 == 0 {
            return Err("the disk at it has no DMA or no 48-bit addresses");
        }
        // Word 106: bits 15 and 14 are 01 when it holds something, bit 12 says that sectors are not of 256 words; words 117 and 118 of how many then.
        let long = self.word(106) & 0xd000 == 0x5000;
        let words = if long { u32::from(self.word(117)) | u32::from(self.word(118)) << 16 } else { 256 };
        let sectors = match words {
            256 => 8,
            512 => 4,
            1024 => 2,
            2048 => 1,
            _ => return Err("the sectors of the disk at it are not of 512 to 4,096 bytes"),
        };
        let count = (100..104).rev().fold(0_u64, |all, index| all << 16 | u64::from(self.word(index)));
        Ok((count.min(1 << 48) / u64::from(sectors), sectors))
    }

    /// Commands that it can queue; 0 for none (word 76, bit 8; word 75).
    pub fn queued(&self) -> usize {
        let can = self.word(76) & 1 << 8 != 0 && self.word(76) != u16::MAX;
        if can { usize::from(self.word(75) & 31) + 1 } else { 0 }
    }
}

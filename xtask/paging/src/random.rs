//! Numbers that look random, the same for the same seed.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number below `end`, which is not 0; nearly fair.
    pub fn below(&mut self, end: u32) -> u32 {
        // The upper half of 32 bits times 32 bits is below `end`.
        let upper = ((self.bits() >> 32) * u64::from(end)) >> 32;
        u32::try_from(upper).unwrap_or(0)
    }

    /// A number from 0 to less than 1.
    pub fn fraction(&mut self) -> f64 {
        // 32 bits: finer than any VM's part of a million by Zipf's law.
        let bits = u32::try_from(self.bits() >> 32).unwrap_or(0);
        f64::from(bits) / 4_294_967_296.0
    }
}

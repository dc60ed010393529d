//! Numbers without a pattern.

/// A generator of 64-bit numbers, the same ones for the same seed (SplitMix64: Steele, Lea, Flood, OOPSLA 2014). Seeds that follow each
/// other give sequences that have nothing in common.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// From a seed.
    pub const fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0; nearly all alike.
    pub fn below(&mut self, end: u32) -> u32 {
        let high = ((self.word() >> 32) * u64::from(end)) >> 32;
        // Below `end`, so it fits.
        u32::try_from(high).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.word().to_le_bytes()[7]
    }

    /// One of these, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let count = u32::try_from(of.len()).unwrap_or(u32::MAX);
        of[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // The first numbers from the seed 1234567, as in the implementations of the authors and of Java's SplittableRandom.
        let mut noise = Noise::new(1_234_567);
        assert_eq!(
            [noise.word(), noise.word(), noise.word()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn numbers_keep_below_their_end_and_reach_it() {
        let mut noise = Noise::new(7);
        let mut seen = [0_u32; 5];
        for _ in 0..5_000 {
            seen[noise.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    }
}

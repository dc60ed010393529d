//! How long VMs that were called from being out have waited until they were in.

/// Buckets of each power of two: what is told is at most a quarter more than it was.
const PER_OCTAVE: usize = 4;
/// Waits of fewer ticks than 2^10 are as good as none, and those of more than 2^41 (an hour and more) all alike.
const FIRST_OCTAVE: u32 = 10;
const OCTAVES: usize = 32;

/// What is counted of their waits, from boot on.
pub struct Wakes {
    woken: u64,
    buckets: [u32; OCTAVES * PER_OCTAVE],
}

impl Wakes {
    /// Nobody was called.
    pub const NONE: Wakes = Wakes { woken: 0, buckets: [0; OCTAVES * PER_OCTAVE] };

    /// One has come in, after so many ticks.
    pub fn count(&mut self, ticks: u64) {
        self.woken += 1;
        let bucket = &mut self.buckets[bucket_of(ticks)];
        *bucket = bucket.saturating_add(1);
    }

    /// How many have.
    pub fn woken(&self) -> u64 {
        self.woken
    }

    /// So many of a hundred had waited no longer, in ticks; 0 while there was none.
    pub fn percentile(&self, of_hundred: u64) -> u64 {
        let all: u64 = self.buckets.iter().map(|&count| u64::from(count)).sum();
        let rank = (all * of_hundred).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return longest_in(bucket);
            }
        }
        0
    }
}

fn bucket_of(ticks: u64) -> usize {
    let ticks = ticks.clamp(1 << FIRST_OCTAVE, (1 << (FIRST_OCTAVE as usize + OCTAVES)) - 1);
    let octave = ticks.ilog2();
    // The two bits below the first one.
    let quarter = usize::try_from(ticks >> (octave - 2)).unwrap_or(0) % PER_OCTAVE;
    (octave - FIRST_OCTAVE) as usize * PER_OCTAVE + quarter
}

/// The longest wait that is counted in a bucket.
fn longest_in(bucket: usize) -> u64 {
    let octave = FIRST_OCTAVE as usize + bucket / PER_OCTAVE;
    (((PER_OCTAVE + bucket % PER_OCTAVE + 1) as u64) << (octave - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nobody_has_waited() {
        assert_eq!((Wakes::NONE.woken(), Wakes::NONE.percentile(50)), (0, 0));
    }

    #[test]
    fn the_extremes_have_buckets() {
        for (ticks, told) in [(0, 1279), (1279, 1279), (1280, 1535), (u64::MAX, (1 << 42) - 1)] {
            let mut wakes = Wakes::NONE;
            wakes.count(ticks);
            assert_eq!((wakes.woken(), wakes.percentile(1), wakes.percentile(100)), (1, told, told), "{ticks}");
        }
    }

    proptest! {
        /// Never less than it was, and at most a quarter more.
        #[test]
        fn percentiles_are_close(mut waits in prop::collection::vec(1_u64 << 10..1 << 41, 1..200), of_hundred in 1_u64..=100) {
            let mut wakes = Wakes::NONE;
            waits.iter().for_each(|&ticks| wakes.count(ticks));
            waits.sort_unstable();
            let rank = (waits.len() * usize::try_from(of_hundred).expect("few")).div_ceil(100);
            let (exact, told) = (waits[rank - 1], wakes.percentile(of_hundred));
            prop_assert!(told >= exact && told <= exact + exact / 4, "{told} for {exact}");
        }
    }
}

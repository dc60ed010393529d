//! How long requests have taken lately: counts by time, of which quantiles are read.
//!
//! A count is of a range of times whose ends are 1 to 1.5, or 1.5 to 2. When one is full, all are halved, so that what is long ago weighs less and less.

/// Ranges: two for each power of two of a microsecond, up to some seconds.
const RANGES: usize = 48;

/// The counts.
#[derive(Clone, Copy, Debug)]
pub struct Latencies([u8; RANGES]);

impl Default for Latencies {
    fn default() -> Self {
        Latencies([0; RANGES])
    }
}

impl Latencies {
    /// A request has taken so many ticks, of which a second has `hz`.
    pub fn add(&mut self, ticks: u64, hz: u64) {
        let microseconds = (ticks / (hz / 1_000_000).max(1)).max(1);
        let power = microseconds.ilog2();
        let upper_half = power > 0 && microseconds >> (power - 1) & 1 != 0;
        let range = (2 * power as usize + usize::from(upper_half)).min(RANGES - 1);
        let Some(count) = self.0.get_mut(range) else { return };
        *count += 1;
        if *count == u8::MAX {
            self.0.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// So many of a hundred requests have taken less than this, in microseconds; 0 where there was none.
    pub fn quantile(&self, percent: u32) -> u32 {
        let all: u32 = self.0.iter().map(|&count| u32::from(count)).sum();
        let mut left = (all * percent).div_ceil(100);
        for (range, &count) in self.0.iter().enumerate() {
            if u32::from(count) >= left {
                return if all == 0 { 0 } else { end_of(range) };
            }
            left -= u32::from(count);
        }
        end_of(RANGES - 1)
    }
}

/// Where a range ends, in microseconds.
fn end_of(range: usize) -> u32 {
    let power = range / 2;
    if range.is_multiple_of(2) && power > 0 { 3 << (power - 1) } else { 2 << power }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks in a microsecond are three.
    const HZ: u64 = 3_000_000;

    #[test]
    fn a_time_lies_below_the_end_of_its_range_and_not_far_below() {
        for microseconds in (1..100_000).chain([1 << 20, (1 << 24) - 1]) {
            let mut one = Latencies::default();
            one.add(3 * microseconds, HZ);
            let end = u64::from(one.quantile(50));
            assert!(microseconds < end && end <= 2 * microseconds, "{microseconds}: {end}");
            assert_eq!(one.quantile(50), one.quantile(99));
        }
        let mut short = Latencies::default();
        short.add(0, HZ);
        short.add(0, 1000);
        assert_eq!(short.quantile(99), 2);
        short.add(u64::MAX, HZ);
        assert_eq!(short.quantile(99), 1 << 24, "what has taken longest stands for all that have");
    }

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let mut all = Latencies::default();
        assert_eq!([0, 50, 99, 100].map(|percent| all.quantile(percent)), [0; 4], "nothing was counted");
        (0..98).for_each(|_| all.add(3 * 10, HZ));
        (0..2).for_each(|_| all.add(3 * 1000, HZ));
        assert_eq!([1, 50, 98, 99, 100].map(|percent| all.quantile(percent)), [12, 12, 12, 1024, 1024]);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut all = Latencies::default();
        (0..200).for_each(|_| all.add(3 * 1_000_000, HZ));
        (0..4000).for_each(|_| all.add(3 * 10, HZ));
        assert_eq!(all.quantile(99), 12);
    }
}

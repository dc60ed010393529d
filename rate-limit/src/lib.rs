//! Rate limit for lines that a guest or a peer can cause: one per call site, or per call site and key.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// A token bucket that is filled by the TSC. Twenty-four bytes, so a table of them per VM is affordable.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// TSC at which the bucket was filled last.
    filled_at: u64,
    tokens: u32,
    suppressed: u32,
    per_second: u32,
    burst: u32,
}

impl RateLimit {
    /// At most `burst` lines at once and `per_second` (at least 1) in the long run.
    pub const fn new(per_second: u32, burst: u32) -> RateLimit {
        let per_second = if per_second == 0 { 1 } else { per_second };
        RateLimit { filled_at: 0, tokens: burst, suppressed: 0, per_second, burst }
    }

    /// Asks for one line at the time `tsc`, when the TSC makes `tsc_hz` ticks a second. `None`: say nothing. `Some(n)`: say
    /// it, and that `n` lines were left out since the last one.
    pub fn allow(&mut self, tsc: u64, tsc_hz: u64) -> Option<u32> {
        let ticks_per_token = (tsc_hz / u64::from(self.per_second)).max(1);
        let new = tsc.saturating_sub(self.filled_at) / ticks_per_token;
        if new >= u64::from(self.burst - self.tokens.min(self.burst)) {
            self.tokens = self.burst;
            self.filled_at = tsc;
        } else {
            // Below `burst`, which is 32 bits wide.
            self.tokens += u32::try_from(new).unwrap_or(0);
            self.filled_at += new * ticks_per_token;
        }
        if self.tokens == 0 {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.tokens -= 1;
        Some(core::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::RateLimit;
    use proptest::prelude::*;

    const HZ: u64 = 1_000;

    #[test]
    fn burst_then_rate() {
        let mut limit = RateLimit::new(10, 3);
        let start = 1_000_000;
        assert_eq!([0, 1, 2].map(|i| limit.allow(start + i, HZ)), [Some(0), Some(0), Some(0)]);
        assert_eq!([3, 50, 98].map(|i| limit.allow(start + i, HZ)), [None; 3]);
        assert_eq!(limit.allow(start + 101, HZ), Some(3));
        assert_eq!(limit.allow(start + 102, HZ), None);
        // After a long silence no more than the burst.
        let later = start + 100_000;
        assert_eq!(limit.allow(later, HZ), Some(1));
        assert_eq!([1, 2, 3].map(|i| limit.allow(later + i, HZ)), [Some(0), Some(0), None]);
    }

    #[test]
    fn nothing_overflows() {
        let mut limit = RateLimit::new(0, 0);
        assert_eq!(limit.allow(u64::MAX, u64::MAX), None);
        assert_eq!(limit.allow(0, 0), None);
        let mut limit = RateLimit::new(u32::MAX, u32::MAX);
        assert_eq!(limit.allow(u64::MAX, 1), Some(0));
        assert_eq!(limit.allow(0, 1), Some(0));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(steps in prop::collection::vec(0_u64..500, 1..400), rate in 1_u32..20, burst in 1_u32..9) {
            let mut limit = RateLimit::new(rate, burst);
            let (mut now, mut said, mut left_out) = (10_000_u64, 0_u64, 0_u64);
            for step in &steps {
                now += step;
                if let Some(n) = limit.allow(now, HZ) {
                    said += 1;
                    left_out += u64::from(n);
                }
            }
            let elapsed = now - 10_000;
            let token = HZ / u64::from(rate);
            prop_assert!(said <= u64::from(burst) + elapsed / token + 1);
            prop_assert!(said + left_out <= steps.len() as u64);
        }
    }
}

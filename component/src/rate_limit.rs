//! Keeps what a guest or a peer can provoke from filling the log.

/// A token bucket over the TSC: one per call site that a guest or a peer can trigger.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    interval: u64,
    burst: u32,
    tokens: u32,
    refilled: u64,
    suppressed: u64,
}

impl RateLimit {
    /// Lets `burst` events through at once and after that one per `interval_ticks` ticks of the TSC.
    pub const fn new(burst: u32, interval_ticks: u64) -> Self {
        let interval = if interval_ticks == 0 { 1 } else { interval_ticks };
        RateLimit { interval, burst, tokens: burst, refilled: 0, suppressed: 0 }
    }

    /// Whether an event at TSC `now` passes: then how many were held back since the last one that did.
    pub fn pass(&mut self, now: u64) -> Option<u64> {
        let earned = now.saturating_sub(self.refilled) / self.interval;
        if earned > 0 {
            self.tokens = u32::try_from(earned).unwrap_or(u32::MAX).saturating_add(self.tokens).min(self.burst);
            // Whole intervals only, so that the rest counts next time. Cannot overflow: it does not exceed `now`.
            self.refilled += earned * self.interval;
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
    use super::*;

    #[test]
    fn burst_then_one_per_interval() {
        let mut limit = RateLimit::new(3, 100);
        for _ in 0..3 {
            assert_eq!(limit.pass(1000), Some(0));
        }
        assert_eq!(limit.pass(1000), None);
        assert_eq!(limit.pass(1099), None);
        assert_eq!(limit.pass(1100), Some(2));
        assert_eq!(limit.pass(1150), None);
        assert_eq!(limit.pass(1200), Some(1));
    }

    #[test]
    fn never_more_than_the_burst_is_saved_up() {
        let mut limit = RateLimit::new(2, 10);
        let passed = (0..50).filter(|_| limit.pass(u64::MAX).is_some()).count();
        assert_eq!(passed, 2);
    }

    proptest::proptest! {
        /// Whatever the clock does, no more passes than burst plus elapsed intervals.
        #[test]
        fn bounded(steps in proptest::collection::vec(0_u64..500, 1..200), burst in 1_u32..10, interval in 0_u64..300) {
            let mut limit = RateLimit::new(burst, interval);
            let mut now = 0;
            let mut passed = 0_u64;
            for step in steps {
                now += step;
                passed += u64::from(limit.pass(now).is_some());
            }
            proptest::prop_assert!(passed <= u64::from(burst) + now / interval.max(1));
        }
    }
}

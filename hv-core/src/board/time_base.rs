//! How the TSC relates to time.

/// Rate of the TSC, and where it was at the start.
#[derive(Clone, Copy, Debug)]
pub struct TimeBase {
    tsc_hz: u64,
    /// 32.32 fixed point.
    ns_per_tick: u64,
    started_tsc: u64,
}

impl TimeBase {
    /// A TSC of `tsc_hz` ticks a second that was `started_tsc` at the start.
    pub fn new(tsc_hz: u64, started_tsc: u64) -> Self {
        let ns_per_tick = (1_000_000_000_u128 << 32) / u128::from(tsc_hz.max(1));
        TimeBase { tsc_hz, ns_per_tick: u64::try_from(ns_per_tick).unwrap_or(u64::MAX), started_tsc }
    }

    /// Ticks of the TSC in a second.
    #[inline]
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// Ticks from the start to this TSC.
    pub fn since_start(&self, tsc: u64) -> u64 {
        tsc.saturating_sub(self.started_tsc)
    }

    /// Nanoseconds per tick, 32.32 fixed point.
    pub fn ns_per_tick(&self) -> u64 {
        self.ns_per_tick
    }

    /// `ms` milliseconds in ticks.
    pub fn milliseconds(&self, ms: u64) -> u64 {
        self.tsc_hz / 1000 * ms
    }
}

#[cfg(test)]
mod tests {
    use super::TimeBase;

    #[test]
    fn ticks_and_time() {
        let base = TimeBase::new(2_000_000_000, 1000);
        assert_eq!(base.ns_per_tick(), 1 << 31);
        assert_eq!(base.milliseconds(3), 6_000_000);
        assert_eq!((base.since_start(1007), base.since_start(3)), (7, 0));
        assert_eq!(TimeBase::new(0, 0).ns_per_tick(), 1_000_000_000 << 32);
    }
}

//! Time that nobody has stolen: the TSC goes on while the host of an emulator, the firmware or a closed lid keeps the machine from
//! running, and whoever is measured by it is blamed for what he could not have done meanwhile. The core looks at the clock again and
//! again, at most [`PERIOD_MS`] apart while anything goes on, and what lies between two looks counts as one period at most.

/// Milliseconds between two looks, and what a longer break counts as.
pub const PERIOD_MS: u64 = 100;

/// A clock that counts stolen time once.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// What it showed at the last look, in ticks of the TSC, and the TSC then.
    ticks: u64,
    looked_at: u64,
    period_ticks: u64,
}

impl Steady {
    /// A clock that shows 0 at the TSC `now`. Ticks of [`PERIOD_MS`].
    pub const fn new(now: u64, period_ticks: u64) -> Self {
        Steady { ticks: 0, looked_at: now, period_ticks }
    }

    /// What it shows at the TSC `now`, in ticks.
    #[inline]
    pub fn at(&self, now: u64) -> u64 {
        self.ticks.saturating_add(now.saturating_sub(self.looked_at).min(self.period_ticks))
    }

    /// The core looks at it at the TSC `now`. What it shows then.
    pub fn look(&mut self, now: u64) -> u64 {
        self.ticks = self.at(now);
        self.looked_at = now;
        self.ticks
    }

    /// Ticks that were stolen until the TSC `now`, over what they were at another time.
    #[inline]
    pub fn stolen(&self, now: u64) -> u64 {
        now.saturating_sub(self.at(now))
    }

    /// Ticks of a period.
    #[inline]
    pub const fn period_ticks(&self) -> u64 {
        self.period_ticks
    }
}

#[cfg(test)]
mod tests {
    use super::Steady;

    #[test]
    fn stolen_time_counts_as_one_period() {
        let mut steady = Steady::new(1_000, 100);
        assert_eq!((steady.at(1_000), steady.at(1_099), steady.at(1_100), steady.at(9_000)), (0, 99, 100, 100));
        assert_eq!(steady.look(1_060), 60);
        assert_eq!((steady.at(1_061), steady.at(7_000)), (61, 160));
        assert_eq!(steady.look(7_000), 160);
        assert_eq!(steady.at(7_010), 170);
    }

    #[test]
    fn what_was_stolen_is_the_rest() {
        let mut steady = Steady::new(1_000, 100);
        let before = steady.stolen(1_090);
        steady.look(1_090);
        assert_eq!((steady.stolen(1_190) - before, steady.stolen(1_290) - before), (0, 100));
        steady.look(9_000);
        assert_eq!(steady.stolen(9_050) - before, 9_000 - 1_190);
    }

    #[test]
    fn it_never_goes_back() {
        let mut steady = Steady::new(1_000, 100);
        assert_eq!(steady.look(1_050), 50);
        assert_eq!((steady.at(0), steady.look(0), steady.at(u64::MAX)), (50, 50, 150));
    }
}

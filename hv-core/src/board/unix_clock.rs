//! Unix time: what the loader read from the machine's clock, as whoever knows better has adjusted it since, and how it goes on.

/// Parts of a million by which time may go faster or slower while it is adjusted, at most: what a guest that measures seconds does not notice.
pub const MOST_PPM: u32 = 1_000;
/// "No adjustment is under way".
const NEVER: u64 = u64::MAX;

/// How a TSC becomes Unix time, as guests find it in their register pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds for each tick from `tsc` on, 32.32 fixed point.
    pub ns_per_tick: u64,
    pub tsc: u64,
    /// Unix time at `tsc`, in nanoseconds.
    pub unix_ns: u64,
}

/// The clock. It never goes backwards but where it is set.
#[derive(Clone, Copy, Debug)]
pub struct UnixClock {
    now: Reading,
    /// Nanoseconds for each tick when nothing is adjusted.
    ns_per_tick: u64,
    /// TSC at which the adjustment that is under way is done.
    until: u64,
}

impl UnixClock {
    /// A clock that shows `unix_ns` at a TSC.
    pub const fn new(tsc: u64, unix_ns: u64, ns_per_tick: u64) -> Self {
        UnixClock { now: Reading { ns_per_tick, tsc, unix_ns }, ns_per_tick, until: NEVER }
    }

    /// How it goes on from a TSC.
    pub fn reading(&self, tsc: u64) -> Reading {
        let Reading { ns_per_tick, tsc: from, unix_ns } = self.now;
        let ns = |ticks: u64| u64::try_from((u128::from(ticks) * u128::from(ns_per_tick)) >> 32).unwrap_or(u64::MAX);
        let unix_ns = match tsc.checked_sub(from) {
            Some(ticks) => unix_ns.saturating_add(ns(ticks)),
            None => unix_ns.saturating_sub(ns(from - tsc)),
        };
        Reading { ns_per_tick, tsc, unix_ns }
    }

    /// It is `by_ns` more from now on: at once where `ppm` is 0, else by going faster or slower by so many parts of a million until that is so. What
    /// was left of an earlier adjustment is forgotten. False, and nothing has changed, for more than [`MOST_PPM`], or a time before 1970 or after 2262.
    #[must_use]
    pub fn adjust(&mut self, tsc: u64, by_ns: i64, ppm: u32) -> bool {
        let mut now = Reading { ns_per_tick: self.ns_per_tick, ..self.reading(tsc) };
        let goal = now.unix_ns.checked_add_signed(by_ns).filter(|&ns| i64::try_from(ns).is_ok());
        let Some(goal) = goal.filter(|_| ppm <= MOST_PPM) else { return false };
        let step = u64::try_from(u128::from(self.ns_per_tick) * u128::from(ppm) / 1_000_000).unwrap_or(0);
        let mut until = NEVER;
        if ppm == 0 {
            now.unix_ns = goal;
        } else if by_ns != 0 && step != 0 {
            now.ns_per_tick = if by_ns > 0 { self.ns_per_tick + step } else { self.ns_per_tick - step };
            let ticks = (u128::from(by_ns.unsigned_abs()) << 32) / u128::from(step);
            until = tsc.saturating_add(u64::try_from(ticks).unwrap_or(NEVER));
        }
        (self.now, self.until) = (now, until);
        true
    }

    /// TSC at which [`UnixClock::settle`] has to be called.
    #[inline]
    pub const fn due(&self) -> u64 {
        self.until
    }

    /// An adjustment that is done by this TSC ends. True when one has, so that guests have to be told.
    #[must_use]
    pub fn settle(&mut self, tsc: u64) -> bool {
        if tsc < self.until || self.until == NEVER {
            return false;
        }
        self.now = Reading { ns_per_tick: self.ns_per_tick, ..self.reading(self.until) };
        self.until = NEVER;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two ticks a nanosecond.
    fn clock() -> UnixClock {
        UnixClock::new(1_000, 5_000_000, 1 << 31)
    }

    fn at(clock: &UnixClock, tsc: u64) -> u64 {
        clock.reading(tsc).unix_ns
    }

    #[test]
    fn it_goes_on_from_a_tsc_and_goes_back_before_it() {
        let clock = clock();
        assert_eq!(clock.reading(1_200), Reading { ns_per_tick: 1 << 31, tsc: 1_200, unix_ns: 5_000_100 });
        assert_eq!(at(&clock, 0), 4_999_500);
        assert_eq!(at(&UnixClock::new(u64::MAX, 7, 1 << 31), 0), 0);
        assert_eq!(at(&UnixClock::new(0, 7, u64::MAX), u64::MAX), u64::MAX);
    }

    #[test]
    fn it_is_set_at_once_where_nobody_says_how_fast() {
        for (by_ns, shown) in [(700, 5_000_800), (-5_000_100, 0)] {
            let mut clock = clock();
            assert!(clock.adjust(1_200, by_ns, 0));
            assert_eq!((at(&clock, 1_200), clock.due()), (shown, NEVER));
            assert!(!clock.settle(u64::MAX - 1));
        }
    }

    #[test]
    fn it_is_adjusted_by_going_faster_or_slower_until_that_is_done() {
        for (by_ns, rate) in [(1_000, 1.001), (-1_000, 0.999)] {
            let mut clock = clock();
            assert!(clock.adjust(1_000, by_ns, 1_000));
            // A thousand ns, a thousandth each.
            let due = clock.due();
            assert!((2_000_900..2_001_100).contains(&due), "{due}");
            let half = at(&clock, 1_000 + 1_000_000) - 5_000_000;
            #[allow(clippy::cast_precision_loss)]
            let is_so_fast = (half as f64 / 500_000.0 - rate).abs() < 1e-5;
            assert!(is_so_fast, "{half}");
            assert!(!clock.settle(due - 1));
            let shown = at(&clock, due + 50);
            assert!(clock.settle(due + 50) && !clock.settle(due + 60));
            assert!(shown.abs_diff(at(&clock, due + 50)) <= 1);
            let goal = (5_000_000 + (due - 1_000) / 2).checked_add_signed(by_ns).expect("a time");
            assert!(at(&clock, due).abs_diff(goal) <= 2, "{} {goal}", at(&clock, due));
            assert_eq!((clock.reading(due).ns_per_tick, clock.due()), (1 << 31, NEVER));
        }
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let mut clock = clock();
        for (by_ns, ppm) in [(1, MOST_PPM + 1), (-5_000_001, 0), (-6_000_000, 500), (i64::MAX, 0)] {
            assert!(!clock.adjust(1_000, by_ns, ppm));
        }
        assert_eq!((at(&clock, 1_000), clock.due()), (5_000_000, NEVER));
        assert!(clock.adjust(1_000, 0, 500));
        assert_eq!((clock.reading(1_000).ns_per_tick, clock.due()), (1 << 31, NEVER));
    }

    proptest! {
        #[test]
        fn it_never_goes_backwards_and_is_right_in_the_end(
            steps in proptest::collection::vec((1_u64..1 << 40, -50_000_000_i64..50_000_000, 1..=MOST_PPM), 1..20)
        ) {
            let mut clock = UnixClock::new(0, 1 << 60, 1 << 31);
            let (mut tsc, mut shown) = (0, 1 << 60);
            for (ticks, by_ns, ppm) in steps {
                tsc += ticks;
                let _ = clock.settle(tsc);
                let before = at(&clock, tsc);
                prop_assert!(before >= shown);
                prop_assert!(clock.adjust(tsc, by_ns, ppm));
                prop_assert!(at(&clock, tsc) == before, "it does not jump");
                let due = clock.due();
                if due != NEVER {
                    let (mut done, free) = (clock, before + (due - tsc) / 2);
                    prop_assert!(done.settle(due));
                    prop_assert!(at(&done, due).abs_diff(free.checked_add_signed(by_ns).expect("a time")) <= 1 << 12);
                }
                shown = before;
            }
        }
    }
}

//! How many requests in a second a VM may have carried out.
//!
//! It is kept as the time when all that was taken is paid for (the generic cell rate algorithm, ITU-T I.371): each request moves that time by 1 / rate, and one
//! may be taken while it is no further away than a burst. What is rounded is rounded so that less is done.

use abi::attachment::UNLIMITED;

/// Requests that a VM whose rate is limited may have at once after a pause.
pub const BURST: u64 = 16;

/// A VM's limit, and what it has used of it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests in a second.
    limit: u16,
    paid_at: u64,
}

impl Rate {
    /// So many requests in a second; 0 and [`UNLIMITED`] for no limit. The first burst has to be waited for: a VM that its creator replaces again and again
    /// gains none.
    pub fn new(limit: u16, now: u64, hz: u64) -> Self {
        let rate = Rate { limit, paid_at: 0 };
        Rate { paid_at: now.saturating_add((BURST - 1) * rate.each(hz)), ..rate }
    }

    /// Ticks that a request takes.
    fn each(&self, hz: u64) -> u64 {
        hz.div_ceil(u64::from(self.limit.max(1)))
    }

    /// When the next request may be taken, if that is later than `now`.
    pub fn due(&self, now: u64, hz: u64) -> Option<u64> {
        if self.limit == 0 || self.limit == UNLIMITED {
            return None;
        }
        let due = self.paid_at.saturating_sub((BURST - 1) * self.each(hz));
        (due > now).then_some(due)
    }

    /// A request is taken.
    pub fn spend(&mut self, now: u64, hz: u64) {
        self.paid_at = self.paid_at.max(now).saturating_add(self.each(hz));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const HZ: u64 = 1_000_000;

    #[test]
    fn no_limit_is_none() {
        for limit in [0, UNLIMITED] {
            let mut rate = Rate::new(limit, 5, HZ);
            (0..1000).for_each(|_| rate.spend(5, HZ));
            assert_eq!(rate.due(5, HZ), None);
        }
    }

    #[test]
    fn who_always_asks_gets_the_rate() {
        let (mut rate, mut now, mut taken) = (Rate::new(100, 0, HZ), 0, 0);
        while now < 10 * HZ {
            match rate.due(now, HZ) {
                Some(due) => now = due,
                None => {
                    rate.spend(now, HZ);
                    taken += 1;
                }
            }
        }
        assert!((999..=1001).contains(&taken), "{taken}");
    }

    proptest! {
        /// In any time no more than the rate and a burst.
        #[test]
        fn never_more_than_burst_and_rate(steps in prop::collection::vec(0_u64..30_000, 1..400), limit in 1_u16..2000) {
            let (mut rate, mut now, mut taken) = (Rate::new(limit, 0, HZ), 0, Vec::new());
            for step in steps {
                now += step;
                if rate.due(now, HZ).is_none() {
                    rate.spend(now, HZ);
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let most = BURST + (to - from) * u64::from(limit) / HZ + 1;
                    prop_assert!(u64::try_from(last - first + 1).expect("few") <= most);
                }
            }
        }
    }
}

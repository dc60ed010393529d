//! From the TSC to nanoseconds and back. Reading the time is no exit: one RDTSC and one multiplication.

use crate::cell::global;
use crate::platform::tsc;
use core::cell::Cell;

/// How ticks become time. Time starts at the start of the VM, and never jumps.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// A TSC, and the time then in nanoseconds.
    start: u64,
    start_ns: u64,
    /// Nanoseconds per tick, 32.32.
    ns_per_tick: u64,
    /// Ticks per nanosecond, 32.32.
    ticks_per_ns: u64,
    /// Unix time in nanoseconds when time started.
    unix_ns: u64,
}

global! {
    /// The sequence word before the register page was read last.
    static SEEN: Cell<u32> = Cell::new(0);
}
global! {
    static CLOCK: Cell<Clock> = Cell::new(Clock { start: 0, start_ns: 0, ns_per_tick: 1 << 32, ticks_per_ns: 1 << 32, unix_ns: 0 });
}

impl Clock {
    fn new(ns_per_tick: u64, start: u64, unix_ns: u64) -> Clock {
        let ns_per_tick = ns_per_tick.max(1);
        let ticks_per_ns = u64::try_from((1_u128 << 64) / u128::from(ns_per_tick)).unwrap_or(u64::MAX);
        Clock { start, start_ns: 0, ns_per_tick, ticks_per_ns, unix_ns }
    }

    /// The clock that says the same as this one at the TSC `now`, goes on as `other` does, and tells its Unix time.
    fn then(&self, other: Clock, now: u64) -> Clock {
        let start_ns = self.ns(now);
        let unix_ns = other.unix_ns.wrapping_add(other.ns(now)).wrapping_sub(start_ns);
        Clock { start: now, start_ns, unix_ns, ..other }
    }

    #[inline]
    fn ns(&self, ticks: u64) -> u64 {
        self.start_ns + fixed(ticks.wrapping_sub(self.start), self.ns_per_tick)
    }

    /// The first tick at which `ns` nanoseconds are over.
    fn ticks(&self, ns: u64) -> u64 {
        self.start.saturating_add(fixed(ns.saturating_sub(self.start_ns), self.ticks_per_ns)).saturating_add(1)
    }
}

/// `value` times a 32.32 factor.
#[inline]
fn fixed(value: u64, factor: u64) -> u64 {
    u64::try_from((u128::from(value) * u128::from(factor)) >> 32).unwrap_or(u64::MAX)
}

/// Takes over what the register page says.
pub(crate) fn start() {
    note_sequence();
    let (ns_per_tick, start, unix_ns) = crate::registers::clock();
    CLOCK.with(|clock| clock.set(Clock::new(ns_per_tick, start, unix_ns)));
}

/// Takes over what the register page says now, without a jump.
pub(crate) fn change() {
    note_sequence();
    let (ns_per_tick, start, unix_ns) = crate::registers::clock();
    let other = Clock::new(ns_per_tick, start, unix_ns);
    CLOCK.with(|clock| clock.set(clock.get().then(other, tsc())));
}

/// Nanoseconds since the start of the VM.
#[inline]
pub(crate) fn now_ns() -> u64 {
    CLOCK.with(|clock| clock.get().ns(tsc()))
}

/// The TSC's value at which the clock shows `ns`; `u64::MAX` stays.
pub(crate) fn deadline_ticks(ns: u64) -> u64 {
    if ns == u64::MAX { ns } else { CLOCK.with(|clock| clock.get().ticks(ns)) }
}

/// Unix time in nanoseconds, also when the machine's clock has been adjusted, of which nobody is told.
pub(crate) fn unix_ns() -> u64 {
    if SEEN.with(Cell::get) != crate::registers::sequence() {
        change();
    }
    CLOCK.with(Cell::get).unix_ns.wrapping_add(now_ns())
}

/// Before the page is read: when it changes meanwhile, it is read once more later.
fn note_sequence() {
    SEEN.with(|seen| seen.set(crate::registers::sequence()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_clock_goes_on_where_the_old_one_was() {
        // Two ticks a nanosecond, and then one every four.
        let old = Clock::new(1 << 31, 1000, 5_000_000);
        let other = Clock::new(4 << 32, 3000, 77_000_000);
        let new = old.then(other, 5000);
        assert_eq!([old.ns(5000), new.ns(5000), new.ns(5010)], [2000, 2000, 2040]);
        // At 5000 the Unix time is 77,000,000 ns and 2,000 ticks of 4 ns.
        assert_eq!(new.unix_ns.wrapping_add(new.ns(5000)), 77_008_000);
        assert_eq!((new.ticks(2400), new.ticks(7)), (5101, 5001));
    }

    proptest! {
        #[test]
        fn a_deadline_is_never_early_and_hardly_late(hz in 1_000_000u64..5_000_000_000, start: u32, ns in 0u64..1 << 52) {
            let ns_per_tick = u64::try_from((1_000_000_000u128 << 32) / u128::from(hz)).expect("at least 1 MHz");
            let clock = Clock::new(ns_per_tick, start.into(), 0);
            let ticks = clock.ticks(ns);
            let shown = clock.ns(ticks);
            // Both factors are rounded down, so the error grows with the time: below a part in 2^20 at these frequencies.
            let slack = (ns >> 20) + 3_000;
            prop_assert!(shown + slack >= ns && shown <= ns + slack, "{} {}", shown, ns);
        }
    }
}

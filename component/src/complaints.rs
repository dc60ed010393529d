//! Lines that a guest or a peer can provoke.

use rate_limit::RateLimit;

/// Lines at once, and in the long run in a second.
const BURST: u32 = 10;
const PER_SECOND: u32 = 1;

/// How often a component says what others provoke: ten lines at once, then one a second.
#[derive(Clone, Copy, Debug)]
pub struct Complaints {
    limit: RateLimit,
    tsc_hz: u64,
}

impl Complaints {
    /// None was said yet. The TSC makes `tsc_hz` ticks a second.
    pub const fn new(tsc_hz: u64) -> Self {
        Complaints { limit: RateLimit::new(PER_SECOND, BURST), tsc_hz }
    }

    /// Whether a line passes at TSC `now`: then how many were held back since the last one that did.
    pub fn pass(&mut self, now: u64) -> Option<u32> {
        self.limit.allow(now, self.tsc_hz)
    }
}

#[cfg(test)]
mod tests {
    use super::Complaints;

    #[test]
    fn ten_at_once_then_one_a_second() {
        let mut complaints = Complaints::new(1000);
        let said = (0..25).filter(|_| complaints.pass(5_000).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!([complaints.pass(5_999), complaints.pass(6_000), complaints.pass(6_001)], [None, Some(16), None]);
    }
}

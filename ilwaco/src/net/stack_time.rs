//! Microseconds, in which this stack counts, and smoltcp's time.

use smoltcp::time::Instant as StackTime;

/// A moment for smoltcp.
pub(super) fn stack_time(us: u64) -> StackTime {
    StackTime::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

/// When smoltcp wants to be polled: microseconds, 0 for at once.
pub(super) fn due(at: Option<StackTime>) -> u64 {
    at.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0))
}

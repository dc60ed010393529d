//! How many connections a guest is asked to hold at once.
//!
//! A guest has room for so many, and drops or resets what is beyond; how many is its own business and may change. So it is
//! learnt: each handshake that succeeds at the limit raises it, each that gets no answer says that the guest is full.

use std::time::{Duration, Instant};

/// The limit at the start.
const START: usize = 16;
/// The highest limit.
const MOST: usize = 1024;
/// Handshakes at once: so few that a guest's queue of incomplete ones holds them beside those whose last segment is on its way.
const HANDSHAKES: usize = 8;
/// A guest that has not answered a SYN for so long has no room.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How long a guest that has refused a connection is left alone.
const REST: Duration = Duration::from_millis(50);

/// What is known about a guest.
pub struct Capacity {
    limit: usize,
    /// Handshakes that have begun.
    connecting: usize,
    /// Connections that are made.
    open: usize,
    /// No handshake begins before.
    rest: Option<Instant>,
}

impl Capacity {
    pub fn new() -> Capacity {
        Capacity { limit: START, connecting: 0, open: 0, rest: None }
    }

    /// True when a handshake may begin.
    pub fn has_room(&self, now: Instant) -> bool {
        // One handshake may always be tried: what is known about the guest may be out of date.
        let within = self.connecting == 0 || self.connecting + self.open < self.limit;
        self.connecting < HANDSHAKES && within && self.rest.is_none_or(|rest| now >= rest)
    }

    /// True when it holds connections, so that somebody listens there.
    pub fn is_known(&self) -> bool {
        self.open > 0
    }

    /// True when the last one was refused.
    pub fn is_refusing(&self) -> bool {
        self.rest.is_some()
    }

    /// A handshake begins.
    pub fn begin(&mut self) {
        self.rest = None;
        self.connecting += 1;
    }

    /// A handshake was completed.
    pub fn complete(&mut self) {
        self.connecting -= 1;
        self.open += 1;
        if self.open + self.connecting >= self.limit.saturating_sub(HANDSHAKES) {
            self.limit = MOST.min(self.limit + 1);
        }
    }

    /// A handshake got no answer.
    pub fn unanswered(&mut self) {
        self.connecting -= 1;
        self.limit = self.open.max(1);
    }

    /// A handshake was refused.
    pub fn refused(&mut self, now: Instant) {
        self.connecting -= 1;
        self.limit = self.open.max(1);
        self.rest = Some(now + REST);
    }

    /// A connection was reset although its handshake seemed complete.
    pub fn evicted(&mut self, now: Instant) {
        self.open -= 1;
        self.limit = self.open.max(1);
        self.rest = Some(now + REST);
    }

    /// A handshake was given up by the client.
    pub fn forget(&mut self) {
        self.connecting -= 1;
    }

    /// A connection has ended.
    pub fn end(&mut self) {
        self.open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_guest() {
        let now = Instant::now();
        let mut guest = Capacity::new();
        for _ in 0..200 {
            assert!(guest.has_room(now));
            guest.begin();
            guest.complete();
        }
        assert!(guest.limit > 200, "a guest that takes everything gets everything");
        guest.begin();
        guest.unanswered();
        assert!(guest.has_room(now), "one may always be tried");
        guest.begin();
        assert!(!guest.has_room(now), "but one only, while the guest is full");
        guest.end();
        guest.end();
        assert!(guest.has_room(now), "until connections end");
    }

    #[test]
    fn a_guest_that_refuses_is_left_alone_for_a_while() {
        let now = Instant::now();
        let mut guest = Capacity::new();
        guest.begin();
        guest.refused(now);
        assert!(!guest.has_room(now) && guest.has_room(now + REST));
        guest.begin();
        guest.complete();
        guest.evicted(now);
        assert!(!guest.has_room(now) && !guest.is_known());
    }

    #[test]
    fn handshakes_at_once_are_few() {
        let mut guest = Capacity::new();
        (0..HANDSHAKES).for_each(|_| guest.begin());
        assert!(!guest.has_room(Instant::now()));
        guest.complete();
        assert!(guest.has_room(Instant::now()));
    }

    #[test]
    fn a_guest_that_answers_nothing_is_asked_one_at_a_time() {
        let now = Instant::now();
        let mut guest = Capacity::new();
        guest.begin();
        guest.unanswered();
        assert!(guest.has_room(now));
        guest.begin();
        assert!(!guest.has_room(now));
    }
}

//! When it is probed whether the peer of an idle connection is still there (RFC 9293 3.8.4), for programs that ask for them.

/// Probes without an answer after which the peer is gone: some of them may have been lost.
const PROBES: u8 = 8;
/// The most and the least between two of them, in microseconds.
const MOST_GAP_US: u64 = 75_000_000;
const LEAST_GAP_US: u64 = 1_000_000;

/// When a connection's peer is asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    /// The silence before the first probe, in microseconds.
    pub(super) idle: u64,
    /// Probes since the peer was last heard, and when the last one was sent.
    tries: u8,
    last: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing before this time, in microseconds.
    Wait(u64),
    Probe,
    GiveUp,
}

impl KeepAlive {
    /// `idle`: the silence before the first probe, in microseconds.
    pub(super) fn new(idle: u64) -> KeepAlive {
        KeepAlive { idle: idle.max(LEAST_GAP_US), tries: 0, last: 0 }
    }

    /// How long an answer to a probe is waited for.
    pub(super) fn gap(&self) -> u64 {
        (self.idle / 4).clamp(LEAST_GAP_US, MOST_GAP_US)
    }

    /// `met`: when the peer was last heard; `in_flight`: something is, so that the retransmission timer asks anyway.
    pub(super) fn turn(&mut self, met: u64, in_flight: bool, now: u64) -> Turn {
        if self.tries > 0 && met >= self.last {
            self.tries = 0;
        }
        let due = match self.tries {
            0 if in_flight => now.max(met) + self.idle,
            0 => met + self.idle,
            _ => self.last + self.gap(),
        };
        match self.tries {
            _ if now < due => Turn::Wait(due),
            PROBES.. => Turn::GiveUp,
            _ => {
                self.tries += 1;
                self.last = now;
                Turn::Probe
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn who_answers_is_asked_again_after_a_silence_and_who_does_not_is_given_up() {
        let mut alive = KeepAlive::new(40 * SECOND);
        assert_eq!(alive.turn(0, false, 39 * SECOND), Turn::Wait(40 * SECOND));
        assert_eq!(alive.turn(0, false, 40 * SECOND), Turn::Probe);
        assert_eq!(alive.turn(0, false, 41 * SECOND), Turn::Wait(50 * SECOND));
        assert_eq!(alive.turn(42 * SECOND, false, 50 * SECOND), Turn::Wait(82 * SECOND));
        for probe in 0..8 {
            assert_eq!(alive.turn(42 * SECOND, false, (82 + probe * 10) * SECOND), Turn::Probe);
        }
        assert_eq!(alive.turn(42 * SECOND, false, 162 * SECOND), Turn::GiveUp);
        let mut alive = KeepAlive::new(1);
        assert_eq!(alive.turn(0, false, 1), Turn::Wait(SECOND), "not more often than that");
        assert_eq!(alive.turn(0, true, 5 * SECOND), Turn::Wait(6 * SECOND), "the other timer asks");
    }
}

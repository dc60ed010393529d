//! Probes whether the peer of an idle connection is still there (RFC 9293 3.8.4), for programs that ask for them.

use super::answer::{self, Control};
use super::frame::{ACK, Segment};
use super::places::Place;
use super::stack::Stack;

/// Probes without an answer after which the peer is gone: some of them may have been lost.
const PROBES: u8 = 8;
/// The most and the least between two of them, in microseconds.
const MOST_GAP_US: u64 = 75_000_000;
const LEAST_GAP_US: u64 = 1_000_000;

/// When a connection's peer is asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    /// The silence before the first probe, in microseconds.
    idle: u64,
    /// Probes since the peer was last heard, and when the last one was sent.
    tries: u8,
    last: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
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
    fn gap(&self) -> u64 {
        (self.idle / 4).clamp(LEAST_GAP_US, MOST_GAP_US)
    }

    /// `met`: when the peer was last heard; `in_flight`: something is, so that the retransmission timer asks anyway.
    fn turn(&mut self, met: u64, in_flight: bool, now: u64) -> Turn {
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

impl Stack {
    /// Asks the peer of a connection whether it is there, if that is due. When it is next, in microseconds.
    #[cold]
    pub(super) fn keep_alive(&mut self, index: usize) -> u64 {
        let now = self.now;
        let Some(Place { flow, track, endpoint: Some(endpoint), alive: Some(alive), .. }) = self.places.get_mut(index)
        else {
            return u64::MAX;
        };
        let (una, next) = track.sent;
        let (Some((ack, _)), Some(hop)) = (track.received, track.hop) else { return now + alive.idle };
        match alive.turn(track.met, una != next, now) {
            Turn::Wait(until) => until,
            Turn::GiveUp => {
                endpoint.socket().abort();
                now
            }
            Turn::Probe => {
                // A number that the peer has acknowledged: it says so again.
                let control = Control { seq: next.wrapping_sub(1), ack, flags: ACK, window: track.window };
                let to = Segment { flow: *flow, hop, start: 0, flags: 0, seq: 0, ack: 0, window: 0, len: 0 };
                let probe = answer::segment(&to, &self.link.own, control, None);
                // One that finds no room is as good as one that gets lost.
                self.device.send(probe.bytes());
                now + alive.gap()
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

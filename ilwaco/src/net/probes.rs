//! Probes whether the peer of an idle connection is still there: sent when `alive.rs` says so.

use super::alive::Turn;
use super::answer::{self, Control};
use super::frame::{ACK, Segment};
use super::place::Place;
use super::stack::Stack;

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

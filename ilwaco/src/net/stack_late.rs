//! Acknowledgements of which a connection's socket hears later.
//!
//! Where a peer does nothing but acknowledge all that there was, nobody waits for that, and the connection has nothing to say, the socket
//! has nothing to do: it keeps some bytes for longer. What it is to know stands in the track; the peer's next request tells it as well, at no
//! cost. Before anything else that has to do with the socket, it is told (a thousand instructions).

use super::answer::{self, Control};
use super::congestion::Congestion;
use super::connection::Stage;
use super::frame::{ACK, ETHERNET_HEADER, Segment};
use super::handshake::Replay;
use super::place::Place;
use super::stack::Stack;
use super::stack_time::stack_time;
use smoltcp::socket::tcp::State;

/// For so long, in microseconds, an acknowledgement may wait for the segment that comes next: what the socket measures of round trips is as
/// much too long then, which is far below what it waits for at least.
const LATE_US: u64 = 50_000;

impl Stack {
    /// Whether the socket of a connection need not hear now of a segment that was found good and holds nothing.
    #[inline]
    pub(super) fn may_be_late(&mut self, index: usize, segment: &Segment) -> bool {
        let place = &mut self.places[index];
        let (una, next) = place.track.sent;
        // Where something waits for the peer's window, what the window is cannot be late.
        if !place.all_sent
            || segment.flags != ACK
            || una != next
            || !place.track.owes_nothing()
            || place.late.awaited
            || place.late.pushed
        {
            return false;
        }
        let Some(endpoint) = &mut place.endpoint else { return false };
        // A window that closes, or opens, is the socket's business at once.
        let late = endpoint.stage == Stage::Owned
            && !place.touched
            && segment.ack == next
            && place.alive.is_none()
            && place.track.congestion == Congestion::NONE
            && place.track.peer.window != 0
            && endpoint.socket().state() == State::Established;
        place.late.unheard |= late;
        late
    }

    /// The socket of a connection is about to take a segment of `len` bytes, by which it hears of all before.
    #[cold]
    pub(super) fn is_told(&mut self, index: usize, len: u32) {
        let place = &mut self.places[index];
        // Who waits is woken by the first word of something new, and says so again where that was not enough.
        place.late.awaited &= place.track.flight() != 0;
        if len != 0 {
            place.late.pushed = false;
        }
        if place.late.unheard {
            if self.now > place.track.acknowledged_at() + LATE_US {
                self.hear_late(index);
            }
            self.places[index].late.unheard = false;
        }
    }

    /// The socket of a connection is about to be used: it hears of what it has not heard of.
    #[inline]
    pub(super) fn catch_up(&mut self, index: usize) {
        if self.places.get(index).is_some_and(|place| place.late.unheard) {
            self.hear_late(index);
            let place = &mut self.places[index];
            // Who sends without being asked gains nothing by this.
            (place.late.unheard, place.late.pushed) = (false, true);
        }
    }

    /// Tells the socket of a connection what the peer has acknowledged last, as of then.
    #[cold]
    #[inline(never)]
    fn hear_late(&mut self, index: usize) {
        let at = self.places[index].track.acknowledged_at();
        let peer = self.places[index].track.peer;
        let window = u16::try_from(peer.window >> peer.scale).unwrap_or(u16::MAX);
        self.hear(index, window, at);
    }

    /// Tells the socket of a connection what the peer has acknowledged, and that it has such a window, as if it had said so at this time.
    pub(super) fn hear(&mut self, index: usize, window: u16, at: u64) {
        let Some(Place { flow, track, endpoint: Some(endpoint), .. }) = self.places.get_mut(index) else { return };
        let Some((_, seq)) = track.received else { return };
        let (una, _) = track.sent;
        let heard = Control { seq, ack: una.wrapping_sub(track.shift), flags: ACK, window };
        let told = answer::tell(*flow, &self.link.own, heard);
        let mut replay = Replay { packet: told.bytes().get(ETHERNET_HEADER..), seq: None };
        self.iface.poll_ingress_single(stack_time(at), &mut replay, &mut endpoint.set);
    }
}

//! One TCP connection: its socket, its buffers, and who has it.

use super::buffers::{RECEIVE_BYTES, SEND_BYTES};
use super::frame::Segment;
use super::track::Track;
use alloc::vec;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

/// How long a connection that nobody has any more may take to end, in microseconds.
pub(super) const LINGER_US: u64 = 10_000_000;
/// Longer than an acknowledgement is ever delayed, in microseconds.
pub(super) const ACK_DELAY_US: u64 = 20_000;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits to be accepted.
    Queued,
    /// Somebody has its stream.
    Owned,
    /// It is being closed, and nobody waits for that; at `until` (microseconds), it is broken off.
    Orphan { until: u64 },
}

/// A socket that is the only one of its set.
pub(super) struct Endpoint {
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) stage: Stage,
}

impl Endpoint {
    /// A closed socket with its buffers.
    pub(super) fn new() -> Endpoint {
        let buffer = |bytes| SocketBuffer::new(vec![0; bytes]);
        let mut socket = Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        // What is written in pieces leaves together anyway, when the task that writes awaits something.
        socket.set_nagle_enabled(false);
        let mut set = SocketSet::new(vec::Vec::with_capacity(1));
        let handle = set.add(socket);
        Endpoint { set, handle, stage: Stage::Queued }
    }

    #[inline]
    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// True when the connection has a place among those that somebody uses.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Orphan { .. })
    }

    /// True when all that there is to send is on its way, and nothing else is to be done but to wait for the peer, or for the timer.
    #[inline]
    pub(super) fn only_waits(&mut self, track: &Track) -> bool {
        let socket = self.socket();
        let end = match socket.state() {
            State::Established => 0,
            // The end itself takes a number.
            State::FinWait1 if track.finished => 1,
            _ => return false,
        };
        track.owes_nothing() && u32::try_from(socket.send_queue() + end) == Ok(track.flight())
    }

    /// True when nobody has the connection any more, all of it was sent, its end included, and has arrived, and the peer has told of
    /// nothing that it was not told of before the segment with which it says so: what is left to do takes no socket.
    #[inline]
    pub(super) fn is_through(&mut self, segment: &Segment, track: &Track) -> bool {
        // What has arrived counts the segment already.
        let owes_nothing = track.received.is_some_and(|(acknowledged, received)| {
            acknowledged == received
                || acknowledged == segment.seq && acknowledged.wrapping_add(segment.span()) == received
        });
        !self.is_live()
            && track.finished
            && track.flight() == 0
            && track.hold.is_none()
            && segment.ack == track.sent.1
            && owes_nothing
            && self.socket().state() == State::FinWait1
    }

    /// True when nothing is on its way in either direction, and the peer may still ask for something.
    /// `acknowledged`: all that it holds has arrived, and it has not heard so.
    pub(super) fn is_idle(&mut self, acknowledged: bool) -> bool {
        let socket = self.socket();
        let open = matches!(socket.state(), State::Established | State::CloseWait);
        open && socket.recv_queue() == 0 && (acknowledged || socket.send_queue() == 0)
    }

    /// Makes the socket ready for another connection, without a word to this one's peer.
    pub(super) fn reset(&mut self) {
        let socket = self.socket();
        socket.abort();
        socket.set_ack_delay(Some(smoltcp::time::Duration::from_millis(10)));
        self.stage = Stage::Queued;
    }

    /// Nobody has the connection any more: what was written is still delivered, then it is closed; `closes`: it is the socket that has
    /// it, and closes behind it.
    pub(super) fn abandon(&mut self, closes: bool, now: u64) {
        let socket = self.socket();
        if closes {
            socket.close();
        }
        // Nothing will be written that an acknowledgement could go with.
        socket.set_ack_delay(None);
        self.stage = Stage::Orphan { until: now + LINGER_US };
        self.drain();
    }

    /// Throws away what the peer has sent, which nobody will read: its window stays open, and it gets to reading what we have
    /// sent.
    pub(super) fn drain(&mut self) {
        let socket = self.socket();
        while socket.can_recv() {
            if socket.recv(|bytes| (bytes.len(), ())).is_err() {
                return;
            }
        }
    }
}

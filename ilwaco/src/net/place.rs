//! Where a connection is, and what it has beside its socket.

use super::alive::KeepAlive;
use super::bulk::Bulk;
use super::connection::Endpoint;
use super::frame::Flow;
use super::late::Late;
use super::track::Track;
use alloc::boxed::Box;

/// A place for a connection.
pub(super) struct Place {
    pub(super) flow: Flow,
    /// When the connection must be polled, in microseconds; `u64::MAX` for not before a frame arrives.
    pub(super) due: u64,
    /// The same for its socket alone.
    pub(super) socket_due: u64,
    /// It has its turn before the VM idles.
    pub(super) touched: bool,
    /// Not only its content has something to do then, but also its socket.
    pub(super) polls: bool,
    /// Somebody has its stream, which names the connection by this place.
    pub(super) owned: bool,
    /// Whoever has its stream waits for the peer to say something.
    pub(super) reading: bool,
    /// Its program writes faster than its socket's buffer gets empty.
    pub(super) crowded: bool,
    /// When its socket was last looked after, it had sent all that it had.
    pub(super) all_sent: bool,
    /// What its socket has not heard of, and why it must.
    pub(super) late: Late,
    pub(super) track: Track,
    pub(super) endpoint: Option<Endpoint>,
    /// Whether its peer is asked if it is there.
    pub(super) alive: Option<Box<KeepAlive>>,
    /// What is sent beside the socket, once there was such a thing.
    pub(super) bulk: Option<Box<Bulk>>,
}

impl Place {
    /// All that is on its way of its content is to be sent again, in smaller pieces. False without content.
    pub(super) fn send_content_again(&mut self) -> bool {
        match &mut self.bulk {
            Some(bulk) if self.track.hold.is_some() => {
                bulk.flight.send_again();
                true
            }
            _ => false,
        }
    }

    /// True while there is content that has not arrived.
    #[inline]
    pub(super) fn has_content(&self) -> bool {
        self.track.hold.is_some()
    }

    /// When its content has something to do without a word of the peer's.
    #[inline]
    pub(super) fn content_due(&self) -> u64 {
        match &self.bulk {
            Some(bulk) if self.track.hold.is_some() => bulk.flight.deadline(),
            _ => u64::MAX,
        }
    }

    /// Nothing follows what the program has written. False when there is no content that this has to wait for.
    pub(super) fn close_behind_content(&mut self) -> bool {
        match &mut self.bulk {
            Some(bulk) if self.track.hold.is_some() => {
                bulk.closing = true;
                true
            }
            _ => false,
        }
    }

    /// The connection is gone. Who waits for its content is told.
    pub(super) fn forget_content(&mut self) {
        if let Some(mut bulk) = self.bulk.take() {
            bulk.wake();
        }
    }
}

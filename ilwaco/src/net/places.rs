//! Where connections are, and what becomes of their places.

use super::alive::KeepAlive;
use super::connection::{Endpoint, Stage};
use super::ended::{Ended, EndedTable};
use super::frame::{Flow, address_bits};
use super::late::Late;
use super::listener::Listener;
use super::place::Place;
use super::stack::Stack;
use super::track::Track;
use super::{Error, paths};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Finished connections whose socket and buffers are kept for the next ones: clearing new buffers takes longer than a request, and
/// clients come and go in bursts.
const MAX_SPARE: usize = 16;

impl Stack {
    /// Starts a connection to a peer. The place of the connection, whose socket is in SYN-SENT.
    pub(super) fn connect(&mut self, address: IpAddr, port: u16) -> Result<usize, Error> {
        if self.live >= self.most || !self.make_space() {
            return Err(Error::TooMany);
        }
        let remote = address_bits(address);
        if !self.link.reaches(remote) {
            return Err(Error::Unreachable);
        }
        // The range that IANA has for this; each port is tried at most once.
        let (local, flow) = (0..16_384)
            .find_map(|_| {
                // Xorshift (Marsaglia 2003); only spreads the ports.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let local = 49_152 + u16::try_from(self.random & 0x3fff).unwrap_or(0);
                let flow = Flow::new(address, port, local);
                (!self.flows.contains_key(&flow)).then_some((local, flow))
            })
            .ok_or(Error::TooMany)?;
        let mut endpoint = self.spare.pop().unwrap_or_else(Endpoint::new);
        if endpoint.socket().connect(self.iface.context(), (address, port), local).is_err() {
            return Err(Error::Unreachable);
        }
        endpoint.stage = Stage::Owned;
        self.ended.remove(&flow);
        // Whoever sees this connection cannot tell the numbers of the next one (RFC 6528).
        let offer = super::cookie::Offer { segment: 0, scale: None, sack: false };
        let shift = self.key.cookie(flow, local.into(), offer, self.now);
        let track = Track::opening(shift, self.paths.mtu(remote, self.now).min(paths::WIDE), self.now);
        let index = self.put(flow, track, endpoint);
        self.places[index].owned = true;
        self.keep_promises();
        self.touch(index);
        Ok(index)
    }

    /// Finds a place for a connection. The caller keeps promises, and touches it if there is something to send.
    pub(super) fn put(&mut self, flow: Flow, track: Track, endpoint: Endpoint) -> usize {
        if endpoint.is_live() {
            self.live += 1;
        } else {
            self.orphans += 1;
        }
        let place = Place {
            flow,
            due: u64::MAX,
            socket_due: u64::MAX,
            touched: false,
            polls: false,
            owned: false,
            reading: false,
            crowded: false,
            all_sent: false,
            late: Late::NOTHING,
            track,
            endpoint: Some(endpoint),
            alive: None,
            bulk: None,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index] = place;
                index
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        self.flows.insert(flow, index);
        index
    }

    /// Lets a connection be polled before the VM idles.
    #[inline]
    pub(super) fn touch(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            place.polls = true;
            if !place.touched {
                place.touched = true;
                self.touched.push(index);
            }
        }
    }

    /// The same where the socket has nothing to do with it.
    #[inline]
    pub(super) fn touch_content(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index)
            && !place.touched
        {
            place.touched = true;
            self.touched.push(index);
        }
    }

    /// Touches all connections whose time has come.
    pub(super) fn touch_due(&mut self) {
        self.timers = u64::MAX;
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.touched {
                continue;
            }
            if place.due <= self.now {
                place.touched = true;
                place.polls |= !place.has_content() || place.socket_due <= self.now;
                self.touched.push(index);
            } else {
                self.timers = self.timers.min(place.due);
            }
        }
    }

    /// Segments of this connection's flow are no longer its own.
    pub(super) fn unlist(&mut self, index: usize) {
        let flow = core::mem::replace(&mut self.places[index].flow, Flow::NONE);
        if flow != Flow::NONE {
            self.flows.remove(&flow);
        }
    }

    /// Takes a connection out of its place. What is left of it, if anything, is `ended`; its socket serves another one.
    pub(super) fn recycle(&mut self, index: usize, ended: Option<Ended>) {
        let flow = self.places[index].flow;
        if flow != Flow::NONE
            && let Some(ended) = ended
        {
            self.ended.insert(flow, ended);
        }
        self.unlist(index);
        let place = &mut self.places[index];
        place.due = u64::MAX;
        place.forget_content();
        if let Some(mut endpoint) = place.endpoint.take() {
            if endpoint.is_live() {
                self.live -= 1;
                if endpoint.stage == Stage::Queued {
                    self.take_out_of_queues(index);
                }
            } else {
                self.orphans -= 1;
            }
            if self.spare.len() < MAX_SPARE {
                endpoint.reset();
                self.spare.push(endpoint);
            }
            self.keep_promises();
        }
        self.vacate(index);
    }

    /// Nobody will accept the connection in a place.
    #[cold]
    fn take_out_of_queues(&mut self, index: usize) {
        for listener in &mut self.listeners {
            listener.queue.retain(|&queued| queued != index);
        }
        self.queued = self.listeners.iter().map(|listener| listener.queue.len()).sum();
    }

    /// Gives a place free that neither a connection nor a stream has.
    pub(super) fn vacate(&mut self, index: usize) {
        let place = &mut self.places[index];
        if place.endpoint.is_none() && !place.owned {
            self.free.push(index);
        }
    }

    /// Somebody takes the stream of the connection in a place.
    pub(super) fn accept(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            place.owned = true;
            if let Some(endpoint) = &mut place.endpoint {
                endpoint.stage = Stage::Owned;
            }
        }
    }

    /// The stream of a place is dropped.
    pub(super) fn disown(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            place.owned = false;
            if place.endpoint.is_some() {
                self.abandon(index);
            } else {
                self.vacate(index);
            }
        }
    }

    /// Nobody has a connection any more.
    fn abandon(&mut self, index: usize) {
        self.touch(index);
        let now = self.now;
        let Some(place) = self.places.get_mut(index) else { return };
        let closes = !place.close_behind_content();
        let Some(endpoint) = &mut place.endpoint else { return };
        if endpoint.is_live() {
            endpoint.abandon(closes, now);
            self.live -= 1;
            self.orphans += 1;
            self.keep_promises();
        }
    }

    /// Drops all connections without a word. Whoever has a stream finds that it has come to its end.
    pub(super) fn forget_connections(&mut self) {
        for index in 0..self.places.len() {
            self.unlist(index);
            let place = &mut self.places[index];
            (place.due, place.touched) = (u64::MAX, false);
            place.forget_content();
            if let Some(mut endpoint) = place.endpoint.take() {
                // This wakes who waits; there is nobody any more who would send the reset.
                endpoint.socket().abort();
                self.vacate(index);
            }
        }
        (self.live, self.orphans, self.queued, self.timers) = (0, 0, 0, u64::MAX);
        self.touched.clear();
        self.spare = Vec::new();
        self.flows = HashMap::with_hasher(FixedState::with_seed(self.random));
        self.ended = EndedTable::new(self.random);
        for listener in &mut self.listeners {
            listener.queue.clear();
        }
        self.keep_promises();
        self.forget_datagrams();
    }

    /// The connection in a place; the stack looks after it again before the VM idles.
    #[inline]
    pub(super) fn connection(&mut self, index: usize) -> Option<&mut Endpoint> {
        self.touch(index);
        self.attempt(index)
    }

    /// As [`Stack::connection`], for who touches it only if something comes of what he tries.
    #[inline]
    pub(super) fn attempt(&mut self, index: usize) -> Option<&mut Endpoint> {
        if self.places.get(index)?.late.unheard {
            self.catch_up(index);
        }
        let place = self.places.get_mut(index)?;
        place.reading = false;
        place.endpoint.as_mut()
    }

    /// As [`Stack::connection`], for who only looks.
    pub(super) fn look(&mut self, index: usize) -> Option<&mut Endpoint> {
        self.places.get_mut(index)?.endpoint.as_mut()
    }

    /// The peer of a connection is asked whether it is there when it has been silent for so many microseconds; `None` for never.
    pub(super) fn set_keep_alive(&mut self, index: usize, idle: Option<u64>) {
        if let Some(place) = self.places.get_mut(index) {
            place.alive = idle.map(|idle| Box::new(KeepAlive::new(idle)));
            self.touch(index);
        }
    }

    /// Whoever has the stream of this place waits for the peer to acknowledge something.
    #[inline]
    pub(super) fn awaits(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            place.late.awaited = true;
        }
    }

    /// Whoever has the stream of this place waits for the peer.
    #[inline]
    pub(super) fn waits(&mut self, index: usize) {
        if let Some(place) = self.places.get_mut(index) {
            place.reading = true;
        }
    }

    /// Connections: those that we have asked for and that are not answered yet, and all others.
    pub(super) fn population(&self) -> (usize, usize) {
        let asked = |place: &&Place| place.endpoint.is_some() && place.track.received.is_none();
        let asked = self.places.iter().filter(asked).count();
        (asked, self.live + self.orphans - asked)
    }

    /// The listener of a port is gone: so are the connections that nobody has accepted.
    pub(super) fn forget_listener(&mut self, port: u16) {
        let Some(position) = self.listeners.iter().position(|listener| listener.port == port) else { return };
        let queue = self.listeners.swap_remove(position).queue;
        self.queued -= queue.len();
        for index in queue {
            self.abandon(index);
        }
        self.say_listens();
    }

    /// Gives memory that is not in use back to the heap. False when there is some that will not be in use much longer.
    pub(super) fn shrink(&mut self) -> bool {
        let awaits = self.awaits_somebody();
        if !awaits {
            self.spare = Vec::new();
        }
        self.keep_for_awaited();
        let used =
            self.places.iter().rposition(|place| place.endpoint.is_some() || place.owned).map_or(0, |last| last + 1);
        self.places.truncate(used);
        self.places.shrink_to_fit();
        self.free.retain(|&index| index < used);
        self.free.shrink_to(used);
        // Who makes room for others is found in memory that is there.
        self.order.shrink_to(used);
        self.promises.forget();
        self.touched.retain(|&index| index < used);
        self.touched.shrink_to(used);
        self.flows.shrink_to_fit();
        let now = self.now;
        let asks = !self.link.shrink(now);
        self.paths.shrink(now);
        self.listeners.iter_mut().for_each(Listener::shrink);
        let waits = !self.fragments.shrink(now);
        self.ended.shrink(now) && !waits && !asks && !awaits
    }
}

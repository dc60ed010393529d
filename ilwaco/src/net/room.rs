//! Room for another connection: whether there is memory for it, and which one must make room.

use super::bounded::map_bytes;
use super::capacity::{MAX_CLOSING, REPLACED, are_pages_reserved, secures_bytes};
use super::connection::{Endpoint, Stage};
use super::ended::Ended;
use super::frame::Flow;
use super::place::Place;
use super::sending::STARVED_US;
use super::stack::Stack;
use crate::{task, time};
use alloc::vec::Vec;

/// Timers of a connection, at most: one for its peer's next word, and one for what it is sent.
const TIMERS: usize = 2;
/// How long a connection must have been silent to make room for another one.
const IDLE_US: u64 = 1_000_000;
/// How long who has found no memory is awaited: peers send again after 1, 2 and 4 s.
const AWAITED_US: u64 = 5_000_000;

/// Whom a connection is with: an IPv4 address, a neighbour, or the network of an IPv6 address, since a host can have as many
/// addresses of its network as it likes.
fn peer(flow: Flow) -> u128 {
    let is_one = super::frame::unmapped(flow.remote).is_some() || flow.remote >> 118 == 0xfe80 >> 6;
    if is_one { flow.remote } else { flow.remote >> 64 }
}

impl Stack {
    /// Makes room for a connection of this flow. False when there is none: nobody who has a connection can do without it.
    pub(super) fn make_room(&mut self, flow: Flow) -> bool {
        let carries = self.make_space();
        if self.live < self.most && carries {
            return true;
        }
        if !carries {
            self.awaits_until = self.now + AWAITED_US;
        }
        let mut dismissed = 0;
        // What they have is free only when they are closed. One of them leaves a socket, and less memory than another one's task takes.
        while dismissed < if carries { 1 } else { REPLACED }
            && let Some(index) = self.dispensable(flow)
        {
            self.dismiss(index);
            dismissed += 1;
        }
        carries && dismissed > 0
    }

    /// True when somebody who has found no memory may come again, for whom what others have left is kept.
    pub(super) fn awaits_somebody(&self) -> bool {
        self.live != 0 && self.now < self.awaits_until
    }

    /// Makes space for another socket. Those that are being closed have what others do not use, and [`MAX_CLOSING`] more; when
    /// there is no space even so, the oldest of them is broken off. False when there is none.
    pub(super) fn make_space(&mut self) -> bool {
        if self.live + self.orphans < self.most + MAX_CLOSING && self.has_space() {
            return true;
        }
        if let Some(oldest) = self.oldest_orphan() {
            self.recycle(oldest, Some(Ended::over(self.now)));
        }
        self.has_space()
    }

    /// True when there is memory, of the heap's and of the machine's, for another connection and what becomes of all.
    fn has_space(&mut self) -> bool {
        let counts = self.counts();
        self.has_places(counts) && self.promises.secure(counts, !self.spare.is_empty(), self.now)
    }

    /// True when the machine has memory for what it takes to receive and to send, beside the heap. Where it has none, as others have all, a connection makes
    /// room: else this VM could not say another word, or would end.
    ///
    /// A VM without connections asks for none as long as its reserve has some: an idle one would hold a ring and a stack for what the whole wire hears.
    #[inline]
    pub(super) fn has_pages(&mut self) -> bool {
        self.live + self.orphans == 0 && are_pages_reserved() || self.promises.secures_pages(self.now) || {
            self.starve();
            false
        }
    }

    #[cold]
    fn starve(&mut self) {
        self.starved = true;
        if self.now < self.starves_until {
            return;
        }
        self.starves_until = self.now + STARVED_US;
        let connected = self.places.iter().enumerate().filter(|(_, place)| place.endpoint.is_some());
        let oldest = connected.min_by_key(|(_, place)| place.track.heard).map(|(index, _)| index);
        if let Some(index) = self.oldest_orphan().or(oldest) {
            self.counters.dismissed_connections += 1;
            if let Some(endpoint) = &mut self.places[index].endpoint {
                // This wakes who waits. There is no memory to tell the peer.
                endpoint.socket().abort();
            }
            self.recycle(index, None);
        }
        self.spare = Vec::new();
        crate::memory::return_memory();
    }

    /// Connections that somebody uses, and those among them that have no task yet.
    #[inline]
    fn counts(&self) -> (usize, usize) {
        (self.live, self.queued)
    }

    /// There are more connections now, or fewer.
    #[inline]
    pub(super) fn keep_promises(&self) {
        self.promises.keep(self.counts(), self.orphans);
    }

    /// Before memory is given back: as much is kept as was promised, and what somebody who is awaited needs.
    pub(super) fn keep_for_awaited(&self) {
        let (live, queued) = self.counts();
        let more = usize::from(self.awaits_somebody());
        self.promises.keep((live + more, queued + more), self.orphans);
    }

    /// True when there are places for another connection in all that has one for each, or there is memory for them.
    fn has_places(&mut self, (live, queued): (usize, usize)) -> bool {
        if !self.has_place() {
            return false;
        }
        if self.flows.len() == self.flows.capacity() {
            if !secures_bytes(map_bytes::<(Flow, usize)>(2 * self.flows.len())) {
                return false;
            }
            self.flows.reserve(1);
        }
        task::secure(queued + 1) && time::secure(TIMERS * (live + 1))
    }

    /// True when there is a place that nobody has, or memory for one.
    fn has_place(&mut self) -> bool {
        if self.free.is_empty() && self.places.len() == self.places.capacity() {
            // Not each time one.
            let places = self.places.len() + self.places.len() / 4 + 4;
            if !secures_bytes(places * (size_of::<Place>() + 3 * size_of::<usize>())) {
                return false;
            }
            self.places.reserve_exact(places - self.places.len());
            for list in [&mut self.free, &mut self.touched, &mut self.order] {
                list.reserve_exact(places.saturating_sub(list.len()));
            }
        }
        true
    }

    /// A connection that is to make room for one of `flow`: an idle one of the peer that has most, the one that has been silent
    /// for longest. A peer makes room for others that have less even where it is not idle, and never for one that has more.
    fn dispensable(&mut self, flow: Flow) -> Option<usize> {
        // Those of each peer behind one another, in memory that is there: this is for when there is no other.
        let mut order = core::mem::take(&mut self.order);
        order.clear();
        if order.capacity() < self.places.len() && !secures_bytes(self.places.len() * size_of::<usize>()) {
            return None;
        }
        let is_live = |place: &Place| place.endpoint.as_ref().is_some_and(Endpoint::is_live);
        order.extend((0..self.places.len()).filter(|&index| is_live(&self.places[index])));
        order.sort_unstable_by_key(|&index| peer(self.places[index].flow));
        let mut best = None;
        let own = order.iter().filter(|&&index| peer(self.places[index].flow) == peer(flow)).count();
        let mut rest = order.as_slice();
        while let Some(&first) = rest.first() {
            let whose = peer(self.places[first].flow);
            let count = rest.iter().take_while(|&&index| peer(self.places[index].flow) == whose).count();
            let all;
            (all, rest) = rest.split_at(count);
            if count < own.max(1) || best.is_some_and(|(most, _, _)| most > count) {
                continue;
            }
            for &index in all {
                let place = &mut self.places[index];
                let quiet = self.now.saturating_sub(place.track.heard);
                let Some(endpoint) = place.endpoint.as_mut() else { continue };
                let waits = place.reading && place.track.hold.is_none() && endpoint.is_idle(place.late.unheard);
                let may = waits && (quiet >= IDLE_US || count > own + 1);
                if may && best.is_none_or(|(most, longest, _)| (count, quiet) > (most, longest)) {
                    best = Some((count, quiet, index));
                }
            }
        }
        self.order = order;
        best.map(|(_, _, index)| index)
    }

    /// Ends a connection that somebody uses, as if the peer had done so.
    fn dismiss(&mut self, index: usize) {
        self.catch_up(index);
        if self.places[index].owned && !self.has_place() {
            // Its stream keeps its place, and there is no other one in which it could be closed in good order.
            self.counters.dismissed_connections += 1;
            if let Some(endpoint) = &mut self.places[index].endpoint {
                endpoint.socket().abort();
            }
            return self.recycle(index, Some(Ended::over(self.now)));
        }
        let place = &mut self.places[index];
        let (flow, track) = (place.flow, place.track);
        let Some(mut endpoint) = place.endpoint.take() else { return };
        place.forget_content();
        self.counters.dismissed_connections += 1;
        self.live -= 1;
        // This wakes who waits for the stream.
        endpoint.abandon(true, self.now);
        self.unlist(index);
        self.vacate(index);
        let index = self.put(flow, track, endpoint);
        self.keep_promises();
        self.touch(index);
    }

    fn oldest_orphan(&self) -> Option<usize> {
        let until = |place: &Place| match place.endpoint.as_ref()?.stage {
            Stage::Orphan { until } => Some(until),
            _ => None,
        };
        let ages = self.places.iter().enumerate().filter_map(|(index, place)| Some((until(place)?, index)));
        ages.min().map(|(_, index)| index)
    }
}

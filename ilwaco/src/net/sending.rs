//! What leaves: of the connections and sockets that have something to send, and what becomes of connections then.

use super::connection::{ACK_DELAY_US, Stage};
use super::ended::Ended;
use super::frame::{ETHERNET_HEADER, Flow, unmapped};
use super::headers::{HEADERS_MOST, cut_size};
use super::paths;
use super::place::Place;
use super::stack::Stack;
use super::stack_time::{due, stack_time};
use super::wire::Wire;
use crate::time::Instant;
use abi::nic::MIN_SEGMENT;
use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;

/// Frames that one connection sends before the next one's turn.
const SEND_BATCH: usize = 16;
/// How long an interrupt for space to send is waited for.
const BLOCKED_US: u64 = 100_000;

/// How long memory for a frame is waited for.
pub(super) const STARVED_US: u64 = 10_000;

impl Stack {
    /// Sends what is to be sent. When the next poll is due, in microseconds.
    pub(super) fn send(&mut self, now: Instant) -> u64 {
        self.now = now.as_nanos() / 1000;
        let is_due = !self.touched.is_empty() || self.timers.min(self.datagrams_due).min(self.link.due) <= self.now;
        if self.starved || is_due && !self.has_pages() {
            return self.now + STARVED_US;
        }
        if self.datagrams_due <= self.now {
            self.send_datagrams();
        }
        if self.timers <= self.now {
            self.touch_due();
        }
        // Whatever is touched while this goes on has its turn the next time.
        let mut done = 0;
        for _ in 0..self.touched.len() {
            let Some(&index) = self.touched.get(done) else { break };
            self.send_connection(index);
            if self.blocked {
                break;
            }
            done += 1;
        }
        if done == self.touched.len() {
            self.touched.clear();
        } else {
            self.touched.drain(..done);
        }
        let mut next = self.timers.min(self.datagrams_due);
        if self.dhcp.is_some() || self.autoconf.is_some() {
            next = next.min(self.send_dhcp()).min(self.work_autoconf());
        }
        let next = next.min(self.link.work(self.now, &mut self.device));
        self.device.flush();
        // Blocked, what is due waits for an interrupt instead of for the time; should the demultiplexer have been restarted and
        // not know that, for a while.
        match self.blocked {
            true => self.now + BLOCKED_US,
            false if self.touched.is_empty() => next,
            false => self.now,
        }
    }

    fn send_datagrams(&mut self) {
        let now = stack_time(self.now);
        for _ in 0..SEND_BATCH {
            if !self.device.can_send() {
                self.blocked = true;
                return;
            }
            let mut wire = Wire::plain(&mut self.device, &mut self.link, self.now);
            let sent = self.iface.poll_egress(now, &mut wire, &mut self.datagrams);
            self.datagrams_due = due(self.iface.poll_at(now, &self.datagrams));
            if self.datagrams_due > self.now {
                return;
            }
            if sent == PollResult::None {
                self.datagrams_due = self.now + 1000;
                return;
            }
        }
    }

    fn send_connection(&mut self, index: usize) {
        let now = stack_time(self.now);
        let Some(place) = self.places.get_mut(index) else { return };
        place.touched = false;
        let polls = core::mem::take(&mut place.polls);
        if place.has_content() {
            if !self.send_segments(index) {
                self.blocked = true;
                let place = &mut self.places[index];
                (place.touched, place.polls) = (true, polls);
                return;
            }
            let place = &mut self.places[index];
            if !polls {
                place.due = place.socket_due.min(place.content_due());
                return self.after_sending(index);
            }
        }
        self.catch_up(index);
        let place = &mut self.places[index];
        if place.track.least_timeout() <= self.now {
            self.narrow(index);
        }
        let place = &mut self.places[index];
        (place.due, place.all_sent) = (u64::MAX, false);
        let Some(endpoint) = &mut place.endpoint else { return };
        if !endpoint.is_live() && endpoint.socket().state() == State::FinWait2 && place.track.owes_nothing() {
            // The peer has everything and is told everything: there is nothing that the socket could send.
            return self.after_sending(index);
        }
        for _ in 0..SEND_BATCH {
            if !self.device.can_send() {
                self.blocked = true;
                (place.touched, place.polls) = (true, true);
                return;
            }
            let mtu = place.track.mtu;
            let queue = endpoint.socket().send_queue();
            let cuts = queue > MIN_SEGMENT
                && cut_size(place.flow, &place.track).is_some_and(|size| queue > usize::from(size))
                && self.device.has_room(queue + HEADERS_MOST);
            let iface = match (mtu, cuts) {
                (paths::WIDE, false) => &mut self.iface,
                (mtu, false) => self.paths.interface(mtu, &self.iface, now),
                (mtu, true) => {
                    let most = self.device.most_segments().saturating_sub(ETHERNET_HEADER);
                    self.paths.interface_for((mtu, most), &self.iface, now)
                }
            };
            let mut wire = Wire::of(&mut self.device, &mut self.link, self.now, &mut place.track);
            let sent = iface.poll_egress(now, &mut wire, &mut endpoint.set);
            let earliest = place.track.least_timeout();
            if earliest > self.now && endpoint.only_waits(&place.track) {
                // Not exactly, which is dear to find out, and mostly for nothing.
                (place.due, place.all_sent) = (earliest, true);
                break;
            }
            place.due = due(iface.poll_at(now, &endpoint.set));
            if place.track.mtu != mtu {
                // Large packets get lost on the way.
                self.paths.remember(place.flow.remote, place.track.believed_mtu(), self.now);
            }
            if place.due > self.now {
                break;
            }
            if sent == PollResult::None {
                // Due, and yet it sends nothing: do not try again in a circle.
                place.due = self.now + 1000;
                break;
            }
        }
        place.socket_due = place.due;
        if place.has_content() {
            place.due = place.due.min(place.content_due());
        }
        self.after_sending(index);
    }

    /// The path does not carry segments as large as those that a connection has on its way (RFC 1191 6.4, RFC 8201 5.4): it sends them
    /// again at once, in smaller pieces, and not with the next time-out.
    #[cold]
    pub(super) fn send_again(&mut self, index: usize) {
        let place = &mut self.places[index];
        if place.send_content_again() {
            return self.touch_content(index);
        }
        let Some(endpoint) = &mut place.endpoint else { return };
        if place.track.flight() == 0 {
            return;
        }
        let now = stack_time(self.now);
        let iface = self.paths.interface(place.track.mtu, &self.iface, now);
        // A socket sends everything again when its timer runs out, and is told that it has; an acknowledgement may be due before.
        let mut at = stack_time(self.now + ACK_DELAY_US);
        for turn in 0..SEND_BATCH {
            if !self.device.can_send() {
                break;
            }
            let mut wire = Wire::of(&mut self.device, &mut self.link, self.now, &mut place.track);
            let sent = iface.poll_egress(at, &mut wire, &mut endpoint.set);
            if turn == 0 {
                at = iface.poll_at(now, &endpoint.set).unwrap_or(at);
            } else if sent == PollResult::None {
                break;
            }
        }
        self.touch(index);
    }

    /// A connection's socket may be about to send everything again: it hears of the congestion window before.
    #[cold]
    fn narrow(&mut self, index: usize) {
        let Some(Place { flow: Flow { remote, .. }, track, endpoint: Some(endpoint), .. }) = self.places.get_mut(index)
        else {
            return;
        };
        if track.peer.window == 0 {
            // What is due is a probe, and no loss (RFC 9293 3.8.6.1).
            return;
        }
        let time = stack_time(self.now);
        if due(self.iface.poll_at(time, &endpoint.set)) > self.now {
            return;
        }
        if track.gives_size_up(unmapped(*remote).is_some()) {
            // What goes for the third time is smaller, and not only what goes for the fourth.
            self.paths.remember(*remote, track.believed_mtu(), self.now);
        }
        if !track.times_out() {
            return;
        }
        if let Some(limit) = track.congestion.limit(track.peer.scale) {
            // Never more than the peer has said.
            let window = u16::try_from(track.peer.window >> track.peer.scale).unwrap_or(u16::MAX);
            self.hear(index, limit.min(window), self.now);
        }
    }

    /// A connection has sent what it can just now.
    fn after_sending(&mut self, index: usize) {
        let mut place = &mut self.places[index];
        if place.alive.is_some() {
            let due = self.keep_alive(index);
            place = &mut self.places[index];
            place.due = place.due.min(due);
        }
        let Some(endpoint) = &mut place.endpoint else { return };
        let due = match endpoint.stage {
            Stage::Owned | Stage::Queued => place.due,
            Stage::Orphan { until } => {
                let socket = endpoint.socket();
                let (_, sent) = place.track.sent;
                let received = place.track.received;
                match (socket.state(), received) {
                    // What is left to do takes no socket.
                    (State::FinWait2, Some((_, received))) => {
                        let ended = Ended::fin_wait(sent, received, self.now);
                        return self.recycle(index, Some(ended));
                    }
                    (State::TimeWait, Some((acknowledged, received))) if acknowledged == received => {
                        let ended = Ended::time_wait(sent, received, self.now);
                        return self.recycle(index, Some(ended));
                    }
                    (State::Closed, _) if socket.remote_endpoint().is_none() => {
                        return self.recycle(index, Some(Ended::over(self.now)));
                    }
                    (State::Closed, _) => place.due.min(self.now + 1000),
                    // The peer takes too long: it sees a reset.
                    _ if self.now >= until => {
                        socket.abort();
                        self.now
                    }
                    _ => place.due.min(until),
                }
            }
        };
        place.due = due;
        if due <= self.now {
            // Whose time it is, is looked at when it has its turn.
            let place = &mut self.places[index];
            place.polls |= !place.has_content() || place.socket_due <= self.now;
            self.touch_content(index);
        } else {
            self.timers = self.timers.min(due);
        }
    }
}

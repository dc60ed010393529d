//! Segments that belong to no connection, and how a connection comes of one.

use super::answer::{self, Control};
use super::buffers::RECEIVE_BYTES;
use super::connection::Endpoint;
use super::cookie::Offer;
use super::device::capabilities;
use super::ended::Outcome;
use super::frame::{ACK, FIN, RST, SYN, Segment, TCP, be32};
use super::stack::Stack;
use super::stack_time::stack_time;
use super::track::Track;
use abi::nic::MAX_FRAME;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;

/// Bytes of the headers that a segment's size does not count, for either family.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;

impl Stack {
    /// A segment is next that belongs to no connection.
    pub(super) fn stray(&mut self, segment: &Segment) {
        let now = self.now;
        match self.ended.get_mut(&segment.flow).map(|ended| ended.hear(segment, now)) {
            Some(Outcome::Say(control)) => return self.say(segment, control, None),
            Some(Outcome::Nothing) => return self.device.skip(),
            Some(Outcome::Anew) => {
                self.ended.remove(&segment.flow);
            }
            None => {}
        }
        let port = segment.flow.local_port();
        let listens = self.listeners.iter().any(|listener| listener.port == port);
        match segment.flags & (SYN | ACK | RST | FIN) {
            SYN if listens => self.welcome(segment),
            flags if listens && flags & (SYN | ACK | RST) == ACK => self.complete(segment),
            _ => self.refuse(segment),
        }
    }

    /// Answers a SYN, and keeps nothing of it.
    fn welcome(&mut self, segment: &Segment) {
        let Some(options) = self.device.peek().and_then(|frame| answer::options(frame, segment)) else {
            return self.device.skip();
        };
        let offer = Offer::read(options);
        let cookie = self.key.cookie(segment.flow, segment.seq, offer, self.now);
        let window = u16::try_from(RECEIVE_BYTES).unwrap_or(u16::MAX);
        self.say(segment, answer::syn_ack(cookie, segment, window), Some((offer.scale.is_some(), offer.sack)));
    }

    /// Makes a connection of a segment that shows that its sender has got our answer to its SYN.
    fn complete(&mut self, segment: &Segment) {
        let (peer_seq, cookie) = (segment.seq.wrapping_sub(1), segment.ack.wrapping_sub(1));
        let Some(offer) = self.key.check(segment.flow, peer_seq, cookie, self.now) else {
            self.counters.forgotten_handshakes += 1;
            return self.refuse(segment);
        };
        if !self.make_room(segment.flow) {
            // No answer: the peer sends again what it wants, and by then there may be room.
            self.counters.refused_connections += 1;
            return self.device.skip();
        }
        let Some(index) = self.open(segment, offer, cookie) else { return self.device.skip() };
        if segment.span() != 0 {
            // Else there is nothing to send or to wait for yet.
            self.touch(index);
        }
        self.take_segment(index, segment);
        let place = &mut self.places[index];
        let Some(endpoint) = &mut place.endpoint else { return };
        match endpoint.socket().state() {
            State::Established | State::CloseWait => {
                let port = segment.flow.local_port();
                if let Some(listener) = self.listeners.iter_mut().find(|each| each.port == port) {
                    listener.established(index);
                    self.queued += 1;
                }
                self.keep_promises();
            }
            // The segment was not what it seemed.
            _ => self.recycle(index, None),
        }
    }

    /// Gives a socket the handshake that has taken place.
    fn open(&mut self, segment: &Segment, offer: Offer, cookie: u32) -> Option<usize> {
        let is_v4 = super::frame::unmapped(segment.flow.remote).is_some();
        let mtu = self.paths.mtu(segment.flow.remote, self.now);
        let mss = offer.segment.min(mtu - if is_v4 { HEADERS_V4 } else { HEADERS_V6 });
        let retold = answer::retell(segment, &self.link.own, offer, mss);
        let mut endpoint = self.spare.pop().unwrap_or_else(Endpoint::new);
        // Fails for port 0 and an open socket only; neither can be.
        endpoint.socket().listen(segment.flow.local_port()).ok()?;
        let mut replay = Replay { packet: Some(retold.bytes()), seq: None };
        let time = stack_time(self.now);
        self.iface.poll_ingress_single(time, &mut replay, &mut endpoint.set);
        self.iface.poll_egress(time, &mut replay, &mut endpoint.set);
        // The socket has chosen a number of its own for what the peer knows as the cookie.
        let shift = cookie.wrapping_sub(replay.seq?);
        let mut track = Track::opened(shift, segment, offer, mtu, self.now);
        track.window = u16::try_from(RECEIVE_BYTES).unwrap_or(u16::MAX);
        self.link.learn_from_peer(segment.flow.remote, segment.hop, self.now, &mut self.device);
        Some(self.put(segment.flow, track, endpoint))
    }

    /// Resets whoever has sent the segment that is next.
    fn refuse(&mut self, segment: &Segment) {
        match Control::reset(segment) {
            Some(control) => self.say(segment, control, None),
            None => self.device.skip(),
        }
    }

    /// Answers the segment that is next, and is done with it.
    pub(super) fn say(&mut self, segment: &Segment, control: Control, offer: Option<(bool, bool)>) {
        let answer = answer::segment(segment, &self.link.own, control, offer);
        self.device.send(answer.bytes());
        self.device.skip();
    }
}

/// A device that tells a socket of one packet, and sees with which number the answer starts.
pub(super) struct Replay<'a> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) seq: Option<u32>,
}

pub(super) struct ReplayRx<'a>(&'a [u8]);

impl RxToken for ReplayRx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct ReplayTx<'a>(&'a mut Option<u32>);

impl TxToken for ReplayTx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // Headers of IP and TCP, with all options that there can be.
        let mut packet = [0; 40 + 60];
        let Some(space) = packet.get_mut(..len) else { return f(&mut alloc::vec![0; len]) };
        let result = f(space);
        let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let protocol = if header == 20 { packet[9] } else { packet[6] };
        if protocol == TCP {
            *self.0 = be32(&packet, header + 4);
        }
        result
    }
}

impl Device for Replay<'_> {
    type RxToken<'a>
        = ReplayRx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = ReplayTx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(ReplayRx<'_>, ReplayTx<'_>)> {
        Some((ReplayRx(self.packet.take()?), ReplayTx(&mut self.seq)))
    }

    fn transmit(&mut self, _: Instant) -> Option<ReplayTx<'_>> {
        Some(ReplayTx(&mut self.seq))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(Medium::Ip, MAX_FRAME - super::frame::ETHERNET_HEADER)
    }
}

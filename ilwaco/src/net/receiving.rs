//! What arrives, one frame after the other: whose each is, and who takes it.

use super::answer;
use super::capacity::secures_bytes;
use super::classify::{Class, classify};
use super::cookie::Offer;
use super::ended::Ended;
use super::extension::{self, Walk};
use super::fragments::{Part, Piece, split};
use super::frame::{ETHERNET_HEADER, Segment};
use super::handshake::Replay;
use super::late::Late;
use super::paths::{self, TooBig};
use super::place::Place;
use super::stack::Stack;
use super::stack_time::stack_time;
use super::track::{Peer, Verdict};
use super::wire::Wire;
use crate::time::Instant;
use smoltcp::iface::PollIngressSingleResult;
use smoltcp::socket::tcp::State;

/// Frames that are taken in before the tasks run.
const RECEIVE_BATCH: usize = 64;
/// Errors that are reported by ICMP in a second (RFC 1812 4.3.2.8, RFC 4443 2.4).
const ERRORS: u32 = 100;

/// What was received, by how much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Received {
    /// Nothing.
    Nothing,
    /// Only what every host on the wire hears: questions for addresses, frames of no use.
    Noise,
    /// Something for this VM.
    Traffic,
}

impl Stack {
    /// Takes in received frames.
    pub(super) fn receive(&mut self, now: Instant) -> Received {
        self.now = now.as_nanos() / 1000;
        (self.blocked, self.starved) = (false, false);
        let mut any = false;
        let mut received = Received::Nothing;
        for _ in 0..RECEIVE_BATCH {
            let Some(frame) = self.device.peek() else { break };
            let class = classify(frame, &self.link.own);
            if !any && !self.has_pages() {
                break;
            }
            if !self.device.can_send() {
                // Every frame may have to be answered.
                self.blocked = true;
                break;
            }
            any = true;
            match class {
                Class::Tcp(segment) => {
                    received = Received::Traffic;
                    self.segment(&segment);
                }
                Class::Arp => {
                    received = received.max(Received::Noise);
                    self.link.arp(self.now, &mut self.device);
                    self.dhcp_frame();
                    self.device.skip();
                }
                Class::Icmpv6 { start, unicast } => {
                    if self.autoconf.is_some() {
                        self.hear_autoconf(start);
                    }
                    let noise = self.link.icmpv6(start, self.now, &mut self.device);
                    received = received.max(if noise { Received::Noise } else { Received::Traffic });
                    if !noise && unicast {
                        self.message(start, 128);
                    }
                    self.device.skip();
                }
                Class::Icmp { start, unicast } => {
                    received = Received::Traffic;
                    // What was sent to all is not answered (RFC 1122 3.2.2.6).
                    if unicast {
                        self.message(start, 8);
                    }
                    self.device.skip();
                }
                Class::Datagram { port, unicast } => {
                    received = Received::Traffic;
                    self.datagram(port, unicast);
                }
                Class::Dhcp => {
                    received = Received::Traffic;
                    self.dhcp_frame();
                    self.device.skip();
                }
                Class::Fragment => {
                    received = Received::Traffic;
                    self.fragment(None);
                    self.device.skip();
                }
                Class::Extended { unicast } => {
                    received = received.max(if unicast { Received::Traffic } else { Received::Noise });
                    self.extended(unicast);
                }
                Class::Refuse => {
                    received = received.max(Received::Noise);
                    self.counters.refused_frames += 1;
                    self.device.skip();
                }
            }
        }
        if any {
            self.device.release();
        }
        received
    }

    /// A TCP segment is next.
    #[inline]
    fn segment(&mut self, segment: &Segment) {
        let Some(&index) = self.flows.get(&segment.flow) else { return self.stray(segment) };
        if self.places[index].track.received.is_none() {
            self.meet(index, segment);
        }
        match self.places[index].track.judge(segment, self.now) {
            Verdict::Pass => {
                if self.places[index].has_content() && self.hear_content(index, segment) {
                    return self.device.skip();
                }
                if segment.span() == 0 && self.may_be_late(index, segment) {
                    return self.device.skip();
                }
                if !self.places[index].owned && self.lets_go(index, segment) {
                    // As if the acknowledgement had come alone, and before.
                    return self.stray(segment);
                }
                self.take_segment(index, segment);
                self.after_segment(index, segment);
                if segment.span() != 0 || !self.is_at_rest(index) {
                    self.touch(index);
                }
            }
            Verdict::Drop => self.device.skip(),
            Verdict::Challenge => {
                let track = &self.places[index].track;
                let (_, seq) = track.sent;
                let ack = track.received.map_or(0, |(ack, _)| ack);
                let control = answer::Control { seq, ack, flags: super::frame::ACK, window: track.window };
                self.say(segment, control, None);
            }
        }
    }

    /// A segment is next for a connection that we have asked for: its peer may introduce itself.
    #[cold]
    fn meet(&mut self, index: usize, segment: &Segment) {
        if segment.has(super::frame::SYN)
            && let Some(options) = self.device.peek().and_then(|frame| answer::options(frame, segment))
        {
            let peer = Peer::offering(Offer::read(options), 0);
            // The window of a SYN is not scaled (RFC 7323 2.2).
            self.places[index].track.peer = Peer { window: segment.window.into(), ..peer };
        }
    }

    /// Hands the segment that is next to a connection. Whoever calls this touches it.
    #[inline]
    pub(super) fn take_segment(&mut self, index: usize, segment: &Segment) {
        let time = stack_time(self.now);
        if self.places[index].late != Late::NOTHING {
            self.is_told(index, segment.len);
        }
        let place = &mut self.places[index];
        let Some(endpoint) = &mut place.endpoint else { return self.device.skip() };
        place.track.hop = Some(segment.hop);
        let iface = match place.track.mtu {
            paths::WIDE => &mut self.iface,
            mtu => self.paths.interface(mtu, &self.iface, time),
        };
        let mut wire = Wire::of(&mut self.device, &mut self.link, self.now, &mut place.track).taking(segment.start);
        if iface.poll_ingress_single(time, &mut wire, &mut endpoint.set) == PollIngressSingleResult::None {
            // The stack cannot have it: whatever the reason, the next frame's turn comes.
            self.device.skip();
        }
    }

    /// A segment is next for a connection that nobody has any more. True when it tells that the peer has everything, the end included:
    /// then the connection's socket serves another one, and a record does what is left.
    fn lets_go(&mut self, index: usize, segment: &Segment) -> bool {
        let Place { track, endpoint: Some(endpoint), .. } = &mut self.places[index] else { return false };
        let through = endpoint.is_through(segment, track);
        if let (true, Some((acknowledged, _))) = (through, track.received) {
            let ended = Ended::fin_wait(track.sent.1, acknowledged, self.now);
            self.recycle(index, Some(ended));
        }
        through
    }

    /// True when a connection that has heard nothing but an acknowledgement can have nothing to say to it, and nothing to wait for.
    #[inline]
    fn is_at_rest(&mut self, index: usize) -> bool {
        let place = &mut self.places[index];
        let Some(endpoint) = &mut place.endpoint else { return false };
        let socket = endpoint.socket();
        let rests = socket.state() == State::Established
            && socket.send_queue() == 0
            && place.alive.is_none()
            && place.track.received.is_some_and(|(acknowledged, received)| acknowledged == received);
        if rests && !place.touched {
            (place.due, place.socket_due) = (u64::MAX, u64::MAX);
        }
        rests
    }

    /// A connection has taken a segment.
    #[inline]
    fn after_segment(&mut self, index: usize, segment: &Segment) {
        let Some(endpoint) = &mut self.places[index].endpoint else { return };
        if !endpoint.is_live() {
            endpoint.drain();
        } else if segment.len == 0 && endpoint.socket().state() == State::Closed {
            // The peer has reset it. Its stream says so; whoever comes from there now is somebody else.
            self.unlist(index);
        }
    }

    /// An ICMP or ICMPv6 message for this VM is next; `echo`: what a request for an echo starts with.
    fn message(&mut self, start: usize, echo: u8) {
        let Some(frame) = self.device.peek() else { return };
        if frame.get(start) == Some(&echo) {
            if let Some(len) = answer::echo_len(frame, start) {
                self.device.answer(len, |received, frame| answer::echo(received, start, frame));
            }
        } else if let Some(message) = TooBig::read(frame, start, &self.link.own)
            && let Some(&index) = self.flows.get(&message.flow)
            && self.places[index].track.in_flight(message.seq)
        {
            let mtu = self.paths.learn(&message, self.now);
            let track = &mut self.places[index].track;
            // There is such a message for each packet that was on its way.
            if mtu < track.mtu {
                track.mtu = mtu;
                self.send_again(index);
            }
        }
    }

    /// A piece of a datagram is next. `v6`: where its fragment header is in an IPv6 packet.
    #[cold]
    fn fragment(&mut self, v6: Option<usize>) {
        let Some(frame) = self.device.peek() else { return };
        let part = match v6 {
            None => Part::v4(frame, &self.link.own),
            Some(at) => Part::v6(frame, at),
        };
        let whole = match self.fragments.take(part, self.now) {
            Piece::Kept => return,
            Piece::Refused => None,
            Piece::Whole(whole) => Some(whole),
        };
        // TCP does not send what has to be cut: we say how much fits, and ask routers not to cut.
        let class = whole.as_ref().map(|whole| classify(whole, &self.link.own));
        match (whole, class) {
            (Some(whole), Some(Class::Datagram { port, .. })) if self.is_bound(port) => {
                self.counters.assembled_datagrams += 1;
                self.relieve(port);
                let mut replay = Replay { packet: whole.get(ETHERNET_HEADER..), seq: None };
                self.iface.poll_ingress_single(stack_time(self.now), &mut replay, &mut self.datagrams);
                self.datagrams_due = 0;
            }
            (Some(whole), Some(Class::Icmp { start, unicast: true })) if whole.get(start) == Some(&8) => {
                self.echo_in_pieces(&whole, start);
            }
            (Some(whole), Some(Class::Icmpv6 { start, unicast: true })) if whole.get(start) == Some(&128) => {
                self.echo_in_pieces(&whole, start);
            }
            _ => self.counters.refused_frames += 1,
        }
    }

    /// Answers a request for an echo that came in pieces.
    fn echo_in_pieces(&mut self, received: &[u8], start: usize) {
        self.counters.assembled_datagrams += 1;
        let Some(len) = answer::echo_len(received, start).filter(|len| secures_bytes(2 * len)) else { return };
        let mut frame = alloc::vec![0; len];
        answer::echo(received, start, &mut frame);
        // Whoever guesses it could mix his pieces with ours (RFC 7739).
        let id = u32::try_from(self.secret() >> 32).unwrap_or(0);
        // Those that find no room are lost, and the whole with them, as they may be anywhere.
        split(&frame, id, |piece| {
            self.device.send(piece);
        });
    }

    /// A packet with extension headers is next, or with something that nobody knows.
    #[cold]
    fn extended(&mut self, unicast: bool) {
        match self.device.peek().map(extension::walk) {
            Some(Walk::Transport { protocol, start }) if self.device.flatten(protocol, start) => {
                // The same frame comes next, without them.
                return;
            }
            Some(Walk::Fragment { start }) if unicast => {
                self.fragment(Some(start));
                return self.device.skip();
            }
            Some(Walk::Problem { code, pointer }) => {
                if unicast
                    && self.may_report()
                    && let Some(len) = self.device.peek().and_then(answer::problem_len)
                {
                    self.device.answer(len, |received, frame| answer::problem(received, frame, code, pointer));
                }
            }
            _ => {}
        }
        self.counters.refused_frames += 1;
        self.device.skip();
    }

    /// Whether another error may be reported in this second. If so, it counts.
    fn may_report(&mut self) -> bool {
        // Which of the last 2^32 seconds, is enough.
        let second = u32::try_from((self.now / 1_000_000) & u64::from(u32::MAX)).unwrap_or(0);
        if self.errors.0 != second {
            self.errors = (second, 0);
        }
        let may = self.errors.1 < ERRORS;
        self.errors.1 += u32::from(may);
        may
    }

    /// Makes room in the socket that receives at a port.
    fn relieve(&mut self, port: u16) {
        for (handle, socket) in self.datagrams.iter_mut() {
            if let smoltcp::socket::Socket::Udp(socket) = socket
                && socket.endpoint().port == port
            {
                self.waiting.relieve(handle, socket);
            }
        }
    }

    /// Whether a socket receives at a port.
    fn is_bound(&self, port: u16) -> bool {
        self.datagrams.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
            _ => false,
        })
    }

    /// A datagram is next.
    fn datagram(&mut self, port: u16, unicast: bool) {
        if self.is_bound(port) {
            self.relieve(port);
            let time = stack_time(self.now);
            let mut wire = Wire::plain(&mut self.device, &mut self.link, self.now);
            if self.iface.poll_ingress_single(time, &mut wire, &mut self.datagrams) == PollIngressSingleResult::None {
                self.device.skip();
            }
            self.datagrams_due = 0;
            return;
        }
        if unicast
            && self.may_report()
            && let Some(len) = self.device.peek().and_then(answer::unreachable_len)
        {
            self.device.answer(len, answer::port_unreachable);
        }
        self.device.skip();
    }
}

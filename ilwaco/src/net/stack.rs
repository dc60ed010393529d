//! The TCP/IP stack of this VM: one interface, and its sockets.
//!
//! smoltcp walks over all sockets of a set for each frame and each poll. Here every TCP connection is a set of its own: a
//! frame's connection is found by its addresses and ports, and only connections that have something to do are polled, so
//! that a thousand idle instructions are not spent on each packet. A connection's socket and buffers exist from the end of
//! its handshake on; an idle VM has none. What smoltcp lacks lies around it: `docs/adr/0001-tcp.md` says what and why.

use super::connection::Endpoint;
use super::cookie::{Key, Offer};
use super::device::{NicDevice, Wire, nic_page, set_listens};
use super::dhcp::Dhcp;
use super::ended::EndedTable;
use super::extension::{self, Walk};
use super::fragments::{Fragments, Piece};
use super::frame::{Class, ETHERNET_HEADER, Flow, Own, Segment, classify};
use super::handshake::Replay;
use super::link::Link;
use super::listener::Listener;
use super::paths::{self, Paths, TooBig};
use super::places::Place;
use super::track::{Peer, Verdict};
use super::{NetCounters, answer};
use crate::time::Instant;
use abi::nic::Listens;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::task::Waker;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{IpCidr, Ipv4Cidr, Ipv6Address, Ipv6Cidr};

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

/// The whole state of the network.
pub(crate) struct Stack {
    pub(super) iface: Interface,
    pub(super) device: NicDevice,
    pub(super) link: Link,
    pub(super) paths: Paths,
    pub(super) key: Key,
    pub(super) places: Vec<Place>,
    /// Places that are not in use.
    pub(super) free: Vec<usize>,
    /// Where each flow's connection is.
    pub(super) flows: HashMap<Flow, usize, FixedState>,
    /// Connections that have something to do now.
    pub(super) touched: Vec<usize>,
    /// No connection that is not among these has anything to do before this time, in microseconds.
    pub(super) timers: u64,
    /// Connections that somebody uses, those that are being closed, and the most that there may be of the former.
    pub(super) live: usize,
    pub(super) orphans: usize,
    pub(super) most: usize,
    pub(super) ended: EndedTable,
    pub(super) spare: Vec<Endpoint>,
    pub(super) listeners: Vec<Listener>,
    /// UDP sockets.
    pub(super) datagrams: SocketSet<'static>,
    pub(super) datagrams_due: u64,
    pub(super) fragments: Fragments,
    pub(super) dhcp: Option<Box<Dhcp>>,
    /// How often the DHCP client was started.
    pub(super) dhcp_starts: u32,
    /// The second in which errors were reported last, and how many.
    errors: (u64, u32),
    /// Nothing can be sent before the demultiplexer takes frames out.
    pub(super) blocked: bool,
    pub(super) now: u64,
    pub(super) counters: NetCounters,
    /// Wakes who waits for an address.
    pub(super) up_waker: Option<Waker>,
    /// State of the generator for ephemeral ports.
    pub(super) random: u64,
}

pub(super) fn stack_time(us: u64) -> StackTime {
    StackTime::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

/// When smoltcp wants to be polled: microseconds, 0 for at once.
pub(super) fn due(at: Option<StackTime>) -> u64 {
    at.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0))
}

impl Stack {
    /// The stack on this VM's NIC, with its IPv6 link-local address and no other; `None` without a usable NIC.
    pub(super) fn new(now: Instant) -> Option<Stack> {
        let device = NicDevice::new()?;
        let now = now.as_nanos() / 1000;
        let Host { own, id, random } = Host::read()?;
        Some(Stack {
            iface: interface(&own, random, now),
            device,
            link: Link::new(own, random),
            paths: Paths::new(random),
            key: Key::new(id),
            places: Vec::new(),
            free: Vec::new(),
            flows: HashMap::with_hasher(FixedState::with_seed(random)),
            touched: Vec::new(),
            timers: u64::MAX,
            live: 0,
            orphans: 0,
            most: super::places::most(crate::memory_bytes()),
            ended: EndedTable::new(random),
            spare: Vec::new(),
            listeners: Vec::new(),
            datagrams: SocketSet::new(Vec::new()),
            datagrams_due: u64::MAX,
            fragments: Fragments::default(),
            dhcp: None,
            dhcp_starts: 0,
            errors: (0, 0),
            blocked: false,
            now,
            counters: NetCounters::default(),
            up_waker: None,
            random,
        })
    }

    /// Becomes whoever the machine says now: nothing is left but listeners, datagram sockets, and streams without a connection. Not
    /// a word to anybody: the peers of what was do not know who we are now. False when the machine says nothing of use; then
    /// there is no address left.
    pub(super) fn change(&mut self, now: Instant) -> bool {
        self.now = now.as_nanos() / 1000;
        self.set_ipv4(None, None);
        let Some(Host { own, id, random }) = Host::read() else {
            self.forget_connections();
            return false;
        };
        self.random = random;
        self.forget_connections();
        self.iface = interface(&own, random, self.now);
        self.link = Link::new(own, random);
        self.paths = Paths::new(random);
        self.key = Key::new(id);
        self.errors = (0, 0);
        self.fragments = Fragments::default();
        true
    }

    /// Takes an IPv4 address and a router, or gives them up.
    pub(super) fn set_ipv4(&mut self, address: Option<Ipv4Cidr>, gateway: Option<core::net::Ipv4Addr>) {
        let set = |iface: &mut Interface| {
            iface.update_ip_addrs(|addresses| {
                addresses.retain(|address| matches!(address, IpCidr::Ipv6(_)));
                if let Some(address) = address {
                    // One of two places is free: the other is the link-local address's.
                    let _ = addresses.push(IpCidr::Ipv4(address));
                }
            });
        };
        set(&mut self.iface);
        if let Some(dhcp) = &mut self.dhcp {
            set(&mut dhcp.iface);
        }
        self.paths.forget_interfaces();
        self.link.forget();
        self.link.own.v4 = address.map_or(0, |address| address.address().to_bits());
        self.link.own.mask = address.map_or(u32::MAX, |address| address.netmask().to_bits());
        self.link.gateway = gateway.map_or(0, |gateway| gateway.to_bits());
        if let Some(waker) = self.up_waker.take() {
            waker.wake();
        }
    }

    /// Takes in received frames.
    pub(super) fn receive(&mut self, now: Instant) -> Received {
        self.now = now.as_nanos() / 1000;
        self.blocked = false;
        let mut any = false;
        let mut received = Received::Nothing;
        for _ in 0..RECEIVE_BATCH {
            let Some(frame) = self.device.peek() else { break };
            let class = classify(frame, &self.link.own);
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
                    self.fragment();
                    self.device.skip();
                }
                Class::Extended => {
                    received = Received::Traffic;
                    self.extended();
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
        let place = &mut self.places[index];
        let Some(endpoint) = &mut place.endpoint else { return self.device.skip() };
        place.track.hop = Some(segment.hop);
        let iface = match place.track.mtu {
            paths::WIDE => &mut self.iface,
            mtu => self.paths.interface(mtu, &self.iface, time),
        };
        let mut wire = Wire {
            nic: &mut self.device,
            link: &mut self.link,
            now: self.now,
            track: Some(&mut place.track),
            start: segment.start,
            mute: false,
        };
        if iface.poll_ingress_single(time, &mut wire, &mut endpoint.set)
            == smoltcp::iface::PollIngressSingleResult::None
        {
            // The stack cannot have it: whatever the reason, the next frame's turn comes.
            self.device.skip();
        }
    }

    /// True when a connection that has heard nothing but an acknowledgement can have nothing to say to it, and nothing to wait for.
    #[inline]
    fn is_at_rest(&mut self, index: usize) -> bool {
        let place = &mut self.places[index];
        let Some(endpoint) = &mut place.endpoint else { return false };
        let socket = endpoint.socket();
        let rests = socket.state() == State::Established
            && socket.send_queue() == 0
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
            track.mtu = track.mtu.min(mtu);
        }
    }

    /// A piece of an IPv4 datagram is next.
    #[cold]
    fn fragment(&mut self) {
        let Some(frame) = self.device.peek() else { return };
        let whole = match self.fragments.take(frame, &self.link.own, self.now) {
            Piece::Kept => return,
            Piece::Refused => None,
            Piece::Whole(whole) => Some(whole),
        };
        // Only datagrams are so large that somebody has to send them in pieces.
        if let Some(whole) = whole
            && let Class::Datagram { port, .. } = classify(&whole, &self.link.own)
            && self.is_bound(port)
        {
            self.counters.assembled_datagrams += 1;
            let mut replay = Replay { packet: whole.get(ETHERNET_HEADER..), seq: None };
            self.iface.poll_ingress_single(stack_time(self.now), &mut replay, &mut self.datagrams);
            self.datagrams_due = 0;
            return;
        }
        self.counters.refused_frames += 1;
    }

    /// A packet with extension headers is next, or with something that nobody knows.
    #[cold]
    fn extended(&mut self) {
        match self.device.peek().map(extension::walk) {
            Some(Walk::Transport { protocol, start }) if self.device.flatten(protocol, start) => {
                // The same frame comes next, without them.
                return;
            }
            Some(Walk::Problem { code, pointer }) => {
                if self.may_report()
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
        let second = self.now / 1_000_000;
        if self.errors.0 != second {
            self.errors = (second, 0);
        }
        let may = self.errors.1 < ERRORS;
        self.errors.1 += u32::from(may);
        may
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
            let time = stack_time(self.now);
            let mut wire =
                Wire { nic: &mut self.device, link: &mut self.link, now: self.now, track: None, start: 0, mute: false };
            if self.iface.poll_ingress_single(time, &mut wire, &mut self.datagrams)
                == smoltcp::iface::PollIngressSingleResult::None
            {
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

    /// Throws away the datagrams that wait in either direction.
    pub(super) fn forget_datagrams(&mut self) {
        for (_, socket) in self.datagrams.iter_mut() {
            if let smoltcp::socket::Socket::Udp(socket) = socket {
                let endpoint = socket.endpoint();
                // This wakes who waits, to wait again.
                socket.close();
                // It was bound to the same before.
                let _ = socket.bind(endpoint);
            }
        }
        self.datagrams_due = u64::MAX;
    }

    /// Says in the NIC page which broadcasts are wanted: those for the sockets' ports, and DHCP's answers. More ports than can be
    /// said are all of them.
    pub(super) fn say_listens(&self) {
        let bound = self.datagrams.iter().filter_map(|(_, socket)| match socket {
            smoltcp::socket::Socket::Udp(socket) => Some(socket.endpoint().port),
            _ => None,
        });
        let mut listens = Listens { said: Listens::SAID, ..Listens::default() };
        let mut places = listens.broadcast_ports.iter_mut();
        for port in bound.chain(self.dhcp.as_ref().map(|_| smoltcp::wire::DHCP_CLIENT_PORT)) {
            match places.next() {
                Some(place) => *place = port,
                None => return set_listens(&Listens::default()),
            }
        }
        set_listens(&listens);
    }

    /// The datagram sockets have something to do.
    pub(super) fn touch_datagrams(&mut self) {
        self.datagrams_due = 0;
    }

    /// Asks for interrupts. False when there is something to do already.
    pub(super) fn prepare_idle(&mut self) -> bool {
        let blocked = self.blocked;
        self.device.prepare_idle(blocked)
    }

    /// Withdraws what [`Stack::prepare_idle`] asked for.
    pub(super) fn awake(&mut self) {
        self.device.awake();
    }
}

/// Who this VM is to the network.
struct Host {
    own: Own,
    /// What secrets are made of.
    id: [u8; 16],
    /// The state of generators that need no secrets.
    random: u64,
}

impl Host {
    /// As the machine says; `None` where that makes no sense.
    fn read() -> Option<Host> {
        // The address changes together with the id.
        let (mac, id) = crate::registers::consistent(|| (nic_page().mac, crate::registers::generation_id()));
        let [a, b, c, d, e, f, ..] = mac;
        let mac = [a, b, c, d, e, f];
        if a & 1 != 0 || mac == [0; 6] {
            return None;
        }
        let random =
            id.iter().fold(u64::from(f) << 8 | u64::from(e), |sum, &byte| sum.rotate_left(7) ^ u64::from(byte));
        let v6 = link_local(mac);
        Some(Host { own: Own { mac, v4: 0, mask: u32::MAX, v6: v6.to_bits() }, id, random })
    }
}

/// The interface with the IPv6 address of `own`.
fn interface(own: &Own, random: u64, now: u64) -> Interface {
    let mut iface = paths::interface(paths::WIDE, random, stack_time(now));
    iface.update_ip_addrs(|addresses| {
        // The first of the two that fit.
        let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(Ipv6Address::from_bits(own.v6), 64)));
    });
    paths::set_routes(&mut iface);
    iface
}

/// The link-local address that is made from a MAC address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Address {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    Ipv6Address::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

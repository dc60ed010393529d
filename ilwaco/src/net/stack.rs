//! The TCP/IP stack of this VM: one interface, and its sockets.
//!
//! smoltcp walks over all sockets of a set for each frame and each poll. Here every TCP connection is a set of its own: a
//! frame's connection is found by its addresses and ports, and only connections that have something to do are polled, so
//! that a thousand idle instructions are not spent on each packet. A connection's socket and buffers exist from its SYN
//! on; an idle VM has none.

use super::connection::{Endpoint, Stage};
use super::device::{NicDevice, nic_page};
use super::frame::{Class, Flow, classify};
use super::listener::Listener;
use super::{Error, NetCounters};
use crate::time::Instant;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::task::Waker;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv6Address, Ipv6Cidr};

/// Connections at once, in whatever state. Together they take at most this many times [`super::CONNECTION_BYTES`].
pub const MAX_CONNECTIONS: usize = 32;
/// Connections whose handshake is not complete, of one listener. Beyond, the oldest makes room.
pub const MAX_HALF_OPEN: usize = 16;
/// Finished connections whose socket and buffers are kept for the next ones.
const MAX_SPARE: usize = 8;
/// Frames that are taken in before the tasks run.
const RECEIVE_BATCH: usize = 64;
/// Frames that one connection sends before the next one's turn.
const SEND_BATCH: usize = 16;
/// A handshake that takes longer is forgotten.
const HALF_OPEN_US: u64 = 5_000_000;
/// How long an interrupt for space to send is waited for.
const BLOCKED_US: u64 = 100_000;
/// How long an answer to a question for a neighbour's address is waited for.
const NEIGHBOUR_US: u64 = 3_000_000;

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

/// A place for a connection.
pub(super) struct Place {
    flow: Flow,
    /// When the connection must be polled, in microseconds; `u64::MAX` for not before a frame arrives.
    due: u64,
    endpoint: Option<Endpoint>,
}

/// The whole state of the network.
pub(crate) struct Stack {
    pub(super) iface: Interface,
    device: NicDevice,
    places: Vec<Place>,
    spare: Vec<Endpoint>,
    pub(super) listeners: Vec<Listener>,
    /// UDP and DHCP sockets.
    pub(super) datagrams: SocketSet<'static>,
    datagrams_due: u64,
    /// Until when an answer from a neighbour may set connections going.
    neighbour_until: u64,
    /// Nothing can be sent before the demultiplexer takes frames out.
    blocked: bool,
    now: u64,
    pub(super) counters: NetCounters,
    /// Wakes who waits for an address.
    pub(super) up_waker: Option<Waker>,
    /// State of the generator for ephemeral ports.
    random: u64,
}

fn stack_time(us: u64) -> StackTime {
    StackTime::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

/// When smoltcp wants to be polled: microseconds, 0 for at once.
fn due(at: Option<StackTime>) -> u64 {
    at.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0))
}

impl Stack {
    /// The stack on this VM's NIC, with its IPv6 link-local address and no other; `None` without a usable NIC.
    pub(super) fn new(now: Instant) -> Option<Stack> {
        let [a, b, c, d, e, f, ..] = nic_page().mac;
        let mac = EthernetAddress([a, b, c, d, e, f]);
        let mut device = NicDevice::new()?;
        if !mac.is_unicast() {
            return None;
        }
        let now = now.as_nanos() / 1000;
        let id = crate::registers::generation_id();
        let random =
            id.iter().fold(u64::from(f) << 8 | u64::from(e), |sum, &byte| sum.rotate_left(7) ^ u64::from(byte));
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = random;
        let mut iface = Interface::new(config, &mut device, stack_time(now));
        iface.update_ip_addrs(|addresses| {
            // The first of the two that fit.
            let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(link_local(mac), 64)));
        });
        Some(Stack {
            iface,
            device,
            places: Vec::new(),
            spare: Vec::new(),
            listeners: Vec::new(),
            datagrams: SocketSet::new(Vec::new()),
            datagrams_due: u64::MAX,
            neighbour_until: 0,
            blocked: false,
            now,
            counters: NetCounters::default(),
            up_waker: None,
            random,
        })
    }

    /// Takes in received frames.
    pub(super) fn receive(&mut self, now: Instant) -> Received {
        self.now = now.as_nanos() / 1000;
        self.blocked = false;
        let mut any = false;
        let mut received = Received::Nothing;
        for _ in 0..RECEIVE_BATCH {
            let Some(frame) = self.device.peek() else { break };
            let class = classify(frame);
            if !self.device.can_send() {
                // Every frame may have to be answered.
                self.blocked = true;
                break;
            }
            any = true;
            match class {
                Class::Tcp { flow, opens } => {
                    received = Received::Traffic;
                    self.segment(flow, opens);
                }
                Class::Neighbour => {
                    received = received.max(Received::Noise);
                    self.ingress(None);
                    if self.now < self.neighbour_until {
                        self.places.iter_mut().for_each(|place| place.due = 0);
                        self.datagrams_due = 0;
                    }
                }
                Class::Other => {
                    received = Received::Traffic;
                    self.ingress(None);
                    self.datagrams_due = 0;
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

    /// Hands the next frame to the stack, for one connection or for none.
    #[inline]
    fn ingress(&mut self, place: Option<usize>) {
        let sockets = match place.and_then(|index| self.places[index].endpoint.as_mut()) {
            Some(endpoint) => &mut endpoint.set,
            None => &mut self.datagrams,
        };
        let result = self.iface.poll_ingress_single(stack_time(self.now), &mut self.device, sockets);
        if result == PollIngressSingleResult::None {
            // The stack cannot have it: whatever the reason, the next frame's turn comes.
            self.device.skip();
        }
    }

    /// A TCP segment is next.
    fn segment(&mut self, flow: Flow, opens: bool) {
        let index = match self.places.iter().position(|place| place.flow == flow) {
            Some(index) => index,
            None if opens => match self.listeners.iter().position(|listener| listener.port == flow.local_port()) {
                Some(listener) => match self.open_passive(flow, listener) {
                    Some(index) => index,
                    None => {
                        // No room: no answer, so that the peer tries again.
                        self.counters.refused_connections += 1;
                        self.device.skip();
                        return;
                    }
                },
                // Nobody listens: the stack resets it.
                None => return self.ingress(None),
            },
            None => return self.ingress(None),
        };
        self.ingress(Some(index));
        self.after_segment(index);
    }

    /// A connection has taken a segment.
    fn after_segment(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.due = 0;
        let Some(endpoint) = &mut place.endpoint else { return };
        let Stage::HalfOpen { listener, .. } = endpoint.stage else { return };
        match endpoint.socket().state() {
            State::SynReceived => {}
            State::Established | State::CloseWait => {
                endpoint.stage = Stage::Queued;
                if let Some(listener) = self.listeners.iter_mut().find(|each| each.port == listener) {
                    listener.half_open -= 1;
                    listener.established(index);
                }
            }
            // The segment was not what it seemed, or the peer has thought better of it.
            _ => self.recycle(index),
        }
    }

    /// Makes a socket that will take the segment that is next, a SYN for a listener.
    fn open_passive(&mut self, flow: Flow, listener: usize) -> Option<usize> {
        let Listener { port, half_open, .. } = self.listeners[listener];
        if half_open >= MAX_HALF_OPEN || (self.places.len() >= MAX_CONNECTIONS && self.free_place().is_none()) {
            let oldest = self.oldest_half_open()?;
            self.counters.forgotten_handshakes += 1;
            self.recycle(oldest);
        }
        let mut endpoint = self.endpoint();
        // Fails for port 0 and an open socket only; neither can be.
        endpoint.socket().listen(port).ok()?;
        endpoint.stage = Stage::HalfOpen { listener: port, since: self.now };
        self.listeners[listener].half_open += 1;
        self.put(flow, endpoint)
    }

    /// Starts a connection to a peer. The place of the connection, whose socket is in SYN-SENT.
    pub(super) fn connect(&mut self, address: IpAddr, port: u16) -> Result<usize, Error> {
        if self.places.len() >= MAX_CONNECTIONS && self.free_place().is_none() {
            return Err(Error::TooMany);
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
                self.places.iter().all(|place| place.flow != flow).then_some((local, flow))
            })
            .ok_or(Error::TooMany)?;
        let mut endpoint = self.endpoint();
        if endpoint.socket().connect(self.iface.context(), (address, port), local).is_err() {
            return Err(Error::Unreachable);
        }
        endpoint.stage = Stage::Owned;
        self.put(flow, endpoint).ok_or(Error::TooMany)
    }

    /// An endpoint whose socket is closed.
    fn endpoint(&mut self) -> Endpoint {
        self.spare.pop().unwrap_or_else(Endpoint::new)
    }

    fn free_place(&self) -> Option<usize> {
        self.places.iter().position(|place| place.endpoint.is_none())
    }

    fn put(&mut self, flow: Flow, endpoint: Endpoint) -> Option<usize> {
        let place = Place { flow, due: 0, endpoint: Some(endpoint) };
        match self.free_place() {
            Some(index) => {
                self.places[index] = place;
                Some(index)
            }
            None if self.places.len() < MAX_CONNECTIONS => {
                self.places.push(place);
                Some(self.places.len() - 1)
            }
            None => None,
        }
    }

    fn oldest_half_open(&self) -> Option<usize> {
        let since = |place: &Place| match place.endpoint.as_ref()?.stage {
            Stage::HalfOpen { since, .. } => Some(since),
            _ => None,
        };
        let ages = self.places.iter().enumerate().filter_map(|(index, place)| Some((since(place)?, index)));
        ages.min().map(|(_, index)| index)
    }

    /// Forgets a connection and keeps its socket for another.
    fn recycle(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.flow = Flow::NONE;
        place.due = u64::MAX;
        let Some(mut endpoint) = place.endpoint.take() else { return };
        if let Stage::HalfOpen { listener, .. } = endpoint.stage
            && let Some(listener) = self.listeners.iter_mut().find(|each| each.port == listener)
        {
            listener.half_open -= 1;
        }
        if self.spare.len() < MAX_SPARE {
            endpoint.reset();
            self.spare.push(endpoint);
        }
    }

    /// The connection in a place; the stack looks after it again before the VM idles.
    pub(super) fn connection(&mut self, index: usize) -> Option<&mut Endpoint> {
        let place = self.places.get_mut(index)?;
        place.due = 0;
        place.endpoint.as_mut()
    }

    /// As [`Stack::connection`], for who only looks.
    pub(super) fn look(&mut self, index: usize) -> Option<&mut Endpoint> {
        self.places.get_mut(index)?.endpoint.as_mut()
    }

    /// The datagram sockets have something to do.
    pub(super) fn touch_datagrams(&mut self) {
        self.datagrams_due = 0;
    }

    /// Sends what is to be sent. When the next poll is due, in microseconds.
    pub(super) fn send(&mut self, now: Instant) -> u64 {
        self.now = now.as_nanos() / 1000;
        let mut next = u64::MAX;
        if self.datagrams_due <= self.now {
            self.send_datagrams();
        }
        next = next.min(self.datagrams_due);
        for index in 0..self.places.len() {
            if self.places[index].due <= self.now {
                self.send_connection(index);
            }
            next = next.min(self.places[index].due);
        }
        if self.device.take_solicited() {
            self.neighbour_until = self.now + NEIGHBOUR_US;
        }
        self.device.flush();
        // Blocked, what is due waits for an interrupt instead of for the time; should the demultiplexer have been restarted and
        // not know that, for a while.
        if self.blocked { self.now + BLOCKED_US } else { next }
    }

    fn send_datagrams(&mut self) {
        let now = stack_time(self.now);
        for _ in 0..SEND_BATCH {
            if !self.device.can_send() {
                self.blocked = true;
                return;
            }
            let sent = self.iface.poll_egress(now, &mut self.device, &mut self.datagrams);
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
        let place = &mut self.places[index];
        let Some(endpoint) = &mut place.endpoint else {
            place.due = u64::MAX;
            return;
        };
        for _ in 0..SEND_BATCH {
            if !self.device.can_send() {
                self.blocked = true;
                return;
            }
            let sent = self.iface.poll_egress(now, &mut self.device, &mut endpoint.set);
            place.due = due(self.iface.poll_at(now, &endpoint.set));
            if place.due > self.now {
                break;
            }
            if sent == PollResult::None {
                // Due, and yet it sends nothing: do not try again in a circle.
                place.due = self.now + 1000;
                break;
            }
        }
        let socket = endpoint.socket();
        let (state, gone) = (socket.state(), socket.remote_endpoint().is_none());
        match endpoint.stage {
            Stage::HalfOpen { since, .. } => {
                let deadline = since + HALF_OPEN_US;
                if self.now >= deadline || state == State::Closed {
                    self.counters.forgotten_handshakes += 1;
                    self.recycle(index);
                } else {
                    place.due = place.due.min(deadline);
                }
            }
            // The last acknowledgement is sent. TIME-WAIT is not kept: a peer that has lost it gets a reset for its next FIN, when all data has
            // arrived; in return, finished connections take no memory.
            Stage::Orphan if state == State::TimeWait || (state == State::Closed && gone) => self.recycle(index),
            Stage::Orphan | Stage::Owned | Stage::Queued => {}
        }
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

    /// Gives memory that is not in use back to the heap.
    pub(super) fn shrink(&mut self) {
        self.spare = Vec::new();
        let used = self.places.iter().rposition(|place| place.endpoint.is_some()).map_or(0, |last| last + 1);
        self.places.truncate(used);
        self.places.shrink_to_fit();
        self.listeners.iter_mut().for_each(Listener::shrink);
    }

    /// Connections by where they stand: half-open, and all others.
    pub(super) fn population(&self) -> (usize, usize) {
        let stages = self.places.iter().filter_map(|place| place.endpoint.as_ref()).map(|endpoint| &endpoint.stage);
        stages.fold((0, 0), |(half, full), stage| match stage {
            Stage::HalfOpen { .. } => (half + 1, full),
            _ => (half, full + 1),
        })
    }

    /// The listener of a port is gone: so are the connections that nobody has accepted.
    pub(super) fn forget_listener(&mut self, port: u16) {
        let Some(position) = self.listeners.iter().position(|listener| listener.port == port) else { return };
        let listener = self.listeners.swap_remove(position);
        for index in listener.queue {
            if let Some(endpoint) = self.connection(index) {
                endpoint.abandon();
            }
        }
        for index in 0..self.places.len() {
            if let Some(Stage::HalfOpen { listener, .. }) = self.places[index].endpoint.as_ref().map(|each| each.stage)
                && listener == port
            {
                self.recycle(index);
            }
        }
    }
}

/// The link-local address that is made from a MAC address (RFC 4291, appendix A).
fn link_local(mac: EthernetAddress) -> Ipv6Address {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Address::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

#[cfg(test)]
impl Stack {
    /// As if a SYN of this flow had been answered.
    pub(super) fn test_syn(&mut self, flow: Flow) {
        let listener = self.listeners.iter().position(|each| each.port == flow.local_port()).expect("somebody listens");
        let _ = self.open_passive(flow, listener);
    }
}

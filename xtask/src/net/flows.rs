//! Datagrams that guests send to somebody outside. Each pair of a guest's port and whom it talks to has a socket of the host's, so that nobody else's answers
//! reach the guest, and what the host's system knows of errors is about that one.

use super::Outside;
use super::outside::is_one_elsewhere;
use super::parcel::{Ends, LONGEST, Origin, Parcel};
use super::wire::Wire;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use smoltcp::wire::Icmpv4DstUnreachable;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Flows at once, of all guests and of one. One more takes the place of the one that has been silent for the longest time.
const FLOWS: usize = 512;
const OF_GUEST: usize = 64;
/// How long a flow lasts in which nothing is sent or comes: the least that RFC 4787 (4.3) allows.
const IDLE: Duration = Duration::from_secs(120);
/// Datagrams of a flow that are passed on before everybody else's turn.
const BATCH: usize = 16;
/// The first token of a flow: connections do not get so far.
const FIRST: usize = 1 << 48;

/// All flows.
pub struct Flows {
    outside: Outside,
    flows: BTreeMap<Ends, Flow>,
    /// Whose the tokens are.
    tokens: BTreeMap<usize, Ends>,
    next: usize,
    /// Tokens of flows in which something may have come, as far as is known.
    ready: VecDeque<usize>,
    registry: Registry,
}

struct Flow {
    socket: UdpSocket,
    token: usize,
    /// Of the guest's last datagram.
    origin: Origin,
    /// When something was last sent or came.
    used: Instant,
    /// It is among those in which something may have come.
    ready: bool,
}

impl Flows {
    pub fn new(outside: Outside, registry: Registry) -> Flows {
        Flows {
            outside,
            flows: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next: FIRST,
            ready: VecDeque::new(),
            registry,
        }
    }

    /// Something has come in the flow of this token, if it is one.
    pub fn note(&mut self, token: usize) {
        if let Some(flow) = self.tokens.get(&token).and_then(|ends| self.flows.get_mut(ends))
            && !flow.ready
        {
            flow.ready = true;
            self.ready.push_back(token);
        }
    }

    /// Sends a guest's datagram where it leads. What the guest is told where it does not get there.
    pub fn send(&mut self, parcel: Parcel, now: Instant) -> Option<Vec<u8>> {
        let Parcel { ends, payload, origin } = parcel;
        let Some(address) = self.outside.leads(ends.to, ends.port) else {
            let told = is_one_elsewhere(ends.to) && is_one(ends.guest);
            return told.then(|| origin.unreachable(Icmpv4DstUnreachable::CommProhibited));
        };
        let Some(flow) = self.flow(ends, address, &origin, now) else {
            return Some(origin.unreachable(Icmpv4DstUnreachable::NetUnreachable));
        };
        (flow.origin, flow.used) = (origin, now);
        // Once more where the system has told of an earlier one first.
        let sent = flow.socket.send(&payload).or_else(|_| flow.socket.send(&payload));
        sent.err().and_then(|error| flow.origin.told(error.kind()))
    }

    /// Hands the machine what has come, as long as it takes it.
    pub fn collect(&mut self, wire: &mut Wire, now: Instant) {
        let mut buffer = vec![0; LONGEST + 1];
        for _ in 0..self.ready.len() {
            if !wire.has_room() {
                return;
            }
            let Some(token) = self.ready.pop_front() else { return };
            let Some(flow) = self.tokens.get(&token).and_then(|ends| self.flows.get_mut(ends)) else { continue };
            for _ in 0..BATCH {
                match flow.socket.recv(&mut buffer) {
                    Ok(count) => {
                        flow.used = now;
                        // A longer one fits no frame, and is lost.
                        if count <= LONGEST {
                            wire.push(flow.origin.answer(&buffer[..count]));
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        flow.ready = false;
                        break;
                    }
                    Err(error) => {
                        if let Some(frame) = flow.origin.told(error.kind()) {
                            wire.push(frame);
                        }
                    }
                }
                if !wire.has_room() {
                    break;
                }
            }
            if flow.ready {
                self.ready.push_back(token);
            }
        }
    }

    /// True when there is more to [`collect`](Flows::collect) now, as far as is known.
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How long until a flow is forgotten; `None` without any.
    pub fn patience(&self, now: Instant) -> Option<Duration> {
        let oldest = self.flows.values().map(|flow| flow.used).min()?;
        Some((oldest + IDLE).saturating_duration_since(now))
    }

    /// Forgets flows in which nothing was sent or came for long.
    pub fn expire(&mut self, now: Instant) {
        let idle = |flow: &Flow| now.saturating_duration_since(flow.used) >= IDLE;
        let silent: Vec<Ends> = self.flows.iter().filter(|(_, flow)| idle(flow)).map(|(ends, _)| *ends).collect();
        silent.iter().for_each(|ends| self.forget(ends));
    }

    /// The flow of these ends, which has one from now on.
    fn flow(&mut self, ends: Ends, address: SocketAddr, origin: &Origin, now: Instant) -> Option<&mut Flow> {
        if !self.flows.contains_key(&ends) {
            self.make_room(ends.guest);
            let mut socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0).into()).ok()?;
            socket.connect(address).ok()?;
            let token = self.next;
            self.registry.register(&mut socket, Token(token), Interest::READABLE).ok()?;
            self.next += 1;
            self.tokens.insert(token, ends);
            self.flows.insert(ends, Flow { socket, token, origin: origin.clone(), used: now, ready: false });
        }
        self.flows.get_mut(&ends)
    }

    fn make_room(&mut self, guest: Ipv4Addr) {
        let of_guest = self.flows.keys().filter(|ends| ends.guest == guest).count();
        if of_guest < OF_GUEST && self.flows.len() < FLOWS {
            return;
        }
        let others = of_guest < OF_GUEST;
        let may = self.flows.iter().filter(|(ends, _)| others || ends.guest == guest);
        let longest = may.min_by_key(|(_, flow)| flow.used).map(|(ends, _)| *ends);
        if let Some(ends) = longest {
            self.forget(&ends);
        }
    }

    fn forget(&mut self, ends: &Ends) {
        let Some(mut flow) = self.flows.remove(ends) else { return };
        self.tokens.remove(&flow.token);
        self.ready.retain(|token| *token != flow.token);
        // Fails only for what was never registered.
        let _ = self.registry.deregister(&mut flow.socket);
    }
}

impl Origin {
    /// What the guest is told of what the host's system says of a datagram, if that is about where it was to go.
    fn told(&self, error: ErrorKind) -> Option<Vec<u8>> {
        let reason = match error {
            ErrorKind::ConnectionRefused => Icmpv4DstUnreachable::PortUnreachable,
            ErrorKind::HostUnreachable => Icmpv4DstUnreachable::HostUnreachable,
            ErrorKind::NetworkUnreachable => Icmpv4DstUnreachable::NetUnreachable,
            _ => return None,
        };
        Some(self.unreachable(reason))
    }
}

/// True for the address of one host.
fn is_one(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parcel::tests::frame;
    use crate::net::tests::FAR;
    use std::collections::BTreeSet;

    const FIRST_GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);

    fn flows() -> (mio::Poll, Flows) {
        let poll = mio::Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        (poll, Flows::new(Outside::Stand(FAR), registry))
    }

    /// Sends an empty datagram to a socket of the loopback interface's.
    fn send(flows: &mut Flows, guest: Ipv4Addr, guest_port: u16, port: u16, now: Instant) {
        let parcel = Parcel::read(&frame(Ends { guest, guest_port, to: FAR, port }, b"")).unwrap();
        assert_eq!(flows.send(parcel, now), None);
    }

    fn ports(flows: &Flows, guest: Ipv4Addr) -> BTreeSet<u16> {
        assert_eq!(flows.tokens.len(), flows.flows.len());
        flows.flows.keys().filter(|ends| ends.guest == guest).map(|ends| ends.guest_port).collect()
    }

    #[test]
    fn the_silent_are_forgotten_and_nobody_else() {
        let (_poll, mut flows) = flows();
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let start = Instant::now();
        assert_eq!(flows.patience(start), None);
        send(&mut flows, FIRST_GUEST, 1, port, start);
        send(&mut flows, FIRST_GUEST, 2, port, start);
        send(&mut flows, FIRST_GUEST, 2, port, start + IDLE / 2);
        assert_eq!(flows.patience(start + IDLE / 2), Some(IDLE / 2));
        flows.expire(start + IDLE - Duration::from_millis(1));
        assert_eq!(flows.flows.len(), 2);
        flows.expire(start + IDLE);
        assert_eq!(ports(&flows, FIRST_GUEST), [2].into());
    }

    #[test]
    fn a_guest_that_talks_to_many_takes_the_places_of_its_own() {
        let (_poll, mut flows) = flows();
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let start = Instant::now();
        let second = Ipv4Addr::new(10, 0, 2, 17);
        send(&mut flows, second, 1, port, start);
        for n in 1..=300 {
            send(&mut flows, FIRST_GUEST, n, port, start + Duration::from_millis(n.into()));
        }
        assert_eq!(ports(&flows, second), [1].into());
        let latest = 300 - u16::try_from(OF_GUEST).unwrap();
        assert_eq!(ports(&flows, FIRST_GUEST), (latest + 1..=300).collect());
        // Many guests do not take more than there is, together.
        for guest in 0..20 {
            for n in 1..=40 {
                let later = start + Duration::from_secs(u64::from(n));
                send(&mut flows, Ipv4Addr::new(10, 0, 2, 20 + guest), n, port, later);
                assert!(flows.flows.len() <= FLOWS);
            }
        }
        assert_eq!(flows.flows.len(), FLOWS);
    }
}

//! The UDP ports on the host's loopback interface that lead to guests. Each client of a port gets a source port of its own at
//! 10.0.2.2, so that what the guest sends back finds it.

use super::HOST;
use super::inbound::ASK_AGAIN;
use super::wire::arp_request;
use crate::machine::Forward;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpEndpoint, IpProtocol, Ipv4Packet, UdpPacket};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Clients at once, of all ports. One more takes the place of the one that has been silent for the longest time.
const CLIENTS: usize = 512;
/// How long a client that neither sends nor gets anything keeps its source port: the least that RFC 4787 (4.3) allows.
const IDLE: Duration = Duration::from_secs(120);
/// Source ports for clients. Connections have those above.
const SOURCES: RangeInclusive<u16> = 32768..=49151;
/// Longest payload: what one frame holds, since nobody here puts fragments together.
const LONGEST: usize = abi::nic::MAX_FRAME - 14 - 20 - 8;
/// Datagrams of a port that are taken before the guest's machine has taken all of these; the others wait in the port's socket.
const BATCH: usize = 16;
/// How long they wait for a machine that does not take them, or for a guest that does not tell its MAC. Then all that has come is
/// lost: old questions would not be worth answering.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest datagram that the loopback interface carries.
const LOOPBACK: usize = 64 * 1024;

/// All forwarded UDP ports and their clients.
pub struct Datagrams {
    ports: Vec<Port>,
    /// By source port.
    clients: BTreeMap<u16, Client>,
    next: u16,
    buffer: Vec<u8>,
}

/// A forwarded port.
struct Port {
    socket: UdpSocket,
    forward: Forward,
    /// There may be datagrams, as far as is known.
    ready: bool,
    /// Since when something has waited for the guest, whenever that was looked at.
    held_since: Option<Instant>,
    /// When the guest was last asked for its MAC.
    asked: Option<Instant>,
}

/// Who has sent a datagram to a forwarded port.
struct Client {
    port: usize,
    peer: SocketAddr,
    /// The socket that has its source port.
    socket: SocketHandle,
    /// When it last sent or got something.
    used: Instant,
}

impl Datagrams {
    pub fn new(sockets: Vec<(UdpSocket, Forward)>) -> Datagrams {
        let port = |(socket, forward)| Port { socket, forward, ready: true, held_since: None, asked: None };
        let ports = sockets.into_iter().map(port).collect();
        Datagrams { ports, clients: BTreeMap::new(), next: *SOURCES.start(), buffer: vec![0; LOOPBACK] }
    }

    /// How many ports there are.
    pub fn ports(&self) -> usize {
        self.ports.len()
    }

    /// Asks for events, with the tokens from `first` on.
    pub fn register(&mut self, registry: &Registry, first: usize) -> std::io::Result<()> {
        for (port, number) in self.ports.iter_mut().zip(first..) {
            registry.register(&mut port.socket, Token(number), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Something has come to the port `index`.
    pub fn wake(&mut self, index: usize) {
        if let Some(port) = self.ports.get_mut(index) {
            port.ready = true;
        }
    }

    /// True when there is more to [`collect`](Datagrams::collect) now, as far as is known.
    pub fn has_more(&self, sockets: &SocketSet<'static>) -> bool {
        self.ports.iter().any(|port| port.ready)
            && self.ports.iter().zip(self.held(sockets)).any(|(port, held)| port.ready && !held)
    }

    /// For each port, whether something waits for its guest. (Datagrams without a byte do not count: the stack does not tell.)
    fn held(&self, sockets: &SocketSet<'static>) -> Vec<bool> {
        let mut held = vec![false; self.ports.len()];
        for client in self.clients.values() {
            held[client.port] |= sockets.get::<udp::Socket>(client.socket).send_queue() > 0;
        }
        held
    }

    /// Takes a batch of datagrams from each port whose former one is gone, and hands them to the stack.
    pub fn collect(&mut self, sockets: &mut SocketSet<'static>, now: Instant) {
        self.expire(sockets, now);
        for (index, held) in self.held(sockets).into_iter().enumerate() {
            let port = &mut self.ports[index];
            if !held {
                port.held_since = None;
            } else if now.saturating_duration_since(*port.held_since.get_or_insert(now)) < PATIENCE {
                continue;
            } else {
                self.give_up(index, sockets);
            }
            for _ in 0..BATCH {
                let Some((count, peer)) = self.receive(index) else { break };
                self.pass_on(index, peer, count, sockets, now);
            }
        }
    }

    /// The next datagram of a port, into the buffer.
    fn receive(&mut self, index: usize) -> Option<(usize, SocketAddr)> {
        let port = &mut self.ports[index];
        while port.ready {
            match port.socket.recv_from(&mut self.buffer) {
                Ok(received) => return Some(received),
                // Other errors are news of a datagram that a client has not got.
                Err(error) => port.ready = error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
        None
    }

    /// Forgets all that has come to a port, and who has sent it.
    fn give_up(&mut self, index: usize, sockets: &mut SocketSet<'static>) {
        self.ports[index].held_since = None;
        let of_port = self.clients.iter().filter(|(_, client)| client.port == index);
        let sources: Vec<u16> = of_port.map(|(source, _)| *source).collect();
        sources.into_iter().for_each(|source| self.forget(source, sockets));
        // Bounded, since clients can be faster.
        for _ in 0..CLIENTS {
            if self.receive(index).is_none() {
                break;
            }
        }
    }

    /// Hands the stack the `count` bytes in the buffer, which `peer` has sent. What does not fit is lost, as on any network.
    fn pass_on(&mut self, port: usize, peer: SocketAddr, count: usize, sockets: &mut SocketSet<'static>, now: Instant) {
        if count > LONGEST {
            return;
        }
        let Some(handle) = self.client(port, peer, sockets, now) else { return };
        let Forward { guest, port, .. } = self.ports[port].forward;
        let to = IpEndpoint::new(guest.into(), port.number);
        let _ = sockets.get_mut::<udp::Socket>(handle).send_slice(&self.buffer[..count], to);
    }

    /// The socket of a client, which has one from now on.
    fn client(
        &mut self,
        port: usize,
        peer: SocketAddr,
        sockets: &mut SocketSet<'static>,
        now: Instant,
    ) -> Option<SocketHandle> {
        if let Some(client) = self.clients.values_mut().find(|client| client.port == port && client.peer == peer) {
            client.used = now;
            return Some(client.socket);
        }
        if self.clients.len() >= CLIENTS {
            let longest = self.clients.iter().min_by_key(|(_, client)| client.used).map(|(source, _)| *source);
            self.forget(longest?, sockets);
        }
        let source = self.free_source()?;
        let buffer = |datagrams| {
            udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; datagrams], vec![0; datagrams * LONGEST])
        };
        // What the guest sends is taken out at once, one by one.
        let mut socket = udp::Socket::new(buffer(1), buffer(BATCH));
        socket.bind((HOST, source)).ok()?;
        let socket = sockets.add(socket);
        self.clients.insert(source, Client { port, peer, socket, used: now });
        Some(socket)
    }

    /// A source port that nobody has; those that were given back last come last.
    fn free_source(&mut self) -> Option<u16> {
        for _ in SOURCES {
            let source = self.next;
            self.next = if source == *SOURCES.end() { *SOURCES.start() } else { source + 1 };
            if !self.clients.contains_key(&source) {
                return Some(source);
            }
        }
        None
    }

    fn expire(&mut self, sockets: &mut SocketSet<'static>, now: Instant) {
        let idle = |client: &Client| now.saturating_duration_since(client.used) >= IDLE;
        let silent: Vec<u16> =
            self.clients.iter().filter(|(_, client)| idle(client)).map(|(source, _)| *source).collect();
        silent.into_iter().for_each(|source| self.forget(source, sockets));
    }

    fn forget(&mut self, source: u16, sockets: &mut SocketSet<'static>) {
        if let Some(client) = self.clients.remove(&source) {
            sockets.remove(client.socket);
        }
    }

    /// The stack has taken a frame for the source port `source`: gives its client what came from the guest's port, and nothing
    /// that came from elsewhere.
    pub fn deliver(&mut self, source: u16, sockets: &mut SocketSet<'static>, now: Instant) {
        self.expire(sockets, now);
        let Some(client) = self.clients.get_mut(&source) else { return };
        let Port { socket, forward, .. } = &self.ports[client.port];
        while let Ok((payload, from)) = sockets.get_mut::<udp::Socket>(client.socket).recv() {
            if from.endpoint == IpEndpoint::new(forward.guest.into(), forward.port.number) {
                client.used = now;
                // A client that takes nothing loses it.
                let _ = socket.send_to(payload, client.peer);
            }
        }
    }

    /// Frames that ask the guests for their MACs for which something waits. The stack does so by itself, but asks only one guest in
    /// a second.
    pub fn ask_for_macs(&mut self, sockets: &SocketSet<'static>, now: Instant) -> Vec<Vec<u8>> {
        let mut requests = Vec::new();
        for client in self.clients.values() {
            let port = &mut self.ports[client.port];
            let waits = sockets.get::<udp::Socket>(client.socket).send_queue() > 0;
            if waits && port.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_AGAIN) {
                port.asked = Some(now);
                requests.push(arp_request(port.forward.guest));
            }
        }
        requests
    }
}

/// The port at 10.0.2.2 that a guest's datagram is for, if the frame holds one.
pub fn destination(frame: &[u8]) -> Option<u16> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.next_header() != IpProtocol::Udp || packet.dst_addr() != HOST || packet.frag_offset() != 0 {
        return None;
    }
    UdpPacket::new_checked(packet.payload()).ok().map(|segment| segment.dst_port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::model::{Port as GuestPort, Protocol};
    use crate::net::FIRST_VM;
    use std::net::Ipv4Addr;

    fn datagrams() -> (Datagrams, SocketSet<'static>) {
        let socket = || UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = GuestPort { protocol: Protocol::Udp, number: 7 };
        let forward = Forward { guest: FIRST_VM, port, host_port: 0 };
        (Datagrams::new(vec![(socket(), forward), (socket(), forward)]), SocketSet::new(Vec::new()))
    }

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn source(datagrams: &Datagrams, handle: SocketHandle) -> u16 {
        *datagrams.clients.iter().find(|(_, client)| client.socket == handle).unwrap().0
    }

    #[test]
    fn a_client_keeps_its_source_port_and_shares_it_with_nobody() {
        let (mut datagrams, mut sockets) = datagrams();
        let now = Instant::now();
        let first = datagrams.client(0, peer(1), &mut sockets, now).unwrap();
        let second = datagrams.client(0, peer(2), &mut sockets, now).unwrap();
        let other_port = datagrams.client(1, peer(1), &mut sockets, now).unwrap();
        assert_eq!(datagrams.client(0, peer(1), &mut sockets, now), Some(first));
        let sources = [first, second, other_port].map(|handle| source(&datagrams, handle));
        assert!(sources[0] != sources[1] && sources[1] != sources[2] && sources[0] != sources[2]);
        assert!(sources.iter().all(|source| SOURCES.contains(source)));
    }

    #[test]
    fn the_silent_lose_their_source_ports() {
        let (mut datagrams, mut sockets) = datagrams();
        let start = Instant::now();
        datagrams.client(0, peer(1), &mut sockets, start);
        datagrams.client(0, peer(2), &mut sockets, start);
        let later = start + IDLE - Duration::from_secs(1);
        datagrams.client(0, peer(2), &mut sockets, later);
        datagrams.collect(&mut sockets, start + IDLE);
        let peers: Vec<SocketAddr> = datagrams.clients.values().map(|client| client.peer).collect();
        assert_eq!(peers, [peer(2)]);
        assert_eq!(sockets.iter().count(), 1);
    }

    #[test]
    fn a_flood_of_clients_takes_the_places_of_the_most_silent() {
        let (mut datagrams, mut sockets) = datagrams();
        let start = Instant::now();
        let now = |n: u16| start + Duration::from_millis(n.into());
        datagrams.client(1, peer(1), &mut sockets, start);
        for n in 1..=2000 {
            datagrams.client(0, peer(n), &mut sockets, now(n));
            // One that goes on keeps its place.
            datagrams.client(1, peer(1), &mut sockets, now(n));
            assert!(datagrams.clients.len() <= CLIENTS && sockets.iter().count() <= CLIENTS);
        }
        let mut clients = datagrams.clients.values();
        assert!(clients.any(|client| (client.port, client.peer) == (1, peer(1))));
        assert_eq!(datagrams.clients.len(), CLIENTS);
    }

    #[test]
    fn datagrams_wait_for_a_guest_in_their_socket_and_not_for_ever() {
        let (mut datagrams, mut sockets) = datagrams();
        let start = Instant::now();
        let to = datagrams.ports[0].socket.local_addr().unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2 * BATCH {
            client.send_to(&[7; LONGEST], to).unwrap();
        }
        let waiting = |datagrams: &Datagrams, sockets: &SocketSet<'static>| -> usize {
            let handles = datagrams.clients.values().map(|client| client.socket);
            handles.map(|handle| sockets.get::<udp::Socket>(handle).send_queue() / LONGEST).sum()
        };
        assert!(datagrams.has_more(&sockets));
        datagrams.collect(&mut sockets, start);
        assert_eq!(waiting(&datagrams, &sockets), BATCH);
        assert!(!datagrams.has_more(&sockets), "there is, but not now");
        datagrams.collect(&mut sockets, start + Duration::from_millis(1));
        assert_eq!(waiting(&datagrams, &sockets), BATCH);
        assert_eq!(datagrams.ask_for_macs(&sockets, start).len(), 1);
        assert_eq!(datagrams.ask_for_macs(&sockets, start).len(), 0, "not yet again");
        assert_eq!(datagrams.ask_for_macs(&sockets, start + ASK_AGAIN).len(), 1);
        datagrams.collect(&mut sockets, start + Duration::from_millis(1) + PATIENCE);
        assert_eq!((waiting(&datagrams, &sockets), datagrams.clients.len()), (0, 0));
        assert!(!datagrams.has_more(&sockets));
    }

    #[test]
    fn what_no_frame_holds_makes_nobody_a_client() {
        let (mut datagrams, mut sockets) = datagrams();
        datagrams.pass_on(0, peer(1), LONGEST + 1, &mut sockets, Instant::now());
        assert!(datagrams.clients.is_empty());
    }

    #[test]
    fn a_frame_that_is_cut_short_is_for_nobody() {
        assert_eq!(destination(&arp_request(FIRST_VM)), None);
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0; 13]), None);
    }
}

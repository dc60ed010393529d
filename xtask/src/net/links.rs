//! Connections between the loopback interface, or whoever is outside, and the machine: how each is made, goes on and ends.

use super::capacity::PATIENCE;
use super::inbound::{Next, Port};
use super::outbound::Opening;
use super::relay::{self, Progress, Relay};
use super::wire::Wire;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::IpEndpoint;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections at once at most; beyond that clients wait in the listeners' queues, and guests try again.
const CONNECTIONS: usize = 1024;
/// Of them, those of guests that are not answered yet at most, and how long each may be.
const DIALLING: usize = 256;
const DIALLING_PATIENCE: Duration = Duration::from_secs(20);
const DIALLING_LOOK: Duration = Duration::from_secs(1);
/// How long a client waits for a guest that has refused it while nobody is connected there, or whose client is not known to be there still.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long after a client has come its connection is made again when the guest resets it before it took anything. Later, the guest
/// has tired of a client that says nothing.
const RETRY: Duration = Duration::from_secs(10);
/// Time between two looks while something waits whose end nothing announces.
const TICK: Duration = Duration::from_millis(10);

/// All connections, and the forwarded ports to which clients come.
pub struct Links {
    ports: Vec<Port>,
    /// Connections by number; a later one has a higher number.
    links: BTreeMap<usize, Link>,
    next_number: usize,
    next_port: u16,
    registry: Registry,
    /// The port whose turn it is to have a client taken.
    turn: usize,
}

/// One connection.
struct Link {
    relay: Relay,
    socket: Option<SocketHandle>,
    /// Which forwarded port its client has come to; none for one that a guest has opened.
    port: Option<usize>,
    stage: Stage,
    since: Instant,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The guest has no room for its client.
    Waiting,
    /// The guest has been asked at this time.
    Connecting(Instant),
    /// The host's loopback interface, or somebody beyond, has been asked, for a guest.
    Dialling,
    /// Bytes go both ways.
    Open,
    /// The guest is told that it is over.
    Leaving,
}

impl Links {
    /// Asks for the events of `ports`, with the tokens from `first` on. Connections have those from `connections` on.
    pub fn new(mut ports: Vec<Port>, first: usize, connections: usize, registry: Registry) -> std::io::Result<Links> {
        for (port, number) in ports.iter_mut().zip(first..) {
            registry.register(port.listener(), Token(number), Interest::READABLE)?;
        }
        Ok(Links { ports, links: BTreeMap::new(), next_number: connections, next_port: 49152, registry, turn: 0 })
    }

    /// Forwarded ports.
    pub fn ports(&self) -> usize {
        self.ports.len()
    }

    /// Somebody may have come to the port `index`.
    pub fn wake_port(&mut self, index: usize) {
        if let Some(port) = self.ports.get_mut(index) {
            port.wake();
        }
    }

    /// Something has happened at the connection of this number, if there is one.
    pub fn note(&mut self, number: usize, event: &Event) {
        if let Some(link) = self.links.get_mut(&number) {
            link.relay.note(event);
        }
    }

    /// How long nothing but events changes what there is to be done; `None` for ever.
    pub fn patience(&self) -> Option<Duration> {
        let waits = self.links.values().any(|link| !matches!(link.stage, Stage::Open | Stage::Dialling));
        if waits || self.ports.iter().any(Port::has_clients) {
            return Some(TICK);
        }
        self.links.values().any(|link| link.stage == Stage::Dialling).then_some(DIALLING_LOOK)
    }

    /// The stack has seen the opening for which the connection `number` was started: a socket that has not taken its opening would take somebody else's.
    pub fn opened(&mut self, number: usize, sockets: &mut SocketSet<'static>) {
        if let Some(socket) = self.links.get(&number).and_then(|link| link.socket)
            && sockets.get::<tcp::Socket>(socket).state() != tcp::State::SynReceived
        {
            self.remove(number, sockets);
        }
    }

    /// Starts a connection for a guest to where its opening leads, with a socket for the opening. Its number; none where the guest
    /// is to be refused, or has sent that opening before.
    pub fn dial(&mut self, opening: Opening, address: SocketAddr, sockets: &mut SocketSet<'static>) -> Option<usize> {
        let known = |link: &Link| {
            let socket = link.socket.map(|socket| sockets.get::<tcp::Socket>(socket));
            link.port.is_none()
                && socket.is_some_and(|socket| {
                    socket.local_endpoint() == Some((opening.to, opening.port).into())
                        && socket.remote_endpoint().is_some_and(|remote| opening.is_from(remote))
                })
        };
        // What leads to nobody who answers must not keep others out.
        let dialling = self.links.values().filter(|link| link.stage == Stage::Dialling).count();
        if self.links.len() >= CONNECTIONS || dialling >= DIALLING || self.links.values().any(known) {
            return None;
        }
        let stream = TcpStream::connect(address).ok()?;
        let mut socket = relay::socket();
        socket.listen((opening.to, opening.port)).ok()?;
        // The guest gets its answer when whoever was asked has given one.
        socket.pause_synack(true);
        let socket = sockets.add(socket);
        let (relay, since) = (Relay::new(stream), Instant::now());
        self.add(Link { relay, socket: Some(socket), port: None, stage: Stage::Dialling, since }, sockets)
    }

    /// Gives a connection its number, and asks for its stream's events.
    fn add(&mut self, mut link: Link, sockets: &mut SocketSet<'static>) -> Option<usize> {
        let number = self.next_number;
        self.next_number += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(link.relay.stream(), Token(number), interest);
        self.links.insert(number, link);
        if registered.is_err() {
            self.remove(number, sockets);
            return None;
        }
        Some(number)
    }

    /// Forgets a connection.
    fn remove(&mut self, number: usize, sockets: &mut SocketSet<'static>) -> Option<Link> {
        let mut link = self.links.remove(&number)?;
        if let Some(socket) = link.socket.take() {
            sockets.remove(socket);
        }
        if let Some(port) = link.port.and_then(|port| self.ports.get_mut(port)) {
            match link.stage {
                Stage::Waiting => port.forget(number),
                Stage::Connecting(_) => port.capacity.forget(),
                Stage::Open => port.capacity.end(),
                Stage::Leaving | Stage::Dialling => {}
            }
        }
        // Fails only for what was never registered.
        let _ = self.registry.deregister(link.relay.stream());
        Some(link)
    }

    /// Asks guests that have room to take those who wait: one of each port at a time, so that nobody has all the room of others.
    pub fn welcome(&mut self, interface: &mut Interface, sockets: &mut SocketSet<'static>) {
        let now = Instant::now();
        let ports = self.ports.len();
        // How many ports in a row have had nobody.
        let mut idle = 0;
        while idle < ports && self.links.len() < CONNECTIONS {
            let index = self.turn % ports;
            self.turn = index + 1;
            let Some(next) = self.ports[index].next(now) else {
                idle += 1;
                continue;
            };
            idle = 0;
            let number = match next {
                Next::Again(number) => Some(number),
                Next::New(stream) => {
                    let relay = Relay::new(stream);
                    self.add(
                        Link { relay, socket: None, port: Some(index), stage: Stage::Waiting, since: now },
                        sockets,
                    )
                }
            };
            if let Some(number) = number {
                self.connect(number, index, now, interface, sockets);
            }
        }
    }

    fn connect(
        &mut self,
        number: usize,
        index: usize,
        now: Instant,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
    ) {
        let forward = self.ports[index].forward;
        let Some(link) = self.links.get_mut(&number) else { return };
        let local = self.next_port;
        self.next_port = if local == u16::MAX { 49152 } else { local + 1 };
        let mut socket = relay::socket();
        let remote = IpEndpoint::new(forward.guest.into(), forward.port.number);
        if socket.connect(interface.context(), remote, local).is_err() {
            // Not for an address of this network and a port, which forwards have.
            self.remove(number, sockets);
            return;
        }
        link.relay.again();
        link.socket = Some(sockets.add(socket));
        link.stage = Stage::Connecting(now);
        self.ports[index].capacity.begin();
    }

    /// Asks the guests of new connections for their MACs.
    pub fn ask_for_macs(&mut self, wire: &mut Wire, now: Instant) {
        for link in self.links.values() {
            if let (Some(port), Stage::Connecting(since)) = (link.port, link.stage)
                && let Some(request) = self.ports[port].ask_for_mac(since, now)
            {
                wire.push(request);
            }
        }
    }

    /// Moves bytes between both sides of every connection, and sees which of them are made or over.
    pub fn pump(&mut self, sockets: &mut SocketSet<'static>) {
        let now = Instant::now();
        let numbers: Vec<usize> = self.links.keys().copied().collect();
        for number in numbers {
            let Some(link) = self.links.get(&number) else { continue };
            match link.stage {
                Stage::Waiting => {
                    if link.relay.is_closing() && now - link.since >= CLIENT_PATIENCE {
                        self.remove(number, sockets);
                    }
                }
                Stage::Connecting(since) => self.connecting(number, since, now, sockets),
                Stage::Dialling => self.dialling(number, sockets),
                Stage::Open => self.open(number, now, sockets),
                Stage::Leaving => {
                    self.remove(number, sockets);
                }
            }
        }
    }

    /// Looks whether a guest has answered.
    fn connecting(&mut self, number: usize, since: Instant, now: Instant, sockets: &mut SocketSet<'static>) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let (Some(handle), Some(index)) = (link.socket, link.port) else { return };
        let port = &mut self.ports[index];
        match sockets.get::<tcp::Socket>(handle).state() {
            tcp::State::SynSent if now - since < PATIENCE => return,
            tcp::State::SynSent => port.capacity.unanswered(),
            tcp::State::Closed => port.capacity.refused(now),
            _ => {
                port.complete();
                link.stage = Stage::Open;
                return self.open(number, now, sockets);
            }
        }
        self.wait(number, now, sockets);
    }

    /// A guest is to be asked again for a connection that its capacity does not count any more.
    fn wait(&mut self, number: usize, now: Instant, sockets: &mut SocketSet<'static>) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(index) = link.port else { return };
        link.stage = Stage::Waiting;
        if let Some(socket) = link.socket.take() {
            sockets.remove(socket);
        }
        let port = &mut self.ports[index];
        let refused = port.capacity.is_refusing() && !port.capacity.is_known();
        if (refused || link.relay.is_closing()) && now - link.since >= CLIENT_PATIENCE {
            if let Some(link) = self.remove(number, sockets) {
                link.relay.reset();
            }
            return;
        }
        port.wait(number);
    }

    /// Looks whether whoever was asked for a guest has answered.
    fn dialling(&mut self, number: usize, sockets: &mut SocketSet<'static>) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(handle) = link.socket else { return };
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        let stream = link.relay.stream();
        if socket.state() != tcp::State::SynReceived {
            // The guest has thought better of it.
            self.remove(number, sockets);
        } else if matches!(stream.take_error(), Ok(Some(_)) | Err(_)) || link.since.elapsed() >= DIALLING_PATIENCE {
            socket.abort();
            link.stage = Stage::Leaving;
        } else if stream.peer_addr().is_ok() {
            socket.pause_synack(false);
            link.stage = Stage::Open;
        }
    }

    /// Moves bytes between both sides of a connection.
    fn open(&mut self, number: usize, now: Instant, sockets: &mut SocketSet<'static>) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(handle) = link.socket else { return };
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        match link.relay.pump(socket) {
            Progress::GoesOn => {}
            Progress::Finished => {
                self.remove(number, sockets);
            }
            Progress::NeverTaken if link.port.is_some() && now - link.since < RETRY => {
                if let Some(index) = link.port {
                    self.ports[index].capacity.evicted(now);
                }
                self.wait(number, now, sockets);
            }
            Progress::NeverTaken | Progress::GuestGone => {
                if let Some(link) = self.remove(number, sockets) {
                    link.relay.reset();
                }
            }
            Progress::HostGone => {
                // The reset goes out when the socket is polled once more.
                socket.abort();
                if let Some(index) = link.port {
                    self.ports[index].capacity.end();
                }
                link.stage = Stage::Leaving;
            }
        }
    }
}

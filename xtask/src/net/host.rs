//! The host behind the switch: answers ARP, ping, DHCP and questions for names, and carries TCP connections between the loopback interface and the
//! machine in both directions, and datagrams to the machine and back.

use super::capacity::PATIENCE;
use super::datagrams::{self, Datagrams};
use super::inbound::{Next, Port};
use super::outbound::{self, Opening};
use super::relay::{self, Progress, Relay};
use super::switch::Switch;
use super::wire::Wire;
use super::{HOST, HOST_MAC, Outside, PREFIX, Watcher, clock, dhcp, names};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

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
/// Frames that are taken from the machine before everybody else's turn.
const BATCH: usize = 64;
/// Bytes of datagrams for each of the servers here that wait.
const SERVER_BYTES: usize = 64 * 1024;
/// Time between two looks while something waits whose end nothing announces.
const TICK: Duration = Duration::from_millis(10);
/// Time until the machine is offered a frame again that it had no room for.
const NAP: Duration = Duration::from_micros(200);

/// Who wakes the host up.
pub const WAKER: Token = Token(0);
const CONTROL: Token = Token(1);
const DATA: Token = Token(2);
/// The first listener; the others follow, then the sockets for datagrams, then the connections.
const LISTENERS: usize = 3;

/// The host and everything that goes through it.
pub struct Host {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    names: SocketHandle,
    clock: SocketHandle,
    ports: Vec<Port>,
    datagrams: Datagrams,
    /// Connections by number; a later one has a higher number.
    links: BTreeMap<usize, Link>,
    next_number: usize,
    next_port: u16,
    injected: Receiver<Vec<u8>>,
    registry: Registry,
    started: Instant,
    outside: Outside,
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

impl Host {
    pub fn new(
        switch: Switch,
        mut ports: Vec<Port>,
        mut datagrams: Datagrams,
        injected: Receiver<Vec<u8>>,
        (watcher, outside): (Watcher, Outside),
        registry: Registry,
    ) -> std::io::Result<Host> {
        let mut wire = Wire::new(switch, watcher);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(HOST_MAC)));
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list has room for one.
            let _ = addresses.push(IpCidr::new(HOST.into(), PREFIX));
        });
        // It speaks for all that guests reach by it; what it must not answer for, it is not given.
        interface.set_any_ip(true);
        // The table has room, and is empty.
        let _ = interface.routes_mut().add_default_ipv4_route(HOST);
        let mut sockets = SocketSet::new(Vec::new());
        let mut serve = |port: u16| {
            let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; SERVER_BYTES]);
            let mut socket = udp::Socket::new(buffer(), buffer());
            socket.bind(port).expect("a fresh socket binds to any port");
            sockets.add(socket)
        };
        let (dhcp, names, clock) = (serve(67), serve(names::PORT), serve(clock::PORT));
        for (port, number) in ports.iter_mut().zip(LISTENERS..) {
            registry.register(port.listener(), Token(number), Interest::READABLE)?;
        }
        wire.switch.register(&registry, CONTROL, DATA)?;
        let first_socket = LISTENERS + ports.len();
        datagrams.register(&registry, first_socket)?;
        let next_number = first_socket + datagrams.ports();
        Ok(Host {
            wire,
            interface,
            sockets,
            dhcp,
            names,
            clock,
            ports,
            datagrams,
            links: BTreeMap::new(),
            next_number,
            next_port: 49152,
            injected,
            registry,
            started: Instant::now(),
            outside,
            turn: 0,
        })
    }

    /// Serves until `stop` is set, and [`WAKER`] woken.
    pub fn serve(mut self, mut poll: Poll, stop: &AtomicBool) {
        let mut events = Events::with_capacity(256);
        while !stop.load(Ordering::Relaxed) {
            let patience = self.turn();
            // An interrupted wait is as good as one that has ended.
            let _ = poll.poll(&mut events, patience);
            for event in &events {
                let Token(number) = event.token();
                let Some(index) = number.checked_sub(LISTENERS) else { continue };
                if let Some(port) = self.ports.get_mut(index) {
                    port.wake();
                } else if let Some(link) = self.links.get_mut(&number) {
                    link.relay.note(event);
                } else {
                    self.datagrams.wake(index - self.ports.len());
                }
            }
        }
    }

    /// Does what there is to be done. How long nothing but events can change that.
    fn turn(&mut self) -> Option<Duration> {
        while let Ok(frame) = self.injected.try_recv() {
            self.wire.push(frame);
        }
        let mut taken = 0;
        while taken < BATCH
            && let Some(frame) = self.wire.take()
        {
            self.take_in(frame);
            taken += 1;
        }
        self.send();
        self.serve_dhcp();
        self.serve_names();
        self.serve_clock();
        self.welcome();
        self.pump();
        if self.wire.has_room() {
            self.datagrams.collect(&mut self.sockets, Instant::now());
        }
        self.send();
        self.ask_for_macs();
        if !self.wire.flush() {
            std::thread::sleep(NAP);
            return Some(Duration::ZERO);
        }
        if taken == BATCH || self.datagrams.has_more(&self.sockets) {
            return Some(Duration::ZERO);
        }
        let waits = self.links.values().any(|link| !matches!(link.stage, Stage::Open | Stage::Dialling));
        let dials = self.links.values().any(|link| link.stage == Stage::Dialling).then_some(DIALLING_LOOK);
        let held_up = self.ports.iter().any(Port::has_clients);
        let tick = (waits || held_up).then_some(TICK);
        let delay = self.interface.poll_delay(self.now(), &self.sockets);
        let delay = delay.map(|delay| Duration::from_micros(delay.total_micros()));
        tick.into_iter().chain(delay).chain(dials).min()
    }

    fn now(&self) -> smoltcp::time::Instant {
        let micros = self.started.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Gives the stack a frame of the machine's.
    fn take_in(&mut self, frame: Vec<u8>) {
        let mut opened = None;
        if let Some(opening) = Opening::read(&frame) {
            let Some(address) = self.outside.leads(opening.to, opening.port) else {
                self.wire.push(opening.refusal());
                return;
            };
            opened = self.dial(opening, address);
        } else if !outbound::concerns_host(&frame) {
            return;
        }
        let datagram_for = datagrams::destination(&frame);
        self.wire.hand_in(frame);
        let now = self.now();
        if self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets) == PollIngressSingleResult::None {
            return;
        }
        if let Some(source) = datagram_for {
            self.datagrams.deliver(source, &mut self.sockets, Instant::now());
        }
        // A socket that has not taken its opening would take somebody else's.
        if let Some(number) = opened
            && let Some(socket) = self.links.get(&number).and_then(|link| link.socket)
            && self.sockets.get::<tcp::Socket>(socket).state() != tcp::State::SynReceived
        {
            self.remove(number);
        }
    }

    /// Sends what the stack has to send, as far as there is room.
    fn send(&mut self) {
        for _ in 0..BATCH {
            let now = self.now();
            let sent = self.interface.poll_egress(now, &mut self.wire, &mut self.sockets);
            if sent == PollResult::None || !self.wire.flush() {
                return;
            }
        }
    }

    fn serve_dhcp(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.dhcp);
        // Bounded by the socket's buffer, which only `take_in` fills.
        while let Ok((message, _)) = socket.recv() {
            if let Some(reply) = dhcp::answer(message, PREFIX, Some(HOST)) {
                // A reply that finds no space is lost, and the client asks again.
                let _ = socket.send_slice(&reply, IpEndpoint::new(Ipv4Addr::BROADCAST.into(), 68));
            }
        }
    }

    fn serve_names(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.names);
        // Bounded as above.
        while let Ok((message, from)) = socket.recv() {
            if let Some(reply) = names::answer(message) {
                // One that finds no space is asked for again.
                let _ = socket.send_slice(&reply, from);
            }
        }
    }

    fn serve_clock(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.clock);
        // Bounded as above.
        while let Ok((message, from)) = socket.recv() {
            if let Some(reply) = clock::answer(message, SystemTime::now()) {
                // One that finds no space is asked for again.
                let _ = socket.send_slice(&reply, from);
            }
        }
    }

    /// Starts a connection for a guest to where its opening leads, with a socket for the opening. Its number; none where the guest
    /// is to be refused, or has sent that opening before.
    fn dial(&mut self, opening: Opening, address: SocketAddr) -> Option<usize> {
        let known = |link: &Link| {
            let socket = link.socket.map(|socket| self.sockets.get::<tcp::Socket>(socket));
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
        let socket = self.sockets.add(socket);
        self.add(Link {
            relay: Relay::new(stream),
            socket: Some(socket),
            port: None,
            stage: Stage::Dialling,
            since: Instant::now(),
        })
    }

    /// Gives a connection its number, and asks for its stream's events.
    fn add(&mut self, mut link: Link) -> Option<usize> {
        let number = self.next_number;
        self.next_number += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.registry.register(link.relay.stream(), Token(number), interest);
        self.links.insert(number, link);
        if registered.is_err() {
            self.remove(number);
            return None;
        }
        Some(number)
    }

    /// Forgets a connection.
    fn remove(&mut self, number: usize) -> Option<Link> {
        let mut link = self.links.remove(&number)?;
        if let Some(socket) = link.socket.take() {
            self.sockets.remove(socket);
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
    fn welcome(&mut self) {
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
                Next::New(stream) => self.add(Link {
                    relay: Relay::new(stream),
                    socket: None,
                    port: Some(index),
                    stage: Stage::Waiting,
                    since: now,
                }),
            };
            if let Some(number) = number {
                self.connect(number, index, now);
            }
        }
    }

    fn connect(&mut self, number: usize, index: usize, now: Instant) {
        let forward = self.ports[index].forward;
        let Some(link) = self.links.get_mut(&number) else { return };
        let local = self.next_port;
        self.next_port = if local == u16::MAX { 49152 } else { local + 1 };
        let mut socket = relay::socket();
        let remote = IpEndpoint::new(forward.guest.into(), forward.port.number);
        if socket.connect(self.interface.context(), remote, local).is_err() {
            // Not for an address of this network and a port, which forwards have.
            self.remove(number);
            return;
        }
        link.relay.again();
        link.socket = Some(self.sockets.add(socket));
        link.stage = Stage::Connecting(now);
        self.ports[index].capacity.begin();
    }

    /// Asks the guests of new connections for their MACs.
    fn ask_for_macs(&mut self) {
        let now = Instant::now();
        for link in self.links.values() {
            if let (Some(port), Stage::Connecting(since)) = (link.port, link.stage)
                && let Some(request) = self.ports[port].ask_for_mac(since, now)
            {
                self.wire.push(request);
            }
        }
        for request in self.datagrams.ask_for_macs(&self.sockets, now) {
            self.wire.push(request);
        }
    }

    /// Moves bytes between both sides of every connection, and sees which of them are made or over.
    fn pump(&mut self) {
        let now = Instant::now();
        let numbers: Vec<usize> = self.links.keys().copied().collect();
        for number in numbers {
            let Some(link) = self.links.get(&number) else { continue };
            match link.stage {
                Stage::Waiting => {
                    if link.relay.is_closing() && now - link.since >= CLIENT_PATIENCE {
                        self.remove(number);
                    }
                }
                Stage::Connecting(since) => self.connecting(number, since, now),
                Stage::Dialling => self.dialling(number),
                Stage::Open => self.open(number, now),
                Stage::Leaving => {
                    self.remove(number);
                }
            }
        }
    }

    /// Looks whether a guest has answered.
    fn connecting(&mut self, number: usize, since: Instant, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let (Some(handle), Some(index)) = (link.socket, link.port) else { return };
        let port = &mut self.ports[index];
        match self.sockets.get::<tcp::Socket>(handle).state() {
            tcp::State::SynSent if now - since < PATIENCE => return,
            tcp::State::SynSent => port.capacity.unanswered(),
            tcp::State::Closed => port.capacity.refused(now),
            _ => {
                port.complete();
                link.stage = Stage::Open;
                return self.open(number, now);
            }
        }
        self.wait(number, now);
    }

    /// A guest is to be asked again for a connection that its capacity does not count any more.
    fn wait(&mut self, number: usize, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(index) = link.port else { return };
        link.stage = Stage::Waiting;
        if let Some(socket) = link.socket.take() {
            self.sockets.remove(socket);
        }
        let port = &mut self.ports[index];
        let refused = port.capacity.is_refusing() && !port.capacity.is_known();
        if (refused || link.relay.is_closing()) && now - link.since >= CLIENT_PATIENCE {
            if let Some(link) = self.remove(number) {
                link.relay.reset();
            }
            return;
        }
        port.wait(number);
    }

    /// Looks whether whoever was asked for a guest has answered.
    fn dialling(&mut self, number: usize) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(handle) = link.socket else { return };
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let stream = link.relay.stream();
        if socket.state() != tcp::State::SynReceived {
            // The guest has thought better of it.
            self.remove(number);
        } else if matches!(stream.take_error(), Ok(Some(_)) | Err(_)) || link.since.elapsed() >= DIALLING_PATIENCE {
            socket.abort();
            link.stage = Stage::Leaving;
        } else if stream.peer_addr().is_ok() {
            socket.pause_synack(false);
            link.stage = Stage::Open;
        }
    }

    /// Moves bytes between both sides of a connection.
    fn open(&mut self, number: usize, now: Instant) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(handle) = link.socket else { return };
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        match link.relay.pump(socket) {
            Progress::GoesOn => {}
            Progress::Finished => {
                self.remove(number);
            }
            Progress::NeverTaken if link.port.is_some() && now - link.since < RETRY => {
                if let Some(index) = link.port {
                    self.ports[index].capacity.evicted(now);
                }
                self.wait(number, now);
            }
            Progress::NeverTaken | Progress::GuestGone => {
                if let Some(link) = self.remove(number) {
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

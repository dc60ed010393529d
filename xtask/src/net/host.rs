//! The host behind the switch: answers ARP, ping and DHCP, and carries TCP connections from the loopback interface into the
//! machine, byte by byte, half-closes included.

use super::switch::Switch;
use super::{HOST, HOST_MAC, PREFIX, Watcher, dhcp};
use crate::machine::Forward;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, HardwareAddress,
    IpCidr, IpEndpoint,
};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Bytes that a connection may hold for each direction.
const BUFFER: usize = 64 * 1024;
/// Frames that wait for the machine at most; the machine takes one in each of its milliseconds.
const OUTBOX: usize = 512;
/// Connections at once at most; beyond that they wait in the listener's queue.
const CONNECTIONS: usize = 1024;
/// A connection that the guest does not answer for so long is given up.
const GUEST_SILENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);
/// How long a guest may leave a new connection unanswered until it is asked for its MAC, and between two such requests.
const ASK_AFTER: Duration = Duration::from_millis(20);
/// See [`ASK_AFTER`].
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Sleep between two looks when something is going on, and when nothing is.
const NAP: Duration = Duration::from_micros(300);
/// See [`NAP`].
const LONG_NAP: Duration = Duration::from_millis(3);

/// The host and everything that goes through it.
pub struct Host {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    listeners: Vec<Listening>,
    connections: Vec<Connection>,
    next_port: u16,
    injected: Receiver<Vec<u8>>,
    started: std::time::Instant,
}

/// A forwarded port.
struct Listening {
    listener: TcpListener,
    forward: Forward,
    /// When the guest was last asked for its MAC.
    asked: Option<std::time::Instant>,
}

/// One connection: a stream on the host, a socket into the machine.
struct Connection {
    stream: TcpStream,
    socket: SocketHandle,
    opened: std::time::Instant,
    /// The guest has not answered yet.
    is_new: bool,
    /// Index of the forwarded port.
    port: usize,
    /// The host's client will send no more.
    client_done: bool,
    /// The guest will send no more, and the client knows.
    guest_done: bool,
    /// The client is lost and the guest's reset is on its way.
    aborted: bool,
}

impl Host {
    pub fn new(
        switch: Switch,
        listeners: Vec<(TcpListener, Forward)>,
        injected: Receiver<Vec<u8>>,
        watcher: Watcher,
    ) -> Host {
        let mut wire = Wire { switch, outbox: VecDeque::new(), watcher };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(HOST_MAC)));
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list has room for one.
            let _ = addresses.push(IpCidr::new(HOST.into(), PREFIX));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; BUFFER]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(67).expect("a fresh socket binds to any port");
        let dhcp = sockets.add(socket);
        let listeners = listeners.into_iter().map(|(listener, forward)| Listening { listener, forward, asked: None });
        Host {
            wire,
            interface,
            sockets,
            dhcp,
            listeners: listeners.collect(),
            connections: Vec::new(),
            next_port: 49152,
            injected,
            started: std::time::Instant::now(),
        }
    }

    /// Serves until `stop` is set.
    pub fn serve(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            while let Ok(frame) = self.injected.try_recv() {
                self.wire.outbox.push_back(frame);
            }
            let now = Instant::from_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX));
            let mut busy = self.interface.poll(now, &mut self.wire, &mut self.sockets)
                == smoltcp::iface::PollResult::SocketStateChanged;
            self.serve_dhcp();
            busy |= self.accept();
            busy |= self.pump();
            self.ask_for_macs();
            self.wire.flush();
            if !busy {
                std::thread::sleep(if self.connections.is_empty() && self.wire.outbox.is_empty() {
                    LONG_NAP
                } else {
                    NAP
                });
            }
        }
    }

    fn serve_dhcp(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.dhcp);
        // Bounded by the socket's buffer, which only `poll` fills.
        while let Ok((message, _)) = socket.recv() {
            if let Some(reply) = dhcp::answer(message) {
                // A reply that finds no space is lost, and the client asks again.
                let _ = socket.send_slice(&reply, IpEndpoint::new(Ipv4Addr::BROADCAST.into(), 68));
            }
        }
    }

    /// Takes new connections. Returns whether there were any.
    fn accept(&mut self) -> bool {
        let mut any = false;
        for (port, Listening { listener, forward, .. }) in self.listeners.iter().enumerate() {
            while self.connections.len() < CONNECTIONS
                && let Ok((stream, _)) = listener.accept()
            {
                any = true;
                if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                    continue;
                }
                let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                // What the client sends goes on at once; the client decides what belongs together.
                socket.set_nagle_enabled(false);
                socket.set_ack_delay(None);
                socket.set_timeout(Some(GUEST_SILENCE));
                let local = self.next_port;
                self.next_port = if local == u16::MAX { 49152 } else { local + 1 };
                let remote = IpEndpoint::new(forward.guest.into(), forward.port);
                if socket.connect(self.interface.context(), remote, local).is_ok() {
                    let socket = self.sockets.add(socket);
                    self.connections.push(Connection {
                        stream,
                        socket,
                        opened: std::time::Instant::now(),
                        is_new: true,
                        port,
                        client_done: false,
                        guest_done: false,
                        aborted: false,
                    });
                }
            }
        }
        any
    }

    /// Asks the guests of new connections for their MACs. The stack does so by itself, but only one guest in a second.
    fn ask_for_macs(&mut self) {
        let now = std::time::Instant::now();
        let waiting =
            self.connections.iter().filter(|connection| connection.is_new && now - connection.opened >= ASK_AFTER);
        for connection in waiting {
            let Listening { forward, asked, .. } = &mut self.listeners[connection.port];
            if asked.is_none_or(|asked| now - asked >= ASK_AGAIN) {
                *asked = Some(now);
                self.wire.outbox.push_back(arp_request(forward.guest));
            }
        }
    }

    /// Moves bytes between both sides of every connection. Returns whether any moved.
    fn pump(&mut self) -> bool {
        let mut any = false;
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<tcp::Socket>(connection.socket);
            let (moved, alive) = connection.pump(socket);
            any |= moved;
            if !alive {
                sockets.remove(connection.socket);
            }
            alive
        });
        any
    }
}

impl Connection {
    /// Returns whether bytes moved, and whether the connection lives on.
    fn pump(&mut self, socket: &mut tcp::Socket<'static>) -> (bool, bool) {
        if self.aborted {
            return (false, false);
        }
        let mut moved = false;
        let mut lost = false;
        while !self.client_done && socket.can_send() {
            let stream = &mut self.stream;
            let result = socket.send(|space| match stream.read(space) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error.kind())),
            });
            match result {
                Ok(Ok(0)) => {
                    self.client_done = true;
                    socket.close();
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(ErrorKind::WouldBlock)) => break,
                Ok(Err(_)) | Err(_) => {
                    lost = true;
                    break;
                }
            }
        }
        while socket.can_recv() && !lost {
            let stream = &mut self.stream;
            let result = socket.recv(|bytes| match stream.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error.kind())),
            });
            match result {
                Ok(Ok(_)) => moved = true,
                Ok(Err(ErrorKind::WouldBlock)) => break,
                Ok(Err(_)) | Err(_) => lost = true,
            }
        }
        if lost {
            // The client has gone: the guest sees a reset, which goes out when the socket is polled once more.
            socket.abort();
            self.aborted = true;
            return (true, true);
        }
        self.is_new &= socket.state() == tcp::State::SynSent;
        // A connection may be silent for as long as its client likes, but not while it is made or taken apart.
        let settled = socket.state() == tcp::State::Established && !self.client_done;
        socket.set_timeout((!settled).then_some(GUEST_SILENCE));
        use tcp::State;
        match socket.state() {
            State::Closed | State::TimeWait if !socket.can_recv() => {
                // Dropping the stream tells the client.
                (moved, false)
            }
            State::CloseWait | State::LastAck | State::Closing if !socket.can_recv() && !self.guest_done => {
                self.guest_done = true;
                // Fails only when the client has gone already.
                let _ = self.stream.shutdown(Shutdown::Write);
                (true, true)
            }
            _ => (moved, true),
        }
    }
}

/// An Ethernet frame in which the host asks who has the address `guest`.
fn arp_request(guest: Ipv4Addr) -> Vec<u8> {
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(HOST_MAC),
        source_protocol_addr: HOST,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: guest,
    };
    let header = EthernetRepr {
        src_addr: EthernetAddress(HOST_MAC),
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; header.buffer_len() + request.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    header.emit(&mut frame);
    request.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

/// The cable between the host's stack and the switch.
struct Wire {
    switch: Switch,
    outbox: VecDeque<Vec<u8>>,
    watcher: Watcher,
}

impl Wire {
    fn flush(&mut self) {
        while let Some(frame) = self.outbox.front() {
            if !self.switch.send(frame) {
                break;
            }
            self.outbox.pop_front();
        }
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Outbox<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Outbox<'_>)> {
        let frame = self.switch.receive()?;
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.as_ref().is_some_and(|watcher| watcher.send(frame.clone()).is_err()) {
            *watcher = None;
        }
        drop(watcher);
        Some((Received(frame), Outbox(&mut self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbox<'_>> {
        (self.outbox.len() < OUTBOX).then_some(Outbox(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = abi::nic::MAX_FRAME;
        capabilities
    }
}

/// A frame from the machine.
struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame to the machine.
struct Outbox<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Outbox<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

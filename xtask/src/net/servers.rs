//! What the host itself serves: addresses by DHCP, names, and the time.

use super::resolver::Resolver;
use super::{HOST, PREFIX, clock, dhcp, names};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;
use std::net::Ipv4Addr;
use std::time::SystemTime;

/// Bytes of datagrams for each of the servers that wait.
const BYTES: usize = 64 * 1024;

/// The servers' sockets, and who asks for names outside.
pub struct Servers {
    dhcp: SocketHandle,
    names: SocketHandle,
    clock: SocketHandle,
    resolver: Resolver,
}

impl Servers {
    /// Opens their sockets. `resolver` is asked for names that are none of this network's.
    pub fn new(sockets: &mut SocketSet<'static>, resolver: Resolver) -> Servers {
        let mut serve = |port: u16| {
            let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; BYTES]);
            let mut socket = udp::Socket::new(buffer(), buffer());
            socket.bind(port).expect("a fresh socket binds to any port");
            sockets.add(socket)
        };
        Servers { dhcp: serve(67), names: serve(names::PORT), clock: serve(clock::PORT), resolver }
    }

    /// Answers all that has come. Bounded by the sockets' buffers, which only fill up between two calls.
    pub fn serve(&mut self, sockets: &mut SocketSet<'static>) {
        // A reply that finds no space is lost, and the client asks again.
        let socket = sockets.get_mut::<udp::Socket>(self.dhcp);
        while let Ok((message, _)) = socket.recv() {
            if let Some(reply) = dhcp::answer(message, PREFIX, Some(HOST)) {
                let _ = socket.send_slice(&reply, IpEndpoint::new(Ipv4Addr::BROADCAST.into(), 68));
            }
        }
        let socket = sockets.get_mut::<udp::Socket>(self.clock);
        while let Ok((message, from)) = socket.recv() {
            if let Some(reply) = clock::answer(message, SystemTime::now()) {
                let _ = socket.send_slice(&reply, from);
            }
        }
        let socket = sockets.get_mut::<udp::Socket>(self.names);
        while let Ok((message, from)) = socket.recv() {
            let reply = match names::answer(message) {
                Some(names::Answer::Known(reply)) => Some(reply),
                Some(names::Answer::Elsewhere(query)) => self.resolver.ask(query, from),
                None => None,
            };
            if let Some(reply) = reply {
                let _ = socket.send_slice(&reply, from);
            }
        }
        while let Some((reply, to)) = self.resolver.answered() {
            let _ = socket.send_slice(&reply, to);
        }
    }
}

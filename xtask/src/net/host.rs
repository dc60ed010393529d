//! The host behind the switch: answers ARP and ping, and lets those who carry connections and datagrams between the loopback interface, or somebody outside, and
//! the machine have their turns.

use super::datagrams::{self, Datagrams};
use super::flows::Flows;
use super::inbound::Port;
use super::links::Links;
use super::outbound::{self, Opening};
use super::outside::{is_here, why_not};
use super::parcel::Parcel;
use super::resolver::Resolver;
use super::servers::Servers;
use super::switch::Switch;
use super::wire::Wire;
use super::{HOST, HOST_MAC, Outside, PREFIX, Watcher};
use mio::{Events, Poll, Registry, Token, Waker};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Frames that are taken from the machine before everybody else's turn.
const BATCH: usize = 64;
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
    servers: Servers,
    links: Links,
    datagrams: Datagrams,
    flows: Flows,
    injected: Receiver<Vec<u8>>,
    started: Instant,
    outside: Outside,
    /// What was said of addresses that guests do not get to, each once.
    said: Vec<&'static str>,
}

impl Host {
    pub fn new(
        switch: Switch,
        (ports, mut datagrams): (Vec<Port>, Datagrams),
        injected: Receiver<Vec<u8>>,
        (watcher, outside): (Watcher, Outside),
        registry: Registry,
        waker: Arc<Waker>,
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
        let servers = Servers::new(&mut sockets, Resolver::new(outside, waker));
        wire.switch.register(&registry, CONTROL, DATA)?;
        let first_socket = LISTENERS + ports.len();
        datagrams.register(&registry, first_socket)?;
        let connections = first_socket + datagrams.ports();
        let flows = Flows::new(outside, registry.try_clone()?);
        let links = Links::new(ports, LISTENERS, connections, registry)?;
        let started = Instant::now();
        Ok(Host {
            wire,
            interface,
            sockets,
            servers,
            links,
            datagrams,
            flows,
            injected,
            started,
            outside,
            said: Vec::new(),
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
                if let Some(socket) = index.checked_sub(self.links.ports()) {
                    self.datagrams.wake(socket);
                    self.flows.note(number);
                    self.links.note(number, event);
                } else {
                    self.links.wake_port(index);
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
        let now = Instant::now();
        self.servers.serve(&mut self.sockets);
        self.links.welcome(&mut self.interface, &mut self.sockets);
        self.links.pump(&mut self.sockets);
        if self.wire.has_room() {
            self.datagrams.collect(&mut self.sockets, now);
        }
        self.flows.expire(now);
        self.flows.collect(&mut self.wire, now);
        self.send();
        self.links.ask_for_macs(&mut self.wire, now);
        for request in self.datagrams.ask_for_macs(&self.sockets, now) {
            self.wire.push(request);
        }
        if !self.wire.flush() {
            std::thread::sleep(NAP);
            return Some(Duration::ZERO);
        }
        if taken == BATCH || self.datagrams.has_more(&self.sockets) || self.flows.has_more() {
            return Some(Duration::ZERO);
        }
        let delay = self.interface.poll_delay(self.now(), &self.sockets);
        let delay = delay.map(|delay| Duration::from_micros(delay.total_micros()));
        delay.into_iter().chain(self.links.patience()).chain(self.flows.patience(now)).min()
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
                self.say_why_not(opening.to);
                return;
            };
            opened = self.links.dial(opening, address, &mut self.sockets);
        } else if let Some(parcel) = Parcel::read(&frame).filter(|parcel| !is_here(parcel.ends.to)) {
            let to = parcel.ends.to;
            if let Some(refusal) = self.flows.send(parcel, Instant::now()) {
                self.wire.push(refusal);
                self.say_why_not(to);
            }
            return;
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
        if let Some(number) = opened {
            self.links.opened(number, &mut self.sockets);
        }
    }

    /// Says why a guest does not get where it wants to, the first time that it is for this: the guest itself hears no more than that it does not.
    fn say_why_not(&mut self, to: Ipv4Addr) {
        if let Some(why) = why_not(self.outside, to).filter(|why| !self.said.contains(why)) {
            eprintln!("network: a VM does not reach {to}: {why}");
            self.said.push(why);
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
}

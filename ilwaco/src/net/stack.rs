//! The TCP/IP stack of this VM: one interface, and its sockets.
//!
//! smoltcp walks over all sockets of a set for each frame and each poll. Here every TCP connection is a set of its own: a
//! frame's connection is found by its addresses and ports, and only connections that have something to do are polled, so
//! that a thousand idle instructions are not spent on each packet. A connection's socket and buffers exist from the end of
//! its handshake on; an idle VM has none. What smoltcp lacks lies around it: `docs/adr/0001-tcp.md` says what and why.

use super::NetCounters;
use super::autoconf::Autoconf;
use super::capacity::Promises;
use super::connection::Endpoint;
use super::cookie::Key;
use super::device::{NicDevice, nic_page, set_listens};
use super::dhcp::Dhcp;
use super::ended::EndedTable;
use super::fragments::Fragments;
use super::frame::{Flow, Own};
use super::link::Link;
use super::listener::Listener;
use super::paths::{self, Paths};
use super::place::Place;
use super::servers::Servers;
use super::stack_time::stack_time;
use super::waiting::Waiting;
use crate::time::Instant;
use abi::nic::Listens;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::task::Waker;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::wire::{IpCidr, Ipv4Cidr, Ipv6Address, Ipv6Cidr};

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
    /// Those among the former that wait to be accepted.
    pub(super) queued: usize,
    pub(super) ended: EndedTable,
    pub(super) spare: Vec<Endpoint>,
    pub(super) promises: Promises,
    /// Until when somebody who found no memory may come again.
    pub(super) awaits_until: u64,
    /// Room for a list of all places.
    pub(super) order: Vec<usize>,
    pub(super) listeners: Vec<Listener>,
    /// UDP sockets.
    pub(super) datagrams: SocketSet<'static>,
    pub(super) datagrams_due: u64,
    /// Datagrams for which their sockets have no room.
    pub(super) waiting: Waiting,
    pub(super) fragments: Fragments,
    /// Where the boot arguments ask for an IPv6 address beyond the link-local one.
    pub(super) autoconf: Option<Box<Autoconf>>,
    pub(super) dhcp: Option<Box<Dhcp>>,
    /// How often the DHCP client was started.
    pub(super) dhcp_starts: u32,
    /// The second in which errors were reported last, and how many.
    pub(super) errors: (u32, u32),
    /// Nothing can be sent before the demultiplexer takes frames out.
    pub(super) blocked: bool,
    /// Nothing can be received or sent before the machine has memory for what that takes.
    pub(super) starved: bool,
    /// What a connection had that was given up for that was not enough if there is none at this time, in microseconds.
    pub(super) starves_until: u64,
    pub(super) now: u64,
    pub(super) counters: NetCounters,
    /// Who is asked for names, once somebody is known.
    pub(super) servers: Option<Box<Servers>>,
    /// Secrets that were drawn.
    secrets: u32,
    /// Wakes who waits for an address.
    pub(super) up_waker: Option<Waker>,
    /// State of the generator for ephemeral ports.
    pub(super) random: u64,
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
            most: super::capacity::most(crate::memory_bytes()),
            queued: 0,
            ended: EndedTable::new(random),
            spare: Vec::new(),
            promises: Promises::default(),
            awaits_until: 0,
            order: Vec::new(),
            listeners: Vec::new(),
            datagrams: SocketSet::new(Vec::new()),
            datagrams_due: u64::MAX,
            waiting: Waiting::default(),
            fragments: Fragments::default(),
            autoconf: None,
            dhcp: None,
            dhcp_starts: 0,
            errors: (0, 0),
            blocked: false,
            starved: false,
            starves_until: 0,
            now,
            counters: NetCounters::default(),
            servers: None,
            secrets: 0,
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
        self.autoconf = None;
        self.fragments = Fragments::default();
        true
    }

    /// Takes an IPv4 address and a router, or gives them up.
    pub(super) fn set_ipv4(&mut self, address: Option<Ipv4Cidr>, gateway: Option<core::net::Ipv4Addr>) {
        let set = |iface: &mut Interface| {
            iface.update_ip_addrs(|addresses| {
                addresses.retain(|address| matches!(address, IpCidr::Ipv6(_)));
                if let Some(address) = address {
                    // One of three places is free: the others are those of the IPv6 addresses.
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
        self.waiting = Waiting::default();
    }

    /// Says in the NIC page which broadcasts are wanted: those for the sockets' ports, and DHCP's answers; and where connections are
    /// accepted. More ports than can be said are all of them.
    pub(super) fn say_listens(&self) {
        let accepts = self.accepts();
        set_listens(&Listens { accepts: accepts.accepts, tcp_ports: accepts.tcp_ports, ..self.hears() });
    }

    /// The part about TCP.
    fn accepts(&self) -> Listens {
        let mut listens = Listens { accepts: Listens::SAID, ..Listens::default() };
        if self.listeners.len() > listens.tcp_ports.len() {
            return Listens::default();
        }
        for (place, listener) in listens.tcp_ports.iter_mut().zip(&self.listeners) {
            *place = listener.port;
        }
        listens
    }

    /// The part about datagrams.
    fn hears(&self) -> Listens {
        let bound = self.datagrams.iter().filter_map(|(_, socket)| match socket {
            smoltcp::socket::Socket::Udp(socket) => Some(socket.endpoint().port),
            _ => None,
        });
        let mut listens = Listens { said: Listens::SAID, ..Listens::default() };
        let mut places = listens.broadcast_ports.iter_mut();
        for port in bound.chain(self.dhcp.as_ref().map(|_| smoltcp::wire::DHCP_CLIENT_PORT)) {
            match places.next() {
                Some(place) => *place = port,
                None => return Listens::default(),
            }
        }
        listens
    }

    /// A number that nobody can tell who does not know the key, and no other one tells.
    pub(super) fn secret(&mut self) -> u64 {
        self.secrets = self.secrets.wrapping_add(1);
        self.key.secret(self.secrets.into())
    }

    /// The datagram sockets have something to do.
    pub(super) fn touch_datagrams(&mut self) {
        self.datagrams_due = 0;
    }

    /// Asks for interrupts. False when there is something to do already.
    pub(super) fn prepare_idle(&mut self) -> bool {
        if self.starved {
            // Nothing that happens but the passing of time is of use.
            return true;
        }
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
        let own = Own { mac, v4: 0, mask: u32::MAX, id: interface_id(mac), net: 0 };
        Some(Host { own, id, random })
    }
}

/// The interface with the IPv6 address of `own`.
fn interface(own: &Own, random: u64, now: u64) -> Interface {
    let mut iface = paths::interface(paths::WIDE, random, stack_time(now));
    iface.update_ip_addrs(|addresses| {
        // The first of the three that fit.
        let _ = addresses.push(IpCidr::Ipv6(Ipv6Cidr::new(Ipv6Address::from_bits(own.v6()), 64)));
    });
    paths::set_routes(&mut iface);
    iface
}

/// The lower half of IPv6 addresses that is made from a MAC address (RFC 4291, appendix A).
fn interface_id([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

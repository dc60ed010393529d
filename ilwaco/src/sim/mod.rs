//! The simulated machine that host tests run guests' code on, and a host on the other end of its wire.

mod machine;
mod segments;

pub use crate::platform::host::SimEvent;
pub use abi::guest_disk::status as disk_status;
pub use machine::Sim;
pub use ring::SharedMemory;
pub use smoltcp;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv6Address};
use std::boxed::Box;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

/// The guest's address in tests that give it one.
pub const GUEST: [u8; 4] = [10, 0, 2, 16];
/// The other host's address.
pub const PEER: [u8; 4] = [10, 0, 2, 2];
/// How long a frame takes to the guest, in nanoseconds.
const WIRE_NS: u64 = 10_000;

/// Starts Ilwaco on the machine that this thread has built with [`Sim::new`], as the entry does on the bare machine.
pub fn start() {
    crate::clock::start();
    let args = crate::args::Args::of_this_vm();
    crate::console::start_log(args.get("log"));
    crate::net::start(&args);
}

/// The other host's queue of frames in each direction.
#[derive(Default)]
struct Queues {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

/// A received frame.
struct Rx(Vec<u8>);

/// Leave to send a frame.
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((Rx(frame), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

type Script = Box<dyn FnMut(&mut SocketSet<'static>, &mut Interface, u64)>;
type Loss = Box<dyn FnMut(&[u8]) -> bool>;

/// The world outside: another host on the wire, whose stack fills in and checks all checksums by itself.
pub struct World {
    sim: Sim,
    iface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    script: Script,
    lose: Loss,
    lose_sent: Loss,
    /// How long frames take to the guest, in nanoseconds, and those that are on their way.
    delay: u64,
    on_way: VecDeque<(u64, Vec<u8>)>,
}

fn stack_time(ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(ns / 1000).unwrap_or(i64::MAX))
}

impl World {
    /// Builds a machine for this thread with these boot arguments, and another host.
    pub fn new(boot_args: &str) -> World {
        let sim = Sim::new(boot_args);
        let mut queues = Queues::default();
        let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
        let mut iface = Interface::new(Config::new(mac.into()), &mut queues, stack_time(Sim::now()));
        iface.update_ip_addrs(|addresses| {
            let link_local = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
            for address in [IpCidr::new(Ipv4Address::from(PEER).into(), 24), IpCidr::new(link_local.into(), 64)] {
                addresses.push(address).expect("room for two");
            }
        });
        World {
            sim,
            iface,
            queues,
            sockets: SocketSet::new(Vec::new()),
            script: Box::new(|_, _, _| {}),
            lose: Box::new(|_| false),
            lose_sent: Box::new(|_| false),
            delay: 0,
            on_way: VecDeque::new(),
        }
    }

    /// The other host's sockets.
    pub fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// A new TCP socket of the other host.
    pub fn tcp(&mut self) -> SocketHandle {
        self.tcp_with(16 * 1024)
    }

    /// What the other host does with its sockets whenever it is its turn; the number is the time in nanoseconds.
    pub fn script(&mut self, script: impl FnMut(&mut SocketSet<'static>, &mut Interface, u64) + 'static) {
        self.script = Box::new(script);
    }

    /// Which frames are lost on their way to the guest.
    pub fn lose(&mut self, lose: impl FnMut(&[u8]) -> bool + 'static) {
        self.lose = Box::new(lose);
    }

    /// Which frames are lost on their way from the guest.
    pub fn lose_sent(&mut self, lose: impl FnMut(&[u8]) -> bool + 'static) {
        self.lose_sent = Box::new(lose);
    }

    /// How long a frame and what the other host says to it take together, in nanoseconds.
    pub fn round_trip(&mut self, ns: u64) {
        self.delay = ns;
    }

    /// A TCP socket of the other host whose buffers have this size.
    pub fn tcp_with(&mut self, bytes: usize) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; bytes]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// The demultiplexer's ends of the NIC, for a test that needs no other host.
    pub fn into_sim(self) -> Sim {
        self.sim
    }

    /// The machine takes records of several segments of at most so many bytes (0: none), and its NIC cuts them, or does not. To be called before
    /// [`World::run`].
    pub fn takes_segments(&mut self, most: u32, nic_cuts: bool) {
        self.sim.takes_segments(most, nic_cuts);
    }

    /// Records of several segments that the guest has sent.
    pub fn records(&self) -> std::rc::Rc<std::cell::Cell<usize>> {
        self.sim.records()
    }

    /// Starts Ilwaco, and lets the world run whenever the guest idles.
    pub fn run(mut self) {
        start();
        Sim::on_idle(move |now, deadline| self.turn(now, deadline));
    }

    fn turn(&mut self, now: u64, deadline: u64) -> SimEvent {
        while let Some(frame) = self.sim.collect() {
            if !(self.lose_sent)(&frame) {
                self.queues.rx.push_back(frame);
            }
        }
        (self.script)(&mut self.sockets, &mut self.iface, now);
        self.iface.poll(stack_time(now), &mut self.queues, &mut self.sockets);
        (self.script)(&mut self.sockets, &mut self.iface, now);
        while let Some(frame) = self.queues.tx.pop_front() {
            if !(self.lose)(&frame) {
                self.on_way.push_back((now + self.delay, frame));
            }
        }
        let mut delivered = false;
        while self.on_way.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, frame)) = self.on_way.pop_front() {
                // A frame that finds the ring full is lost, as it would be.
                delivered |= self.sim.deliver(&frame);
            }
        }
        if delivered {
            return SimEvent::Wake(now + WIRE_NS);
        }
        let next = self.iface.poll_at(stack_time(now), &self.sockets);
        let next = next.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        let arrives = self.on_way.front().map_or(u64::MAX, |(at, _)| *at);
        // At least a microsecond on; and the script gets its turn every few seconds, whatever happens.
        SimEvent::Nothing(next.min(arrives).min(deadline).min(now + 5_000_000_000).max(now + 1000))
    }
}

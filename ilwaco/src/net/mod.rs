//! The network: `TcpListener`, `TcpStream` and `UdpSocket` that read like those of `std::net`.
//!
//! Each file uses those below it. At the bottom is what is on the wire (`frame`, `checksum`, `classify`, `options`, `extension`), then
//! the NIC and the link layer (`device`, `routers`, `link`, `discovery`, `wire`), what is known of a connection (`losses`, `track`, `connection`,
//! `flight`, `bulk`, `place`) and of all that has none (`cookie`, `ended`, `paths`, `fragments`). `stack` holds all of that; what it does
//! lies above it (`places`, `receiving`, `handshake`, `late`, `sending`, `bulk_sending`, `probes`, `ipv6_address`, `lease`), and at the top is
//! what programs use (`tcp`, `tcp_listener`, `udp`, `names`).

mod alive;
mod answer;
mod autoconf;
mod bounded;
mod buffers;
mod bulk;
mod bulk_sending;
mod capacity;
mod checksum;
mod classify;
mod config;
mod congestion;
mod connection;
mod content;
mod cookie;
#[allow(unsafe_code)]
mod device;
mod dhcp;
mod discovery;
mod ended;
mod extension;
mod flight;
mod fragments;
mod frame;
mod handshake;
mod headers;
mod ipv6_address;
mod late;
mod lease;
mod link;
mod listener;
mod losses;
mod names;
mod options;
mod paths;
mod place;
mod places;
mod probes;
mod questions;
mod receiving;
mod room;
mod routers;
mod sending;
mod servers;
mod stack;
mod stack_late;
mod stack_time;
mod tcp;
mod tcp_listener;
#[cfg(test)]
mod tests;
mod track;
mod udp;
mod waiting;
mod wire;

pub use buffers::{CONNECTION_BYTES, RECEIVE_BYTES, SEND_BYTES};
pub use capacity::{MAX_CLOSING, MAX_CONNECTIONS, PROMISED_BYTES};
pub(crate) use capacity::{secures_bytes, secures_promised};
pub use content::{Repeated, Summed, block_sums};
pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
pub use device::{link_up, nic_counters};
pub use names::lookup;
pub use tcp::{Reading, TcpStream, Writing};
pub use tcp_listener::TcpListener;
pub use udp::UdpSocket;

use crate::args::Args;
use crate::cell::global;
use crate::time::Instant;
use alloc::vec::Vec;
use config::Ipv4Config;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;
pub(crate) use receiving::Received;
use smoltcp::wire::Ipv4Cidr;
use stack::Stack;

global! {
    static STACK: RefCell<Option<Stack>> = RefCell::new(None);
}

/// Why something with the network did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// This VM has no NIC, or no usable configuration.
    NoNetwork,
    /// The port is in use.
    AddrInUse,
    /// The arguments make no sense.
    InvalidInput,
    /// There are as many connections as this VM can carry.
    TooMany,
    /// There is no way to that address.
    Unreachable,
    /// The peer does not accept the connection.
    ConnectionRefused,
    /// The connection broke.
    ConnectionReset,
    /// There is no connection.
    NotConnected,
    /// The peer did not answer in time.
    TimedOut,
    /// Nobody is known who could be asked for a name.
    NoNameServer,
    /// There is no such name, or it has no address.
    NoSuchName,
    /// There is no memory for that now.
    NoMemory,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Error::NoNetwork => "this VM has no network",
            Error::AddrInUse => "the port is in use",
            Error::InvalidInput => "the arguments make no sense",
            Error::TooMany => "too many connections",
            Error::Unreachable => "no way to that address",
            Error::ConnectionRefused => "the peer does not accept the connection",
            Error::ConnectionReset => "the connection broke",
            Error::NotConnected => "there is no connection",
            Error::TimedOut => "the peer did not answer in time",
            Error::NoNameServer => "no name server is known: the argument dns=, DHCP or a router names some",
            Error::NoSuchName => "no such name, or none with an address",
            Error::NoMemory => "no memory for that now",
        })
    }
}

/// What the stack has counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Frames that were of no use: damaged, cut short, pieces of what cannot be, not IP.
    pub refused_frames: u64,
    /// Datagrams that arrived in pieces.
    pub assembled_datagrams: u64,
    /// Times that a connection got no answer because there was no room, so that its peer tries again.
    pub refused_connections: u64,
    /// Segments that would have completed a handshake, but none that is known, or one that took too long.
    pub forgotten_handshakes: u64,
    /// Idle connections that were ended to make room for others.
    pub dismissed_connections: u64,
}

/// Calls `f` with the stack.
fn with<R>(f: impl FnOnce(&mut Stack) -> Result<R, Error>) -> Result<R, Error> {
    STACK.with(|stack| f(stack.borrow_mut().as_mut().ok_or(Error::NoNetwork)?))
}

/// Starts the network as the boot arguments say. Without a NIC there is none; wrong arguments are reported on the console.
pub(crate) fn start(args: &Args) {
    if !crate::registers::has_nic() {
        return;
    }
    let stack = Stack::new(Instant::now());
    if stack.is_none() {
        log::error!("the NIC page makes no sense; going on without a network");
    }
    STACK.with(|place| place.replace(stack));
    configure(args);
}

/// Becomes whoever the NIC page and the boot arguments say now: nothing of what was is left but the ports that somebody
/// listens at, and streams that have come to their end.
pub(crate) fn change(args: &Args) {
    let changed = with(|stack| Ok(stack.change(Instant::now())));
    match changed {
        Ok(true) => configure(args),
        Ok(false) => log::error!("the NIC page makes no sense any more; going on without an address"),
        // There was no network before.
        Err(_) => {}
    }
}

/// Comes by an IPv4 address as the boot arguments say.
fn configure(args: &Args) {
    let config = Ipv4Config::from_args(args);
    if !matches!(config, Ok(Ipv4Config::Dhcp)) {
        lease::stop();
    }
    match config {
        Ok(Ipv4Config::None) => {}
        Ok(Ipv4Config::Dhcp) => lease::start(),
        Ok(Ipv4Config::Static { address, prefix, gateway }) => {
            set_ipv4(Some(Ipv4Cidr::new(address, prefix)), gateway);
        }
        Err(error) => log::error!("{error}"),
    }
    let servers = config::name_servers(args).unwrap_or_else(|error| {
        log::error!("{error}");
        Vec::new()
    });
    let wants_ipv6 = config::wants_ipv6(args).unwrap_or_else(|error| {
        log::error!("{error}");
        false
    });
    let _ = with(|stack| {
        stack.set_autoconf(wants_ipv6);
        stack.give_name_servers(servers);
        stack.say_listens();
        Ok(())
    });
}

/// Takes an IPv4 address and a gateway, or gives them up.
fn set_ipv4(address: Option<Ipv4Cidr>, gateway: Option<Ipv4Addr>) {
    let _ = with(|stack| {
        stack.set_ipv4(address, gateway);
        Ok(())
    });
}

/// The IPv4 address of this VM, once it has one.
pub fn ipv4_addr() -> Option<Ipv4Addr> {
    with(|stack| Ok(stack.iface.ipv4_addr())).ok()?
}

/// The IPv6 link-local address of this VM.
pub fn ipv6_addr() -> Option<Ipv6Addr> {
    with(|stack| Ok(Ipv6Addr::from_bits(stack.link.own.v6()))).ok()
}

/// The IPv6 address of this VM that is good beyond its link, while it has one: with the boot argument `ip6=auto`, where a router says
/// how they begin.
pub fn global_ipv6_addr() -> Option<Ipv6Addr> {
    let address = with(|stack| Ok(stack.link.own.global())).ok()?;
    (address != 0).then(|| Ipv6Addr::from_bits(address))
}

/// Waits until this VM has an IPv4 address, and returns it. One task at a time can wait.
///
/// # Errors
/// [`Error::NoNetwork`] without a NIC.
pub async fn up() -> Result<Ipv4Addr, Error> {
    poll_fn(|cx| {
        let address = with(|stack| {
            let address = stack.iface.ipv4_addr();
            if address.is_none() {
                stack.up_waker = Some(cx.waker().clone());
            }
            Ok(address)
        });
        address.transpose().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// What the stack has counted.
pub fn net_counters() -> NetCounters {
    with(|stack| Ok(stack.counters)).unwrap_or_default()
}

/// How many TCP connections there are: those that this VM has asked for and that are not answered yet, and all others. Of
/// handshakes that a peer has begun nothing is kept before they are complete.
pub fn connections() -> (usize, usize) {
    with(|stack| Ok(stack.population())).unwrap_or_default()
}

/// Takes in received frames.
#[inline]
pub(crate) fn receive(now: Instant) -> Received {
    with(|stack| Ok(stack.receive(now))).unwrap_or(Received::Nothing)
}

/// Sends what is to be sent. When the network has something to do next, in nanoseconds; `u64::MAX` for never.
#[inline]
pub(crate) fn send(now: Instant) -> u64 {
    with(|stack| Ok(stack.send(now))).map_or(u64::MAX, |us| us.saturating_mul(1000))
}

/// Sends what can be sent at once, at the end of the program.
pub(crate) fn flush() {
    send(Instant::now());
}

/// Asks for interrupts. False when there is something to do already.
#[inline]
pub(crate) fn prepare_idle() -> bool {
    with(|stack| Ok(stack.prepare_idle())).unwrap_or(true)
}

/// Withdraws what [`prepare_idle`] asked for.
#[inline]
pub(crate) fn awake() {
    let _ = with(|stack| {
        stack.awake();
        Ok(())
    });
}

/// As if the program started anew.
#[cfg(not(target_os = "none"))]
pub(crate) fn forget_all() {
    STACK.with(|stack| stack.take());
}

/// Gives memory that is not in use back to the heap. False when there is some that will not be in use much longer.
pub(crate) fn shrink() -> bool {
    with(|stack| Ok(stack.shrink())).unwrap_or(true)
}

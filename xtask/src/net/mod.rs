//! The user-mode network between a machine and the host: no privileges, forwarded TCP and UDP ports of the VMs, DHCP, names, and
//! the host's loopback interface behind the gateway's address.
//!
//! Bochs' own slirp takes five forwarded ports at most and stalls with many connections. So the machine's NIC is plugged
//! into a VDE switch that xtask plays ([`switch`]), behind which sits a host with a TCP/IP stack ([`host`]): 10.0.2.2. It accepts
//! connections on the host's loopback interface ([`inbound`]) and makes them again into the machine, as many at once as a guest
//! has room for ([`capacity`]); those that a guest opens to 10.0.2.2 it makes again to the loopback interface, and those to others
//! where they lead ([`outbound`], [`outside`]). [`links`] has all of them, and [`relay`] moves their bytes. Datagrams go from the loopback interface into the
//! machine and back ([`datagrams`]), and from guests to whoever is outside and back ([`flows`]). [`servers`] has what the host itself serves.

mod capacity;
mod clock;
mod datagrams;
pub mod dhcp;
mod flows;
mod host;
mod inbound;
mod links;
mod names;
mod outbound;
mod outside;
mod parcel;
mod relay;
mod resolver;
mod servers;
mod switch;
#[cfg(test)]
mod tests;
mod wire;

pub use outside::Outside;

use crate::error::{Context, Result};
use crate::machine::Forward;
use crate::manifest::model::Protocol;
use mio::net::{TcpListener, UdpSocket};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// The host's address in the machine's network: gateway, DHCP server and name server.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Bits of the network's prefix.
pub const PREFIX: u8 = 24;
/// The same on a tap, where there are more VMs.
pub const TAP_PREFIX: u8 = 16;
/// The host's MAC there.
pub const HOST_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];
/// The first VM's address; the others follow.
pub const FIRST_VM: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);

/// Bytes that may wait in the socket of a forwarded UDP port, with the system's overhead for each datagram.
const UDP_BUFFER: usize = 1 << 20;

/// Counts the networks of this process, so that each has a folder of its own for its sockets.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Whoever wants to see the frames that the machine sends.
type Watcher = Arc<Mutex<Option<Sender<Vec<u8>>>>>;

/// A running network. Dropping it ends it.
pub struct UserNet {
    addresses: Vec<SocketAddr>,
    /// For each of them: its guest has taken a connection.
    taken: Vec<Arc<AtomicBool>>,
    inject: Sender<Vec<u8>>,
    watcher: Watcher,
    stop: Arc<AtomicBool>,
    waker: Arc<mio::Waker>,
    thread: Option<std::thread::JoinHandle<()>>,
    sockets: PathBuf,
}

impl UserNet {
    /// Starts the network. `link` becomes a symbolic link to the folder with the switch's sockets: the names of sockets must
    /// be short, and the repository may lie anywhere. `outside`: where guests get to.
    pub fn start(forwards: &[Forward], outside: Outside, link: &Path) -> Result<UserNet> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let sockets = std::env::temp_dir().join(format!("foraker-{}-{number}", std::process::id()));
        // Left over from a process of the same number that was killed.
        let _ = std::fs::remove_dir_all(&sockets);
        std::fs::create_dir(&sockets).context(|| format!("cannot create {}", sockets.display()))?;
        let _ = std::fs::remove_file(link);
        std::os::unix::fs::symlink(&sockets, link).context(|| format!("cannot create {}", link.display()))?;
        let (mut ports, mut datagrams, mut addresses, mut taken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for forward in forwards {
            let flag = Arc::new(AtomicBool::new(false));
            let address = match forward.port.protocol {
                Protocol::Tcp => {
                    let listener = bind(forward, TcpListener::bind)?;
                    let address = listener.local_addr();
                    ports.push(inbound::Port::new(listener, *forward, flag.clone()));
                    address
                }
                Protocol::Udp => {
                    let socket = bind(forward, UdpSocket::bind)?;
                    // A burst waits there. The system may allow less, which is no reason to fail.
                    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER);
                    let address = socket.local_addr();
                    datagrams.push((socket, *forward));
                    address
                }
            };
            addresses.push(address.context(|| format!("cannot see where port {} is forwarded", forward.port))?);
            taken.push(flag);
        }
        let datagrams = datagrams::Datagrams::new(datagrams);
        let switch = switch::Switch::start(&sockets, &link.file_name().unwrap_or_default().to_string_lossy())?;
        let (inject, injected) = channel();
        let watcher = Watcher::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, watching) = (stop.clone(), watcher.clone());
        let what = || "cannot watch the user-mode network's sockets".into();
        let poll = mio::Poll::new().context(what)?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), host::WAKER).context(what)?);
        let registry = poll.registry().try_clone().context(what)?;
        let (forwarded, waking) = ((ports, datagrams), waker.clone());
        let host = host::Host::new(switch, forwarded, injected, (watching, outside), registry, waking).context(what)?;
        let thread = std::thread::spawn(move || host.serve(poll, &stopped));
        Ok(UserNet { addresses, taken, inject, watcher, stop, waker, thread: Some(thread), sockets })
    }

    /// Where on the host the forwarded ports are, in the order of the forwards.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// True when the guest behind the TCP port at `address` has taken a connection. To connect tells nothing: the host does that.
    pub fn has_taken(&self, address: SocketAddr) -> bool {
        let taken = self.addresses.iter().zip(&self.taken).find(|(other, _)| **other == address);
        taken.is_some_and(|(_, taken)| taken.load(Ordering::Relaxed))
    }

    /// Sends a raw Ethernet frame (without checksum) to the machine, whatever it holds.
    pub fn inject(&self, frame: &[u8]) {
        // The thread only ends with us.
        let _ = self.inject.send(frame.to_vec());
        // An event that cannot be sent means that it looks a little later.
        let _ = self.waker.wake();
    }

    /// From now on every frame that the machine sends arrives at the receiver, too. The last caller is served.
    pub fn watch(&self) -> Receiver<Vec<u8>> {
        let (sender, receiver) = channel();
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }
}

impl Drop for UserNet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It has no way to panic that we could handle here.
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

/// A socket on the loopback interface, at the port that `forward` prefers or, when that is taken, at a free one.
fn bind<S>(forward: &Forward, socket: fn(SocketAddr) -> std::io::Result<S>) -> Result<S> {
    let at = |port| socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    at(forward.host_port)
        .or_else(|_| at(0))
        .context(|| format!("cannot open a port of 127.0.0.1 for {} port {}", forward.guest, forward.port))
}

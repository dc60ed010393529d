//! A guest that is played here: its cable, plugged in as QEMU is, its stack, and the network that it is on.

use crate::machine::{Forward, vm_mac};
use crate::net::{FIRST_VM, HOST, Outside, UserNet};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, IpCidr};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The guest's cable.
pub struct Cable {
    socket: UnixDatagram,
    switch: PathBuf,
    /// It loses openings of TCP connections.
    pub deaf: bool,
}

pub struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Out<'a>(&'a Cable);

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        // As QEMU does, it waits for room.
        while self.0.socket.send_to(&frame, &self.0.switch).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            std::thread::sleep(Duration::from_micros(50));
        }
        result
    }
}

impl Device for Cable {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: StackTime) -> Option<(Frame, Out<'_>)> {
        loop {
            let mut frame = vec![0; 2048];
            let len = self.socket.recv(&mut frame).ok()?;
            frame.truncate(len);
            // TCP without options in IP, and of its flags SYN only.
            let opening = len > 47 && frame[12..14] == [8, 0] && frame[23] == 6 && frame[47] == 2;
            if !(self.deaf && opening) {
                return Some((Frame(frame), Out(self)));
            }
        }
    }

    fn transmit(&mut self, _: StackTime) -> Option<Out<'_>> {
        Some(Out(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// The guest: the first VM.
pub struct Guest {
    pub cable: Cable,
    pub iface: Interface,
    pub sockets: SocketSet<'static>,
    started: Instant,
}

impl Guest {
    /// Plugged into the network that `folder` is for.
    fn new(folder: &Path) -> Guest {
        let socket = UnixDatagram::bind(folder.join("machine")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut cable = Cable { socket, switch: folder.join("data"), deaf: false };
        let address = EthernetAddress(vm_mac(0));
        let mut iface = Interface::new(Config::new(address.into()), &mut cable, StackTime::ZERO);
        iface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(FIRST_VM.into(), 24)).unwrap());
        iface.routes_mut().add_default_ipv4_route(HOST).unwrap();
        Guest { cable, iface, sockets: SocketSet::new(Vec::new()), started: Instant::now() }
    }

    /// The stack's time.
    pub fn now(&self) -> StackTime {
        StackTime::from_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap())
    }
}

/// An address outside for which the loopback interface stands.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

/// A network with a guest on it, which a thread plays.
pub struct Stage<T> {
    pub net: UserNet,
    stop: Arc<AtomicBool>,
    guest: Option<JoinHandle<T>>,
    link: PathBuf,
}

impl<T: Send + 'static> Stage<T> {
    /// `play` plays the guest until the flag is set.
    pub fn start(forwards: &[Forward], play: impl FnOnce(Guest, &AtomicBool) -> T + Send + 'static) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let link = std::env::temp_dir().join(format!("foraker-net-test-{}-{number}", std::process::id()));
        let net = UserNet::start(forwards, Outside::Stand(FAR), &link).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (link.clone(), stop.clone());
        let guest = std::thread::spawn(move || play(Guest::new(&folder), &stopped));
        Stage { net, stop, guest: Some(guest), link }
    }

    /// Stops the guest. What its play returned.
    pub fn end(mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.guest.take().unwrap().join().unwrap()
    }

    /// What the guest's play returns of itself, within ten seconds.
    pub fn outcome(mut self) -> T {
        let guest = self.guest.take().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while !guest.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(guest.is_finished(), "the guest goes on and on");
        guest.join().unwrap()
    }
}

impl<T> Drop for Stage<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(guest) = self.guest.take() {
            let outcome = guest.join();
            // Its panic fails the test, which may have failed already.
            assert!(outcome.is_ok() || std::thread::panicking(), "the guest panicked");
        }
        let _ = std::fs::remove_file(&self.link);
    }
}

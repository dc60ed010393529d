//! Datagrams between clients on the loopback interface and a guest that sends them back.

use super::{Cable, PATIENCE};
use crate::machine::{Forward, vm_mac};
use crate::manifest::model::{Port, Protocol};
use crate::net::{FIRST_VM, HOST, UserNet};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time for what is not to come.
const SILENCE: Duration = Duration::from_millis(300);
const ECHO: Port = Port { protocol: Protocol::Udp, number: 7 };

fn new_socket(port: u16) -> Socket<'static> {
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 64], vec![0; 64 * 1472]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(port).unwrap();
    socket
}

/// Plays the guest until `stop` is set: what comes to port 7 goes back where it came from, from port 8 when it begins with `8`,
/// and twice when it begins with `2`. The source ports that were seen, each once.
fn echo(folder: PathBuf, stop: &AtomicBool) -> Vec<u16> {
    let socket = UnixDatagram::bind(folder.join("machine")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut cable = Cable { socket, switch: folder.join("data"), deaf: false };
    let started = Instant::now();
    let now = || StackTime::from_micros(i64::try_from(started.elapsed().as_micros()).unwrap());
    let mut iface = Interface::new(Config::new(EthernetAddress(vm_mac(0)).into()), &mut cable, now());
    iface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(FIRST_VM.into(), 24)).unwrap());
    let mut sockets = SocketSet::new(Vec::new());
    let (seventh, eighth) = (sockets.add(new_socket(7)), sockets.add(new_socket(8)));
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        iface.poll(now(), &mut cable, &mut sockets);
        while let Ok((payload, from)) = sockets.get_mut::<Socket>(seventh).recv() {
            let IpEndpoint { addr, port } = from.endpoint;
            assert_eq!(addr, HOST.into());
            if !seen.contains(&port) {
                seen.push(port);
            }
            let payload = payload.to_vec();
            let from = if payload.first() == Some(&b'8') { eighth } else { seventh };
            for _ in 0..if payload.first() == Some(&b'2') { 2 } else { 1 } {
                sockets.get_mut::<Socket>(from).send_slice(&payload, (addr, port)).unwrap();
            }
        }
        iface.poll(now(), &mut cable, &mut sockets);
        std::thread::sleep(Duration::from_micros(100));
    }
    seen
}

/// A network with two forwarded ports: 7, where the guest is, and 9, where nobody is.
struct Stage {
    net: UserNet,
    stop: Arc<AtomicBool>,
    guest: JoinHandle<Vec<u16>>,
    link: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let link = std::env::temp_dir().join(format!("foraker-udp-test-{}-{number}", std::process::id()));
        let nobody = Port { protocol: Protocol::Udp, number: 9 };
        let forward = |port| Forward { guest: FIRST_VM, port, host_port: 0 };
        let net = UserNet::start(&[forward(ECHO), forward(nobody), forward(Port::tcp(7))], &link).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (link.clone(), stop.clone());
        let guest = std::thread::spawn(move || echo(folder, &stopped));
        Stage { net, stop, guest, link }
    }

    /// A client of the forwarded port `index`.
    fn client(&self, index: usize) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.net.addresses()[index]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Ends it. The source ports that the guest saw.
    fn end(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.guest.join().unwrap();
        let _ = std::fs::remove_file(&self.link);
        seen
    }
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    let count = client.recv(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

fn must_get_nothing(client: &UdpSocket) {
    client.set_read_timeout(Some(SILENCE)).unwrap();
    let mut bytes = [0; 16];
    assert!(client.recv(&mut bytes).is_err(), "something came");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn datagrams_come_back_as_they_were() {
    let stage = Stage::new();
    let client = stage.client(0);
    for text in [&b"hello"[..], b"", &[7; 1472]] {
        client.send(text).unwrap();
        assert_eq!(receive(&client), text);
    }
    client.send(&[7; 1473]).unwrap();
    client.send(b"2 of these").unwrap();
    assert_eq!(receive(&client), b"2 of these", "what fits no frame is lost");
    assert_eq!(receive(&client), b"2 of these");
    must_get_nothing(&client);
    assert_eq!(stage.end().len(), 1, "one client, one source port");
}

#[test]
fn each_client_gets_its_own() {
    let stage = Stage::new();
    let clients: Vec<UdpSocket> = (0..100).map(|_| stage.client(0)).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(format!("from {n}").as_bytes()).unwrap();
    }
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(receive(client), format!("from {n}").as_bytes());
    }
    assert_eq!(stage.end().len(), 100);
}

#[test]
fn what_comes_from_another_port_reaches_nobody() {
    let stage = Stage::new();
    let client = stage.client(0);
    client.send(b"8").unwrap();
    client.send(b"7").unwrap();
    assert_eq!(receive(&client), b"7");
    must_get_nothing(&client);
    stage.end();
}

#[test]
fn where_nobody_listens_nothing_comes_back_and_the_others_go_on() {
    let stage = Stage::new();
    let (nowhere, client) = (stage.client(1), stage.client(0));
    for _ in 0..100 {
        // The loopback interface may say that a former one was not taken.
        let _ = nowhere.send(b"anybody?");
    }
    client.send(b"hello").unwrap();
    assert_eq!(receive(&client), b"hello");
    must_get_nothing(&nowhere);
    stage.end();
}

#[test]
fn a_tcp_port_where_nobody_listens_has_taken_no_connection() {
    let stage = Stage::new();
    let address = stage.net.addresses()[2];
    let _stream = std::net::TcpStream::connect(address).unwrap();
    std::thread::sleep(SILENCE);
    assert!(!stage.net.has_taken(address));
    stage.end();
}

#[test]
fn a_burst_waits_for_its_turn() {
    let stage = Stage::new();
    let client = stage.client(0);
    let datagram = |n: u8| [&[b'x', n], &[0; 1000][..]].concat();
    for n in 0..100 {
        client.send(&datagram(n)).unwrap();
    }
    for n in 0..100 {
        assert!(receive(&client) == datagram(n), "the one after {n} others");
    }
    stage.end();
}

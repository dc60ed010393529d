//! Datagrams between clients on the loopback interface and a guest that sends them back.

use super::PATIENCE;
use super::guest::{self, Guest};
use crate::machine::Forward;
use crate::manifest::model::{Port, Protocol};
use crate::net::{FIRST_VM, HOST};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::IpEndpoint;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time for what is not to come.
const SILENCE: Duration = Duration::from_millis(300);
const ECHO: Port = Port { protocol: Protocol::Udp, number: 7 };

fn new_socket(port: u16) -> Socket<'static> {
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 64], vec![0; 64 * 1472]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(port).unwrap();
    socket
}

/// What the guest's play returns: the source ports that were seen, each once.
type Stage = guest::Stage<Vec<u16>>;

/// Plays the guest until `stop` is set: what comes to port 7 goes back where it came from, from port 8 when it begins with `8`,
/// and twice when it begins with `2`.
fn echo(mut guest: Guest, stop: &AtomicBool) -> Vec<u16> {
    let sockets = &mut guest.sockets;
    let (seventh, eighth) = (sockets.add(new_socket(7)), sockets.add(new_socket(8)));
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = guest.now();
        let Guest { cable, iface, sockets, .. } = &mut guest;
        iface.poll(now, cable, sockets);
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
        iface.poll(now, cable, sockets);
        std::thread::sleep(Duration::from_micros(100));
    }
    seen
}

/// A network with two forwarded UDP ports: 7, where the guest is, and 9, where nobody is; and a TCP port.
fn stage() -> Stage {
    let nobody = Port { protocol: Protocol::Udp, number: 9 };
    let forward = |port| Forward { guest: FIRST_VM, port, host_port: 0 };
    Stage::start(&[forward(ECHO), forward(nobody), forward(Port::tcp(7))], echo)
}

/// A client of the forwarded port `index`.
fn client(stage: &Stage, index: usize) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(stage.net.addresses()[index]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
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
    let stage = stage();
    let client = client(&stage, 0);
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
    let stage = stage();
    let clients: Vec<UdpSocket> = (0..100).map(|_| client(&stage, 0)).collect();
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
    let stage = stage();
    let client = client(&stage, 0);
    client.send(b"8").unwrap();
    client.send(b"7").unwrap();
    assert_eq!(receive(&client), b"7");
    must_get_nothing(&client);
    stage.end();
}

#[test]
fn where_nobody_listens_nothing_comes_back_and_the_others_go_on() {
    let stage = stage();
    let (nowhere, client) = (client(&stage, 1), client(&stage, 0));
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
    let stage = stage();
    let address = stage.net.addresses()[2];
    let _stream = std::net::TcpStream::connect(address).unwrap();
    std::thread::sleep(SILENCE);
    assert!(!stage.net.has_taken(address));
    stage.end();
}

#[test]
fn a_burst_waits_for_its_turn() {
    let stage = stage();
    let client = client(&stage, 0);
    let datagram = |n: u8| [&[b'x', n], &[0; 1000][..]].concat();
    for n in 0..100 {
        client.send(&datagram(n)).unwrap();
    }
    for n in 0..100 {
        assert!(receive(&client) == datagram(n), "the one after {n} others");
    }
    stage.end();
}

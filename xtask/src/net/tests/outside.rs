//! A guest that sends datagrams to whoever is outside.

use super::PATIENCE;
use super::guest::{FAR, Guest, Stage};
use smoltcp::socket::icmp;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const OWN_PORT: u16 = 50_000;

/// What the guest gets.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    /// A datagram, from whom it was sent to.
    Datagram(Vec<u8>),
    /// A message of this code that something was unreachable, and from whom.
    Unreachable(u8, Ipv4Addr),
}

/// Sends `payload` to an address and port, again and again, until it gets something or `stop` is set.
fn call(to: Ipv4Addr, port: u16, payload: &[u8], mut guest: Guest, stop: &AtomicBool) -> Option<Got> {
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(OWN_PORT).unwrap();
    let datagrams = guest.sockets.add(socket);
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Udp(OWN_PORT.into())).unwrap();
    let messages = guest.sockets.add(socket);
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = guest.now();
        let Guest { cable, iface, sockets, .. } = &mut guest;
        if turn % 1000 == 0 {
            sockets.get_mut::<Socket>(datagrams).send_slice(payload, (to, port)).unwrap();
        }
        turn += 1;
        iface.poll(now, cable, sockets);
        if let Ok((bytes, from)) = sockets.get_mut::<Socket>(datagrams).recv() {
            assert_eq!((from.endpoint.addr, from.endpoint.port), (to.into(), port));
            return Some(Got::Datagram(bytes.to_vec()));
        }
        if let Ok((message, smoltcp::wire::IpAddress::Ipv4(from))) = sockets.get_mut::<icmp::Socket>(messages).recv() {
            assert_eq!(message[0], 3);
            return Some(Got::Unreachable(message[1], from));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    None
}

/// What a guest gets that sends this.
fn got(to: Ipv4Addr, port: u16, payload: &'static [u8]) -> Option<Got> {
    Stage::start(&[], move |guest, stop| call(to, port, payload, guest, stop)).outcome()
}

/// A server that answers the first datagram with these.
fn server(answers: &'static [&'static [u8]]) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let serve = move || {
        let mut bytes = vec![0; 2048];
        let (count, from) = socket.recv_from(&mut bytes).unwrap();
        bytes.truncate(count);
        for answer in answers {
            socket.send_to(answer, from).unwrap();
        }
        bytes
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn datagrams_go_out_and_answers_come_back() {
    let (port, asked) = server(&[b"hello yourself"]);
    assert_eq!(got(FAR, port, b"hello"), Some(Got::Datagram(b"hello yourself".to_vec())));
    assert_eq!(asked.join().unwrap(), b"hello");
}

#[test]
fn what_fits_no_frame_is_lost_and_the_next_one_comes() {
    let (port, asked) = server(&[&[7; 1473], &[8; 1472]]);
    assert_eq!(got(FAR, port, &[9; 1472]), Some(Got::Datagram(vec![8; 1472])));
    assert_eq!(asked.join().unwrap(), [9; 1472]);
}

#[test]
fn nobody_elses_answers_come_in() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let serve = std::thread::spawn(move || {
        let mut bytes = [0; 16];
        let (_, from) = socket.recv_from(&mut bytes).unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The loopback interface may say that it was not taken.
        let _ = other.send_to(b"from another", from);
        socket.send_to(b"from whom was asked", from).unwrap();
    });
    assert_eq!(got(FAR, port, b"hello"), Some(Got::Datagram(b"from whom was asked".to_vec())));
    serve.join().unwrap();
}

#[test]
fn the_guest_is_told_where_it_does_not_get() {
    // Nobody has it: a socket that is gone.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(got(FAR, port, b"hello"), Some(Got::Unreachable(3, FAR)));
    assert_eq!(got(Ipv4Addr::new(192, 0, 2, 1), 53, b"hello"), Some(Got::Unreachable(13, crate::net::HOST)));
}

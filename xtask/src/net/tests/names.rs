//! A guest that asks for names.

use super::guest::{FAR, Guest, Stage};
use crate::net::HOST;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The question for a name.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        bytes.push(label.len().try_into().unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend(b"\x00\x00\x01\x00\x01");
    bytes
}

/// Asks again and again for the address of `name`, until `stop` is set or it is told.
fn ask(name: &str, mut guest: Guest, stop: &AtomicBool) -> Option<Vec<u8>> {
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 4], vec![0; 2048]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(50_000).unwrap();
    let handle = guest.sockets.add(socket);
    let query = query(name);
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = guest.now();
        let Guest { cable, iface, sockets, .. } = &mut guest;
        if turn % 1000 == 0 {
            sockets.get_mut::<Socket>(handle).send_slice(&query, (HOST, 53)).unwrap();
        }
        turn += 1;
        iface.poll(now, cable, sockets);
        if let Ok((answer, from)) = sockets.get_mut::<Socket>(handle).recv() {
            assert_eq!((from.endpoint.addr, from.endpoint.port), (HOST.into(), 53));
            return Some(answer.to_vec());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    None
}

#[test]
fn a_guest_is_told_the_hosts_address() {
    let answer = Stage::start(&[], |guest, stop| ask("host.foraker.internal", guest, stop)).outcome().unwrap();
    assert_eq!(answer[answer.len() - 4..], HOST.octets());
}

#[test]
fn a_guest_is_told_of_who_is_outside() {
    let answer = Stage::start(&[], |guest, stop| ask("www.example", guest, stop)).outcome().unwrap();
    assert_eq!((answer[3], &answer[answer.len() - 4..]), (0x80, &FAR.octets()[..]));
}

//! The service as a host on its network sees it.

use ilwaco::block_on;
use ilwaco::sim::smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use ilwaco::sim::smoltcp::wire::Ipv4Address;
use ilwaco::sim::{self, GUEST, PEER, Sim, World};
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, sleep};
use std::cell::RefCell;
use std::rc::Rc;

/// What comes back when these datagrams are sent from this port.
fn answers(port: u16, datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut world = World::new("ip=10.0.2.16/24 gw=10.0.2.2");
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 8], vec![0; 8192]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(port).expect("free");
    let handle = world.sockets().add(socket);
    let got = Rc::new(RefCell::new(Vec::new()));
    let results = got.clone();
    let mut left = datagrams.into_iter();
    world.script(move |sockets, _, _| {
        let socket = sockets.get_mut::<Socket>(handle);
        while let Ok((bytes, _)) = socket.recv() {
            results.borrow_mut().push(bytes.to_vec());
        }
        if socket.can_send()
            && let Some(bytes) = left.next()
        {
            socket.send_slice(&bytes, (Ipv4Address::from(GUEST), udp_echo::PORT)).expect("room");
        }
    });
    world.run();
    let clock = async {
        for _ in 0..50 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(matches!(block_on(race(udp_echo::serve(), clock)), Either::Right(())));
    got.take()
}

#[test]
fn datagrams_come_back_as_they_were() {
    let sent = vec![b"hello".to_vec(), Vec::new(), vec![7; 1472], b"again".to_vec()];
    assert_eq!(answers(5000, sent.clone()), sent);
}

#[test]
fn services_are_not_answered() {
    assert_eq!(answers(udp_echo::PORT, vec![b"hello".to_vec()]), Vec::<Vec<u8>>::new(), "or two would never stop");
}

const PEER_MAC: [u8; 6] = [2, 1, 0, 0, 0, 9];
/// That of the simulated machine.
const GUEST_MAC: [u8; 6] = [2, 0x46, 0x4b, 0, 0, 0];

/// A question of the peer for the guest's hardware address, by which the guest knows the peer's.
fn question() -> Vec<u8> {
    let ends = [&PEER_MAC[..], &PEER, &[0; 6], &GUEST].concat();
    [&[0xff; 6][..], &PEER_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &ends].concat()
}

/// A piece of an IPv4 packet with a UDP datagram (RFC 791, 3.1), from byte `at` on, which is a multiple of 8.
fn piece(datagram: &[u8], at: usize) -> Vec<u8> {
    const MOST: usize = 1480;
    let bytes = &datagram[at..datagram.len().min(at + MOST)];
    let half = |number: usize| u16::try_from(number).expect("short").to_be_bytes();
    let more = if at + MOST < datagram.len() { 0x2000 } else { 0 };
    let mut header =
        [&[0x45, 0][..], &half(20 + bytes.len()), &[0, 1], &half((at / 8) | more), &[64, 17, 0, 0], &PEER, &GUEST]
            .concat();
    let sum: u32 = header.as_chunks::<2>().0.iter().map(|half| u32::from(u16::from_be_bytes(*half))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&GUEST_MAC[..], &PEER_MAC, &[8, 0], &header, bytes].concat()
}

#[test]
fn what_cannot_come_back_whole_does_not_come_back() {
    for (len, answered) in [(1472, true), (1473, false), (3000, false)] {
        let mut sim = Sim::new("ip=10.0.2.16/24 gw=10.0.2.2");
        sim::start();
        assert!(sim.deliver(&question()));
        let datagram = [
            &5000_u16.to_be_bytes()[..],
            &[0, 7],
            &u16::try_from(8 + len).expect("short").to_be_bytes(),
            &[0, 0],
            &vec![7; len],
        ]
        .concat();
        for at in (0..datagram.len()).step_by(1480) {
            assert!(sim.deliver(&piece(&datagram, at)));
        }
        let clock = async {
            for _ in 0..50 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(matches!(block_on(race(udp_echo::serve(), clock)), Either::Right(())));
        let sent = std::iter::from_fn(|| sim.collect());
        let answers: Vec<_> = sent.filter(|frame| frame[12..14] == [8, 0]).map(|frame| frame.len()).collect();
        assert_eq!(answers, if answered { vec![14 + 20 + 8 + len] } else { Vec::new() }, "{len}");
    }
}

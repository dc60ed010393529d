//! The service as a host on its network sees it.

use ilwaco::block_on;
use ilwaco::sim::smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use ilwaco::sim::smoltcp::wire::Ipv4Address;
use ilwaco::sim::{GUEST, World};
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

//! The server as its players see it.

use game::world::{SAID, UPDATE};
use ilwaco::block_on;
use ilwaco::sim::smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use ilwaco::sim::smoltcp::wire::Ipv4Address;
use ilwaco::sim::{GUEST, World};
use ilwaco::task::{Either, race};
use ilwaco::time::{Duration, sleep};
use std::cell::RefCell;
use std::rc::Rc;

/// The steps of which a player is told in a second, that says so many bytes before.
fn told(bytes: usize) -> Vec<u32> {
    let mut world = World::new("ip=10.0.2.16/24 gw=10.0.2.2");
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 8], vec![0; 8192]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.bind(27_901).expect("free");
    let handle = world.sockets().add(socket);
    let got = Rc::new(RefCell::new(Vec::new()));
    let (results, mut said) = (got.clone(), false);
    world.script(move |sockets, _, _| {
        let socket = sockets.get_mut::<Socket>(handle);
        while let Ok((bytes, _)) = socket.recv() {
            assert_eq!(bytes.len(), UPDATE);
            results.borrow_mut().push(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
        if socket.can_send() && !std::mem::replace(&mut said, true) {
            socket.send_slice(&vec![0; bytes], (Ipv4Address::from(GUEST), game::PORT)).expect("room");
        }
    });
    world.run();
    let clock = async {
        for _ in 0..1000 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(matches!(block_on(race(game::serve(), clock)), Either::Right(())));
    got.take()
}

#[test]
fn a_player_is_told_ten_times_in_a_second() {
    let told = told(SAID);
    assert!((9..=20).contains(&told.len()), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1), "{told:?}");
}

#[test]
fn who_says_something_else_is_no_player() {
    assert_eq!(told(SAID - 1), []);
    assert_eq!(told(SAID + 1), []);
}

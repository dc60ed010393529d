//! Names, asked for at a server that is played here.

use super::super::*;
use crate::block_on;
use crate::sim::{PEER, Sim, World};
use crate::time::{Duration, Instant};
use smoltcp::iface::SocketSet;
use smoltcp::socket::{tcp, udp};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::format;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const ARGS: &str = "ip=10.0.2.16/24 gw=10.0.2.2 dns=10.0.2.77,10.0.2.2";

/// A record of an answer to the question: its type and data.
type Record = (u16, Vec<u8>);

/// An answer to `query`: a code, and records whose owner is the name that was asked for.
fn answer(query: &[u8], code: u8, records: &[Record]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    message[7] = u8::try_from(records.len()).expect("few");
    for (kind, data) in records {
        let len = u16::try_from(data.len()).expect("short");
        let head = [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 9], &len.to_be_bytes()].concat();
        message.extend([head, data.clone()].concat());
    }
    message
}

fn label(text: &str) -> Vec<u8> {
    let mut name = Vec::new();
    for label in text.split('.') {
        name.push(u8::try_from(label.len()).expect("short"));
        name.extend(label.as_bytes());
    }
    name.push(0);
    name
}

/// What a question asks for.
fn asked(query: &[u8]) -> (Vec<u8>, u16) {
    let (name, rest) = query[12..].split_at(query.len() - 12 - 4);
    (name.to_vec(), u16::from_be_bytes([rest[0], rest[1]]))
}

/// The port and the number of each question that was heard.
type Heard = Rc<RefCell<Vec<(u16, u16)>>>;

/// A world whose other host answers as `reply` says, and what it has heard.
fn world(args: &str, mut reply: impl FnMut(&[u8]) -> Vec<Vec<u8>> + 'static) -> (World, Heard) {
    let mut world = World::new(args);
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 8192]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(53).expect("free");
    let handle = world.sockets().add(socket);
    let stream = world.tcp();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let list = heard.clone();
    world.script(move |sockets: &mut SocketSet<'static>, _, _| {
        let socket = sockets.get_mut::<udp::Socket>(handle);
        while let Ok((query, from)) = socket.recv() {
            let query = query.to_vec();
            list.borrow_mut().push((from.endpoint.port, u16::from_be_bytes([query[0], query[1]])));
            for message in reply(&query) {
                socket.send_slice(&message, from).expect("room");
            }
        }
        let socket = sockets.get_mut::<tcp::Socket>(stream);
        if !socket.is_open() {
            socket.listen(53).expect("closed");
        }
        if socket.recv_queue() > 2 {
            let query = socket.recv(|bytes| (bytes.len(), bytes[2..].to_vec())).expect("open");
            let message = answer(&query, 0, &vec![(1, vec![192, 0, 2, 7]); 60]);
            socket.send_slice(&u16::try_from(message.len()).expect("short").to_be_bytes()).expect("open");
            socket.send_slice(&message).expect("open");
        }
        if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
    });
    (world, heard)
}

#[test]
fn a_name_is_asked_for_where_somebody_answers() {
    let (world, heard) = world(ARGS, |query| match &asked(query) {
        (name, 1) if *name == label("www.example") => vec![answer(query, 0, &[(1, vec![192, 0, 2, 1])])],
        (name, 1) if *name == label("alias.example") => vec![answer(query, 0, &[(5, label("www.example"))])],
        (name, 1) if *name == label("loop.example") => vec![answer(query, 0, &[(5, label("pool.example"))])],
        (name, 1) if *name == label("pool.example") => vec![answer(query, 0, &[(5, label("loop.example"))])],
        (name, 1) if *name == label("empty.example") => vec![answer(query, 0, &[])],
        (name, 1) if *name == label("large.example") => {
            let mut message = answer(query, 0, &[]);
            message[2] |= 2;
            vec![message]
        }
        (name, 1) if *name == label("broken.example") => vec![answer(query, 2, &[])],
        (name, 1) if *name == label("forged.example") => {
            // Somebody who does not know the number, and somebody who does.
            let mut forged = answer(query, 0, &[(1, vec![203, 0, 113, 66])]);
            forged[1] ^= 1;
            vec![forged, answer(query, 0, &[(1, vec![192, 0, 2, 2])])]
        }
        _ => vec![answer(query, 3, &[])],
    });
    world.run();
    block_on(async {
        let v4 = |last| Ok(vec![IpAddr::from([192, 0, 2, last])]);
        // The first server does not exist.
        let start = Instant::now();
        assert_eq!(lookup("www.example").await, v4(1));
        assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&start.elapsed()));
        assert_eq!(lookup("WWW.Example.").await, v4(1));
        assert_eq!(lookup("alias.example").await, v4(1));
        assert_eq!(lookup("forged.example").await, v4(2));
        assert_eq!(lookup("large.example").await, Ok(vec![IpAddr::from([192, 0, 2, 7]); 8]));
        for name in ["empty.example", "nobody.example", "loop.example"] {
            assert_eq!(lookup(name).await, Err(Error::NoSuchName), "{name}");
        }
        assert_eq!(lookup("broken.example").await, Err(Error::TimedOut), "no server had anything to say");
        assert_eq!(lookup("no name").await, Err(Error::InvalidInput));
        assert_eq!(lookup("10.0.2.9").await, Ok(vec![IpAddr::from([10, 0, 2, 9])]));
        assert_eq!(lookup("fe80::9").await.map(|found| found.len()), Ok(1));
    });
    let heard = heard.borrow();
    let (ports, numbers): (BTreeSet<u16>, BTreeSet<u16>) = heard.iter().copied().unzip();
    assert!(heard.len() > 15, "{heard:?}");
    // They are drawn: two alike are possible, and few.
    assert!(ports.len() + 2 > heard.len() && numbers.len() + 2 > heard.len(), "{heard:?}");
    assert!(ports.iter().all(|&port| port >= 1024));
}

#[test]
fn nobody_answers() {
    let (world, heard) = world("ip=10.0.2.16/24 dns=10.0.2.2", |_| Vec::new());
    world.run();
    block_on(async {
        let start = Instant::now();
        assert_eq!(lookup("www.example").await, Err(Error::TimedOut));
        assert_eq!(start.elapsed().as_secs(), 7, "in 1, 2 and 4 s");
        assert_eq!(heard.borrow().len(), 3);
    });
}

#[test]
fn without_a_server_there_are_no_names() {
    let (world, _) = world("ip=10.0.2.16/24", |_| Vec::new());
    world.run();
    block_on(async {
        assert_eq!(lookup("www.example").await, Err(Error::NoNameServer));
        assert_eq!(TcpStream::connect_to("www.example", 80).await.err(), Some(Error::NoNameServer));
    });
}

#[test]
fn a_connection_by_name_takes_the_first_address_that_answers() {
    let peer = PEER;
    let (world, _) = world("ip=10.0.2.16/24 dns=10.0.2.2", move |query| {
        // Nobody is at the first.
        vec![answer(query, 0, &[(1, vec![10, 0, 2, 200]), (1, peer.to_vec())])]
    });
    world.run();
    block_on(async {
        let stream = TcpStream::connect_to("two.example", 53).await.expect("the second");
        assert_eq!(stream.peer_addr(), Some(SocketAddr::from((PEER, 53))));
        let said = format!("{:?}", TcpStream::connect_to("two.example", 54).await.err());
        assert_eq!(said, "Some(ConnectionRefused)");
    });
    assert!(Sim::now() > 10_000_000_000, "the first one has had its time");
}

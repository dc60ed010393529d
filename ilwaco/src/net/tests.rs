//! The stack against another one, over the simulated machine's NIC.

mod black_holes;
mod content;
mod crafted;
mod endings;
mod handshakes;
mod identities;
mod links;
mod memory;
mod names;
mod neighbours;
mod pieces;
mod routers;
mod segments;
mod unwritten;

use super::*;
use crate::block_on;
use crate::sim::{self, GUEST, PEER, Sim, World};
use crate::sync::Notify;
use crate::task::{race, spawn};
use crate::time::{Duration, sleep, timeout};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{IpAddress, IpEndpoint, Ipv4Address};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

const ARGS: &str = "ip=10.0.2.16/24 gw=10.0.2.2";

/// Answers every line with itself and ends at the end.
async fn echo(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        match stream.read_onto(&mut buffer, 4096).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if stream.write_all(&buffer).await.is_err() {
            return;
        }
        buffer.clear();
    }
}

fn serve_echo(port: u16) {
    let listener = TcpListener::bind(port).expect("free");
    spawn(async move {
        while let Ok(stream) = listener.accept().await {
            spawn(echo(stream)).expect("room");
        }
    })
    .expect("room");
}

/// A client that sends `text` and collects what comes back until it has as much.
fn client(
    handle: SocketHandle,
    port: u16,
    local: u16,
    text: String,
) -> impl FnMut(&mut SocketSet<'static>, &mut Interface) -> bool {
    let mut sent = 0;
    let mut received: Vec<u8> = Vec::new();
    let mut started = false;
    move |sockets, iface| {
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        if !started {
            let remote = IpEndpoint::new(IpAddress::from(Ipv4Address::from(GUEST)), port);
            socket.connect(iface.context(), remote, local).expect("closed");
            started = true;
        }
        if socket.can_send() && sent < text.len() {
            sent += socket.send_slice(&text.as_bytes()[sent..]).expect("open");
        }
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).expect("open");
        }
        let done = received.len() == text.len();
        if done {
            assert_eq!(received, text.as_bytes());
            socket.close();
        }
        done
    }
}

#[test]
fn eight_connections_at_once_none_is_lost() {
    let mut world = World::new(ARGS);
    let done = Rc::new(Cell::new(0));
    let mut clients: Vec<_> = (0..8u16)
        .map(|n| {
            let handle = world.tcp();
            client(handle, 7, 40_000 + n, format!("client {n} ").repeat(usize::from(n) * 300 + 1))
        })
        .collect();
    let count = done.clone();
    world.script(move |sockets, iface, _| {
        clients.retain_mut(|client| {
            let done = client(sockets, iface);
            count.set(count.get() + u32::from(done));
            !done
        });
    });
    world.run();
    block_on(async {
        serve_echo(7);
        while done.get() < 8 {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(100)).await;
        assert_eq!(connections(), (0, 0), "closed connections leave nothing behind");
    });
    assert!(Sim::now() < 500_000_000, "no SYN had to be sent again: {}", Sim::now());
    assert_eq!(net_counters(), NetCounters::default());
}

/// One end speaks of itself while the other one waits for what comes, and neither holds the other one up.
#[test]
fn a_connection_is_read_and_written_at_the_same_time() {
    let mut world = World::new(ARGS);
    let handle = world.tcp();
    let text = "all of this comes back ".repeat(2000);
    let mut client = client(handle, 7, 41_000, text);
    let done = Rc::new(Cell::new(false));
    let ear = done.clone();
    world.script(move |sockets, iface, _| {
        if !ear.get() {
            ear.set(client(sockets, iface));
        }
    });
    world.run();
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a connection");
            let (waiting, came) = (RefCell::new(Vec::new()), Notify::new());
            let (mut reading, mut writing) = stream.halves();
            let reads = async {
                let mut bytes = vec![0; 700];
                while let Ok(len @ 1..) = reading.read(&mut bytes).await {
                    waiting.borrow_mut().extend_from_slice(&bytes[..len]);
                    came.notify_all();
                }
            };
            let writes = async {
                loop {
                    let some = waiting.borrow().iter().copied().take(900).collect::<Vec<u8>>();
                    if some.is_empty() {
                        came.notified().await;
                        continue;
                    }
                    let len = writing.write(&some).await.expect("it is open");
                    waiting.borrow_mut().drain(..len);
                }
            };
            race(writes, reads).await;
        })
        .expect("room");
        while !done.get() {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn lost_frames_are_sent_again() {
    let mut world = World::new(ARGS);
    let handle = world.tcp();
    let text = "all of this arrives ".repeat(500);
    let mut client = client(handle, 7, 41_000, text);
    let done = Rc::new(Cell::new(false));
    let flag = done.clone();
    world.script(move |sockets, iface, _| {
        if !flag.get() {
            flag.set(client(sockets, iface));
        }
    });
    let mut number = 0;
    world.lose(move |_| {
        number += 1;
        number % 7 == 3
    });
    world.run();
    block_on(async {
        serve_echo(7);
        timeout(Duration::from_secs(120), async {
            while !done.get() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("in time");
    });
}

#[test]
fn nobody_listens() {
    let mut world = World::new(ARGS);
    let handle = world.tcp();
    let reset = Rc::new(Cell::new(false));
    let flag = reset.clone();
    let mut started = false;
    world.script(move |sockets, iface, _| {
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        if !started {
            started = true;
            socket.connect(iface.context(), (IpAddress::from(Ipv4Address::from(GUEST)), 81), 5000).expect("closed");
        } else if socket.state() == tcp::State::Closed {
            flag.set(true);
        }
    });
    world.run();
    block_on(async {
        serve_echo(7);
        timeout(Duration::from_secs(2), async {
            while !reset.get() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("a reset, and not silence");
    });
}

#[test]
fn a_guest_connects_to_a_host() {
    let mut world = World::new(ARGS);
    let handle = world.tcp();
    world.script(move |sockets, _, _| {
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        if !socket.is_open() {
            socket.listen(99).expect("closed");
        }
        while socket.can_recv() {
            let mut bytes = [0; 100];
            let len = socket.recv_slice(&mut bytes).expect("open");
            socket.send_slice(&bytes[..len].to_ascii_uppercase()).expect("open");
        }
        if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
    });
    world.run();
    block_on(async {
        let mut stream = TcpStream::connect(SocketAddr::from((PEER, 99))).await.expect("accepted");
        assert_eq!(stream.peer_addr(), Some(SocketAddr::from((PEER, 99))));
        stream.write_all(b"hello").await.expect("open");
        let mut answer = [0; 5];
        assert_eq!(stream.read(&mut answer).await, Ok(5));
        assert_eq!(&answer, b"HELLO");
        stream.finish();
        assert_eq!(stream.read(&mut answer).await, Ok(0));
        drop(stream);
        assert_eq!(TcpStream::connect(SocketAddr::from((PEER, 98))).await.err(), Some(Error::ConnectionRefused));
        // Nobody has this address: no answer to ARP.
        let nobody = SocketAddr::from(([10, 0, 2, 77], 98));
        assert_eq!(TcpStream::connect(nobody).await.err(), Some(Error::TimedOut));
    });
}

#[test]
fn ipv6_and_udp() {
    let mut world = World::new("");
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 2048]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(1234).expect("free");
    let handle = world.sockets().add(socket);
    let guest = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0046, 0x4bff, 0xfe00, 0);
    let mut sent = false;
    let answered = Rc::new(Cell::new(false));
    let flag = answered.clone();
    world.script(move |sockets, _, _| {
        let socket = sockets.get_mut::<udp::Socket>(handle);
        if !sent {
            sent = true;
            socket.send_slice(b"ping", IpEndpoint::new(guest.into(), 53)).expect("room");
        }
        if let Ok((bytes, from)) = socket.recv() {
            assert_eq!((bytes, from.endpoint.addr), (b"pong ping".as_slice(), guest.into()));
            flag.set(true);
        }
    });
    world.run();
    block_on(async {
        assert_eq!(ipv6_addr(), Some(guest));
        let socket = UdpSocket::bind(53).expect("free");
        assert_eq!(UdpSocket::bind(53).err(), Some(Error::AddrInUse));
        let mut buffer = [0; 64];
        let (len, from) = socket.recv_from(&mut buffer).await.expect("a datagram");
        assert_eq!(from.port(), 1234);
        socket.send_to(&[b"pong ".as_slice(), &buffer[..len]].concat(), from).await.expect("room");
        timeout(Duration::from_secs(3), async {
            while !answered.get() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("an answer");
    });
}

#[test]
fn without_a_network_everything_says_so() {
    let _sim = Sim::new("");
    assert_eq!(TcpListener::bind(80).err(), Some(Error::NoNetwork));
    assert_eq!(UdpSocket::bind(80).err(), Some(Error::NoNetwork));
    assert_eq!(block_on(up()), Err(Error::NoNetwork));
}

#[test]
fn damaged_frames_are_counted_and_forgotten() {
    let world = World::new(ARGS);
    let mut sim = world.into_sim();
    sim::start();
    block_on(async {
        for len in 0..200 {
            assert!(sim.deliver(&vec![0xa5; len]));
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(net_counters().refused_frames, 200);
    assert!(sim.collect().is_none(), "none is answered");
}

#[test]
fn an_address_from_dhcp() {
    use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};
    let mut world = World::new("ip=dhcp");
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(67).expect("free");
    let handle = world.sockets().add(socket);
    world.script(move |sockets, _, _| {
        let socket = sockets.get_mut::<udp::Socket>(handle);
        let Ok((bytes, _)) = socket.recv() else { return };
        let packet = DhcpPacket::new_checked(bytes).expect("long enough");
        let request = DhcpRepr::parse(&packet).expect("well-formed");
        let message_type = match request.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            _ => DhcpMessageType::Ack,
        };
        let answer = DhcpRepr {
            message_type,
            your_ip: Ipv4Address::from(GUEST),
            server_ip: Ipv4Address::from(PEER),
            server_identifier: Some(Ipv4Address::from(PEER)),
            subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
            router: Some(Ipv4Address::from(PEER)),
            lease_duration: Some(3600),
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            dns_servers: Some([Ipv4Address::from(PEER)].into_iter().collect()),
            ..request
        };
        let mut reply = vec![0; answer.buffer_len()];
        answer.emit(&mut DhcpPacket::new_unchecked(&mut reply)).expect("room");
        socket.send_slice(&reply, IpEndpoint::new(Ipv4Address::BROADCAST.into(), 68)).expect("room");
    });
    world.run();
    block_on(async {
        assert_eq!(ipv4_addr(), None);
        let address = timeout(Duration::from_secs(30), up()).await.expect("in time");
        assert_eq!(address, Ok(Ipv4Addr::from(GUEST)));
        assert!(!Sim::console().contains("lost"), "nothing was lost yet: {}", Sim::console());
        crate::task::yield_now().await;
        assert_eq!(with(|stack| Ok(stack.name_servers().to_vec())), Ok(vec![IpAddr::from(PEER)]));
    });
}

#[test]
fn a_full_ring_holds_everything_up_and_nothing_is_lost() {
    let mut sim = Sim::new(ARGS);
    sim::start();
    // Echo requests from a peer that the guest knows, faster than anybody takes the answers out.
    let mut arp = vec![2, 0x46, 0x4b, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    arp.extend([PEER.as_slice(), &[0; 6], &GUEST].concat());
    let mut ping = vec![2, 0x46, 0x4b, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 4, 28, 0, 0, 0x40, 0, 64, 1, 0, 0];
    ping.extend([PEER, GUEST].concat());
    ping.extend([8, 0, 0, 0, 0, 7, 0, 9]);
    ping.extend([0x5a; 1024 - 20]);
    ping.resize(14 + 20 + 8 + 1000, 0x5a);
    ping[16..18].copy_from_slice(&1028u16.to_be_bytes());
    checksum::fill(&mut ping);
    let answered = Rc::new(Cell::new(0));
    let count = answered.clone();
    let mut delivered = 0;
    assert!(sim.deliver(&arp));
    let mut turns = 0;
    Sim::on_idle(move |now, _| {
        turns += 1;
        if delivered < 60 {
            delivered += usize::from(sim.deliver(&ping));
        }
        if turns > 100 {
            while let Some(frame) = sim.collect() {
                count.set(count.get() + usize::from(frame.len() == ping.len() && frame[34] == 0));
            }
        }
        sim::SimEvent::Nothing(now + 1_000_000)
    });
    block_on(sleep(Duration::from_secs(2)));
    // Both rings together hold about thirty; what did not fit was offered again.
    assert_eq!(answered.get(), 60);
}

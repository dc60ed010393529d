//! Neighbours, paths, and what frames hold.

use super::super::frame::{ACK, ARP, ICMP, SYN, UDP, be16};
use super::super::*;
use super::crafted::{GUEST_MAC, Heard, Host, arp, ask, awake, heard, icmp, ipv4, machine, turn};
use super::serve_echo;
use crate::block_on;
use crate::sim::{GUEST, PEER, Sim};
use crate::task::spawn;
use crate::time::{Duration, sleep, timeout};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

pub(super) const ARGS: &str = "ip=10.0.2.16/16 gw=10.0.2.2";
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR: [u8; 4] = [203, 0, 113, 5];

/// Addresses that the guest asks for, among these frames.
pub(super) fn asked(frames: &[Vec<u8>]) -> Vec<[u8; 4]> {
    let questions = frames.iter().filter(|frame| be16(frame, 12) == Some(ARP) && frame[21] == 1);
    questions.map(|frame| *frame[38..].first_chunk().expect("long enough")).collect()
}

#[test]
fn three_hundred_neighbours_are_served_without_a_question() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut hosts: Vec<_> = (0..300).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.connect(&mut sim).await;
        }
        for round in 0..3 {
            for host in &mut hosts {
                let frame = host.next(ACK, b"hello");
                let frames = ask(&mut sim, &frame).await;
                assert_eq!(asked(&frames), [] as [[u8; 4]; 0]);
                assert!(host.listen(&frames).iter().any(|heard| heard.data == b"hello"), "round {round}");
            }
        }
        // And they are known for whatever else there is to say to them.
        let socket = UdpSocket::bind(9).expect("free");
        for host in &hosts {
            socket.send_to(b"x", SocketAddr::from((host.ip, 9))).await.expect("room");
            let frames = turn(&mut sim).await;
            assert_eq!((frames.len(), &frames[0][..6]), (1, host.mac.as_slice()));
        }
    });
}

#[test]
fn who_does_not_answer_keeps_nobody_else_waiting() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        let to = |n: u8| SocketAddr::from(([10, 0, 9, n], 9));
        for n in 1..6 {
            socket.send_to(b"nobody", to(n)).await.expect("room");
        }
        let frames = turn(&mut sim).await;
        assert_eq!(asked(&frames).len(), 5, "each is asked for at once");
        socket.send_to(b"first", to(9)).await.expect("room");
        socket.send_to(b"second", to(9)).await.expect("room");
        assert_eq!(asked(&turn(&mut sim).await), [[10, 0, 9, 9]]);
        let mac = [2, 9, 9, 9, 9, 9];
        let frames = ask(&mut sim, &arp(2, mac, [10, 0, 9, 9], GUEST)).await;
        let left: Vec<_> = frames.iter().map(|frame| (&frame[..6], &frame[42..])).collect();
        assert_eq!(left, [(mac.as_slice(), b"first".as_slice()), (mac.as_slice(), b"second".as_slice())]);
        // Of many, the latest few wait.
        for n in 0..40_u8 {
            socket.send_to(&[n], to(8)).await.expect("room");
            turn(&mut sim).await;
        }
        let frames = ask(&mut sim, &arp(2, mac, [10, 0, 9, 8], GUEST)).await;
        assert_eq!(frames.iter().map(|frame| frame[42]).collect::<Vec<_>>(), (24..40).collect::<Vec<_>>());
        // The others are asked for three times, ever less often.
        let mut times = Vec::new();
        for second in 0..30 {
            awake(1).await;
            times.extend(asked(&turn(&mut sim).await).iter().filter(|address| address[3] == 1).map(|_| second));
        }
        assert_eq!(times.len(), 2, "{times:?}");
        assert!(times[1] > times[0] + 1, "{times:?}");
        // A neighbour that has moved is found again.
        awake(40).await;
        socket.send_to(b"third", to(9)).await.expect("room");
        let frames = turn(&mut sim).await;
        assert_eq!(asked(&frames), [[10, 0, 9, 9]], "what is old is asked for again");
        assert!(frames.iter().any(|frame| frame[..6] == mac), "and used until then");
        ask(&mut sim, &arp(2, [2, 8, 8, 8, 8, 8], [10, 0, 9, 9], GUEST)).await;
        socket.send_to(b"fourth", to(9)).await.expect("room");
        assert_eq!(turn(&mut sim).await[0][..6], [2, 8, 8, 8, 8, 8]);
        // Answers that nobody has asked for are not believed, nor ones from an address of many.
        let before = with(|stack| Ok(stack.link.neighbours())).expect("a network");
        ask(&mut sim, &arp(2, mac, [10, 0, 9, 77], GUEST)).await;
        ask(&mut sim, &arp(2, [3, 9, 9, 9, 9, 9], [10, 0, 9, 9], GUEST)).await;
        socket.send_to(b"fifth", to(9)).await.expect("room");
        assert_eq!(turn(&mut sim).await[0][..6], [2, 8, 8, 8, 8, 8]);
        assert_eq!(with(|stack| Ok(stack.link.neighbours())), Ok(before));
    });
}

/// A frame with a datagram of one byte for the guest's port 9.
fn datagram(byte: u8) -> Vec<u8> {
    let udp = [[0, 7, 0, 9, 0, 9, 0, 0].as_slice(), &[byte]].concat();
    ipv4(ROUTER, PEER, GUEST, 17, &udp)
}

#[test]
fn a_burst_of_datagrams_waits_while_there_is_memory() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        let mut burst = async |short: bool| {
            Sim::run_short(short);
            for turns in 0..5 {
                for n in 0..20 {
                    assert!(sim.deliver(&datagram(turns * 20 + n)), "there is room");
                }
                turn(&mut sim).await;
            }
            Sim::run_short(false);
            let mut heard = Vec::new();
            let mut buffer = [0; 9];
            while let Ok(Ok((1, from))) = timeout(Duration::from_millis(5), socket.recv_from(&mut buffer)).await {
                assert_eq!(from, SocketAddr::from((PEER, 7)));
                heard.push(buffer[0]);
            }
            heard
        };
        // The first ones, in their order: those beside the socket, and those in it.
        assert_eq!(burst(false).await, (0..72).collect::<Vec<_>>());
        assert_eq!(burst(true).await, (0..8).collect::<Vec<_>>());
        assert_eq!(burst(false).await.len(), 72);
    });
}

#[test]
fn a_packet_waits_for_its_neighbour_only_where_there_is_memory_for_it() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        // The frame, and the list of those that wait.
        let needs = 14 + 20 + 8 + 200 + 16 * size_of::<Box<[u8]>>();
        for (n, left, sent) in [(1, needs - 1, 0), (2, needs, 1)] {
            Sim::leave(left);
            socket.send_to(&[7; 200], SocketAddr::from(([10, 0, 9, n], 9))).await.expect("room");
            assert_eq!(asked(&turn(&mut sim).await), [[10, 0, 9, n]], "asked for in any case");
            let frames = ask(&mut sim, &arp(2, [2, 9, 9, 9, 9, n], [10, 0, 9, n], GUEST)).await;
            assert_eq!(frames.len(), sent, "{left}");
        }
    });
}

#[test]
fn each_datagram_waits_only_where_there_is_memory_for_it() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        // The queue, which is there from the first one on that waits in it.
        let queue = 64 * size_of::<(Box<[u8]>, SocketAddr)>();
        for (first, then, waiting) in [(queue - 1, queue - 1, 8), (queue, 0, 9), (queue, 1, 15)] {
            for (left, bytes) in [(first, 0..2), (then, 2..15)] {
                Sim::leave(left);
                for byte in bytes {
                    assert!(sim.deliver(&datagram(byte)), "there is room");
                }
                turn(&mut sim).await;
            }
            let mut buffer = [0; 9];
            let mut heard = 0;
            while timeout(Duration::from_millis(5), socket.recv_from(&mut buffer)).await.is_ok() {
                heard += 1;
            }
            assert_eq!(heard, waiting, "{first}, {then}");
        }
    });
}

#[test]
fn our_address_is_told_and_defended() {
    let mut sim = machine(ARGS);
    block_on(async {
        let frames = ask(&mut sim, &arp(1, ROUTER, PEER, GUEST)).await;
        let mut answer = arp(2, GUEST_MAC, GUEST, PEER);
        answer[..6].copy_from_slice(&ROUTER);
        answer[32..38].copy_from_slice(&ROUTER);
        assert_eq!(frames, [answer]);
        assert!(ask(&mut sim, &arp(1, ROUTER, PEER, [10, 0, 2, 17])).await.is_empty());
        // A probe (RFC 5227) is answered; a host with our address is told, and not too often.
        assert_eq!(ask(&mut sim, &arp(1, ROUTER, [0; 4], GUEST)).await.len(), 1);
        let frames = ask(&mut sim, &arp(1, [2, 6, 6, 6, 6, 6], GUEST, GUEST)).await;
        assert_eq!((frames.len(), &frames[0][..6], asked(&frames)), (1, [0xff; 6].as_slice(), vec![GUEST]));
        assert!(ask(&mut sim, &arp(1, [2, 6, 6, 6, 6, 6], GUEST, GUEST)).await.is_empty());
        assert!(Sim::console().contains("10.0.2.16 is used by 02-06-06-06-06-06 as well"), "{}", Sim::console());
    });
}

/// A host behind the router that asks for much.
pub(super) fn far() -> Host {
    Host { mac: ROUTER, ip: FAR, ..Host::new(1, 80) }
}

/// Writes to whoever comes, as much as they take.
fn serve_much() {
    let listener = TcpListener::bind(80).expect("free");
    spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            spawn(async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} }).expect("room");
        }
    })
    .expect("room");
}

/// The first hundred segments that arrive for `host` within so many seconds, if every packet larger than `mtu` is lost; what
/// arrives is acknowledged.
async fn fetch(sim: &mut Sim, host: &mut Host, seconds: u64, mtu: usize) -> Vec<Heard> {
    let mut all = Vec::new();
    let end = Sim::now() + seconds * 1_000_000_000;
    while Sim::now() < end && all.len() < 100 {
        if all.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        let mut frames = turn(sim).await;
        frames.retain(|frame| frame.len() - 14 <= mtu);
        let heard = host.listen(&frames);
        if !heard.is_empty() {
            sim.deliver(&host.segment(ACK, &[], &[]));
        }
        all.extend(heard);
    }
    all
}

const MSS: [u8; 4] = [2, 4, 5, 0xb4];

pub(super) async fn open(sim: &mut Sim, host: &mut Host) -> Vec<Vec<u8>> {
    let frames = ask(sim, &host.segment(SYN, &MSS, &[])).await;
    host.seq += 1;
    host.listen(&frames);
    let ack = host.next(ACK, &[]);
    ask(sim, &ack).await
}

#[test]
fn a_narrow_path_is_believed_if_the_message_can_be_true() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_much();
        let mut host = far();
        let frames = open(&mut sim, &mut host).await;
        let large = frames.iter().find(|frame| frame.len() == 1514).expect("a full packet").clone();
        let too_big = |quoted: &[u8], mtu: u16| {
            let [high, low] = mtu.to_be_bytes();
            icmp(ROUTER, [192, 0, 2, 1], GUEST, [3, 4], [0, 0, high, low], &quoted[..28])
        };
        // Not about a connection of ours; not about what is on its way; not smaller than what any link carries.
        let mut forged = large[14..].to_vec();
        forged[20] ^= 1;
        ask(&mut sim, &too_big(&forged, 1280)).await;
        let mut forged = large[14..].to_vec();
        forged[24] ^= 0x80;
        ask(&mut sim, &too_big(&forged, 1280)).await;
        ask(&mut sim, &too_big(&large[14..], 1500)).await;
        let all = fetch(&mut sim, &mut host, 2, 1500).await;
        assert_eq!(all.iter().map(|heard| heard.data.len()).max(), Some(1460));
        // The truth.
        let mut large = None;
        for _ in 0..3000 {
            large = large.or(turn(&mut sim).await.into_iter().find(|frame| frame.len() == 1514));
        }
        let large = large.expect("it is sent again");
        ask(&mut sim, &too_big(&large[14..], 1300)).await;
        let all = fetch(&mut sim, &mut host, 4, 1300).await;
        assert!(all.len() >= 100, "it goes on: {}", all.len());
        // The next connection to there knows.
        let mut next = Host { ports: (999, 80), ..far() };
        let frames = open(&mut sim, &mut next).await;
        assert_eq!(frames.iter().map(Vec::len).max(), Some(1280 + 14));
        // And with another host, nothing has changed.
        let mut other = Host { ip: [203, 0, 113, 6], ..far() };
        let frames = open(&mut sim, &mut other).await;
        assert_eq!(frames.iter().map(Vec::len).max(), Some(1514));
        // A message about next to nothing has a floor.
        let large = frames.iter().find(|frame| frame.len() == 1514).expect("a full packet");
        ask(&mut sim, &too_big(&large[14..], 68)).await;
        let all = fetch(&mut sim, &mut other, 4, 576).await;
        assert_eq!(all.iter().map(|heard| heard.data.len()).max(), Some(536));
    });
}

/// Serves whoever comes with so many bytes, of which a socket holds all if they are few; and waits.
fn serve_bytes(count: usize) {
    let listener = TcpListener::bind(80).expect("free");
    spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            spawn(async move {
                let _ = stream.write_all(&vec![b'x'; count]).await;
                sleep(Duration::from_secs(60)).await;
            })
            .expect("room");
        }
    })
    .expect("room");
}

#[test]
fn what_was_too_large_is_sent_again_at_once() {
    // By a socket, and beside it.
    for count in [4_000, 13_000] {
        let mut sim = machine(ARGS);
        block_on(async {
            serve_bytes(count);
            let mut host = far();
            let frames = open(&mut sim, &mut host).await;
            let large: Vec<_> = frames.iter().filter(|frame| frame.len() == 1514).cloned().collect();
            assert!(large.len() >= 2, "{}", large.len());
            let since = Sim::now();
            // The router complains of each of them.
            let mut again = Vec::new();
            for large in &large {
                let quoted = &large[14..42];
                again.extend(ask(&mut sim, &icmp(ROUTER, [192, 0, 2, 1], GUEST, [3, 4], [0, 0, 5, 0], quoted)).await);
            }
            let mut bytes = 0;
            for _ in 0..100 {
                assert!(again.iter().all(|frame| frame.len() <= 1280 + 14));
                let heard = host.listen(&again);
                assert!(bytes > 0 || heard.len() > 1, "all of it, and not one segment each time");
                bytes += heard.iter().map(|heard| heard.data.len()).sum::<usize>();
                again = ask(&mut sim, &host.segment(ACK, &[], &[])).await;
                if bytes >= count {
                    break;
                }
            }
            assert_eq!(bytes, count, "none of it twice");
            let took = Sim::now() - since;
            assert!(took < 100_000_000, "{took} ns");
            // And the timers are right.
            for _ in 0..50 {
                sleep(Duration::from_millis(100)).await;
                assert!(host.listen(&turn(&mut sim).await).is_empty(), "nothing is sent that has arrived");
            }
        });
    }
}

#[test]
fn errors_quote_what_came_and_are_few() {
    let mut sim = machine(ARGS);
    block_on(async {
        let udp = [vec![0, 9, 0, 99, 3, 0, 0, 0], vec![0x77; 760]].concat();
        let mut sent = ipv4(ROUTER, PEER, GUEST, UDP, &udp);
        // An odd type of service, identification, and time to live.
        sent[15] = 0x28;
        sent[22] = 3;
        super::super::checksum::fill(&mut sent);
        let frames = ask(&mut sim, &sent).await;
        assert_eq!((frames.len(), frames[0].len()), (1, 14 + 576));
        assert_eq!(frames[0][34..36], [3, 3]);
        assert_eq!(frames[0][38..42], [0; 4]);
        assert_eq!(frames[0][42..], sent[14..14 + 548], "to the bit");
        // Not to what was sent to all.
        for to in [[255; 4], [10, 0, 255, 255], [224, 0, 0, 1]] {
            let mut all = ipv4(ROUTER, PEER, to, UDP, &udp);
            all[..6].fill(0xff);
            assert!(ask(&mut sim, &all).await.is_empty());
            let mut all = ipv4(ROUTER, PEER, to, ICMP, &[8, 0, 0, 0, 1, 2, 3, 4]);
            all[..6].fill(0xff);
            assert!(ask(&mut sim, &all).await.is_empty(), "an echo is not answered either");
        }
        let mut count = 0;
        for _ in 0..900 {
            count += ask(&mut sim, &sent).await.len();
        }
        assert!(count <= 200, "{count}");
    });
    assert_eq!(heard(&[0; 20]), None);
}

#[test]
fn what_is_listened_to_stands_in_the_nic_page() {
    use abi::nic::Listens;
    let listens = || super::super::device::nic_page().listens;
    let said = |ports: &[u16]| {
        let mut listens = Listens { said: Listens::SAID, accepts: Listens::SAID, ..Listens::default() };
        listens.broadcast_ports[..ports.len()].copy_from_slice(ports);
        listens
    };
    let _sim = machine("");
    assert_eq!(listens(), said(&[]));
    let mut sockets: Vec<_> = (1..=10).map(|port| UdpSocket::bind(port).expect("free")).collect();
    assert_eq!(listens(), said(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    sockets.push(UdpSocket::bind(11).expect("free"));
    let unsaid = Listens { accepts: Listens::SAID, ..Listens::default() };
    assert_eq!(listens(), unsaid, "more than can be said");
    sockets.truncate(1);
    assert_eq!(listens(), said(&[1]));
    drop(sockets);
    let accepts = || (listens().accepts, listens().tcp_ports);
    let mut listeners: Vec<_> = (1..=10).map(|port| TcpListener::bind(port).expect("free")).collect();
    assert_eq!(accepts(), (Listens::SAID, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    listeners.push(TcpListener::bind(11).expect("free"));
    assert_eq!(accepts(), (0, [0; 10]), "more than can be said");
    assert_eq!(listens().said, Listens::SAID, "of datagrams all is said");
    listeners.truncate(1);
    assert_eq!(accepts(), (Listens::SAID, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    drop(listeners);
    let _sim = machine("ip=dhcp");
    assert_eq!(listens(), said(&[68]));
}

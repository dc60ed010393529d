//! Neighbours, paths, and what frames hold.

use super::super::frame::{ACK, ARP, ICMP, ICMPV6, RST, SYN, UDP, be16};
use super::super::*;
use super::crafted::{GUEST_MAC, Heard, Host, arp, ask, awake, heard, icmp, ipv4, ipv6, machine, turn};
use super::serve_echo;
use crate::sim::{GUEST, PEER, Sim};
use crate::task::{block_on, spawn};
use crate::time::{Duration, sleep};
use std::cell::Cell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const ARGS: &str = "ip=10.0.2.16/16 gw=10.0.2.2";
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR: [u8; 4] = [203, 0, 113, 5];

/// Addresses that the guest asks for, among these frames.
fn asked(frames: &[Vec<u8>]) -> Vec<[u8; 4]> {
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
        assert_eq!((frames.len(), &frames[0][..6], &frames[0][42..]), (1, mac.as_slice(), b"second".as_slice()));
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
fn far() -> Host {
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

async fn open(sim: &mut Sim, host: &mut Host) -> Vec<Vec<u8>> {
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

#[test]
fn a_path_that_swallows_large_packets_is_found_out() {
    for mtu in [1300, 600] {
        let mut sim = machine(ARGS);
        block_on(async {
            serve_much();
            let mut host = far();
            open(&mut sim, &mut host).await;
            let all = fetch(&mut sim, &mut host, 60, mtu).await;
            assert!(all.len() >= 100, "{mtu}: {}", all.len());
        });
    }
}

/// Fills everything that the guest can send from with this byte.
fn paint(byte: u8) {
    use abi::nic::{DEFAULT_SLOTS, tx_slots_offset};
    let start = usize::try_from(tx_slots_offset(DEFAULT_SLOTS)).expect("small");
    let bytes = usize::try_from(DEFAULT_SLOTS).expect("small") * abi::ring::SLOT_BYTES;
    crate::platform::nic().write(start, &vec![byte; bytes]).expect("in the NIC");
}

/// Lets the guest send a frame of each kind, from slots that hold `byte`.
fn everything(byte: u8) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let socket = UdpSocket::bind(53).expect("free");
        let mut host = Host::new(1, 7);
        let (own6, peer6) = ((0xfe80 << 112) | 0x46_4bff_fe00_0000, 0xfe80 << 112 | 9);
        let udp = |len: u8| [vec![0, 9, 0, 99, 0, 8 + len, 0, 0], vec![0x77; len.into()]].concat();
        let solicit = [[135, 0, 0, 0, 0, 0, 0, 0].as_slice(), &u128::to_be_bytes(own6), &[1, 1], &host.mac].concat();
        let frames = [
            arp(1, host.mac, host.ip, GUEST),
            host.segment(SYN, &[2, 4, 5, 0xb4, 4, 2, 1, 1, 3, 3, 7, 1], &[]),
            host.segment(ACK, &[], &[]),
            host.segment(SYN | RST, &[], &[]),
            Host { ports: (4, 4), ..host.clone() }.segment(SYN, &[], &[]),
            ipv4(host.mac, host.ip, GUEST, UDP, &udp(3)),
            ipv4(host.mac, host.ip, GUEST, UDP, &udp(200)),
            ipv4(host.mac, host.ip, GUEST, ICMP, &[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]),
            ipv6(host.mac, peer6, own6, 255, ICMPV6, &solicit),
            ipv6(host.mac, 0, 0xff02 << 112 | 1, 255, ICMPV6, &solicit[..24]),
            ipv6(host.mac, peer6, own6, 64, ICMPV6, &[128, 0, 0, 0, 1, 2, 3, 4, 5]),
            ipv6(host.mac, peer6, own6, 64, UDP, &udp(5)),
        ];
        for frame in frames {
            paint(byte);
            all.extend(ask(&mut sim, &frame).await);
        }
        paint(byte);
        host.knock(&mut sim).await;
        let step = |frames: Vec<Vec<u8>>, all: &mut Vec<Vec<u8>>| {
            paint(byte);
            all.extend(frames);
        };
        paint(byte);
        let frame = host.next(ACK, b"odd");
        let frames = ask(&mut sim, &frame).await;
        host.listen(&frames);
        step(frames, &mut all);
        for (flags, seq) in [(SYN, host.seq), (RST, host.seq + 9)] {
            awake(1).await;
            let forged = Host { seq, ..host.clone() };
            step(ask(&mut sim, &forged.segment(flags, &[], &[])).await, &mut all);
        }
        // Data behind a gap: an acknowledgement, at once. A whole lot of it: full segments.
        let gap = Host { seq: host.seq + 10, ..host.clone() };
        step(ask(&mut sim, &gap.segment(ACK, &[], b"gap")).await, &mut all);
        step(ask(&mut sim, &host.segment(ACK, &[], &[7; 1333])).await, &mut all);
        step(ask(&mut sim, &host.segment(ACK, &[], &[])).await, &mut all);
        socket.send_to(b"odd", SocketAddr::from((host.ip, 9))).await.expect("room");
        step(turn(&mut sim).await, &mut all);
        socket.send_to(b"odd", SocketAddr::from(([10, 0, 77, 7], 9))).await.expect("room");
        step(turn(&mut sim).await, &mut all);
        step(ask(&mut sim, &arp(2, ROUTER, [10, 0, 77, 7], GUEST)).await, &mut all);
        let v6 = Ipv6Addr::from_bits(0xfe80 << 112 | 77);
        socket.send_to(b"odd", SocketAddr::from((v6, 9))).await.expect("room");
        step(turn(&mut sim).await, &mut all);
        let opened = Rc::new(Cell::new(false));
        let done = opened.clone();
        let peer = SocketAddr::from((host.ip, 99));
        spawn(async move { done.set(TcpStream::connect(peer).await.is_err()) }).expect("room");
        step(turn(&mut sim).await, &mut all);
    });
    let mut sim = machine("ip=dhcp");
    block_on(async {
        paint(byte);
        all.extend(turn(&mut sim).await);
    });
    all
}

#[test]
fn nothing_leaves_that_was_not_written() {
    let (one, other) = (everything(0xa5), everything(0x5a));
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other, "what the slots held before shows");
    }
    let of = |kind: u16, at: usize, protocol: u8| {
        one.iter().filter(|frame| be16(frame, 12) == Some(kind) && frame.get(at) == Some(&protocol)).count()
    };
    // Each kind is among them: UDP and errors, segments, neighbour discovery, questions and answers of ARP.
    assert!(of(frame::IPV4, 23, UDP) >= 3 && of(frame::IPV4, 23, ICMP) == 3, "{}", of(frame::IPV4, 23, ICMP));
    assert!(
        of(frame::IPV4, 23, frame::TCP) >= 8 && of(frame::IPV6, 20, ICMPV6) == 5,
        "{}",
        of(frame::IPV6, 20, ICMPV6)
    );
    assert_eq!((of(ARP, 21, 1), of(ARP, 21, 2)), (1, 1));
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
        let mut listens = Listens { said: Listens::SAID, ..Listens::default() };
        listens.broadcast_ports[..ports.len()].copy_from_slice(ports);
        listens
    };
    let _sim = machine("");
    assert_eq!(listens(), said(&[]));
    let mut sockets: Vec<_> = (1..=10).map(|port| UdpSocket::bind(port).expect("free")).collect();
    assert_eq!(listens(), said(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    sockets.push(UdpSocket::bind(11).expect("free"));
    assert_eq!(listens(), Listens::default(), "more than can be said");
    sockets.truncate(1);
    assert_eq!(listens(), said(&[1]));
    drop(sockets);
    let _sim = machine("ip=dhcp");
    assert_eq!(listens(), said(&[68]));
}

//! What leaves holds nothing that was not written for it: a guest sends from slots that hold a pattern, then from slots that hold another
//! one, and says the same. The class of fault is that of CVE-2003-0001.

use super::super::frame::{ACK, ARP, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, be16, be32};
use super::super::*;
use super::crafted::{Host, arp, ask, awake, icmp, ipv4, ipv6, machine, turn};
use super::serve_echo;
use crate::block_on;
use crate::sim::{GUEST, PEER};
use crate::task::spawn;
use crate::time::{Duration, sleep};
use std::cell::Cell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const ARGS: &str = "ip=10.0.2.16/16 gw=10.0.2.2 dns=10.0.2.2";
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OWN_V6: u128 = 0xfe80_0000_0000_0000_0046_4bff_fe00_0000;
const PEER_V6: u128 = 0xfe80 << 112 | 9;

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
    for args in ["ip=dhcp", "ip6=auto"] {
        let mut sim = machine(args);
        block_on(async {
            for _ in 0..60 {
                paint(byte);
                sleep(Duration::from_millis(50)).await;
                all.extend(turn(&mut sim).await);
            }
        });
    }
    all.extend(beside_sockets(byte));
    all.extend(over_ipv6(byte));
    all
}

/// What does not come out of a socket: content, in full segments and in those of a narrow path, its end, probes of a tail and of a silent
/// peer, questions for a name, echoes in pieces.
fn beside_sockets(byte: u8) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(80).expect("free");
        spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                let _ = stream.write_all(&[0x77; 9_001]).await;
                stream.finish();
                stream.set_keep_alive(Some(Duration::from_secs(1)));
                spawn(async move { while stream.read(&mut [0; 9]).await.is_ok_and(|len| len > 0) {} }).expect("room");
            }
        })
        .expect("room");
        let mut host = Host { mac: ROUTER, ..Host::new(1, 80) };
        let frames = ask(&mut sim, &host.segment(SYN, &[2, 4, 5, 0xb4], &[])).await;
        host.seq += 1;
        host.listen(&frames);
        paint(byte);
        let frame = host.next(ACK, &[]);
        let frames = ask(&mut sim, &frame).await;
        host.listen(&frames[..1]);
        let quoted = frames.last().expect("content")[14..42].to_vec();
        all.extend(frames);
        paint(byte);
        all.extend(ask(&mut sim, &icmp(ROUTER, PEER, GUEST, [3, 4], [0, 0, 3, 0xff], &quoted)).await);
        for _ in 0..30 {
            paint(byte);
            let frames = ask(&mut sim, &host.segment(ACK, &[], &[])).await;
            host.listen(&frames);
            all.extend(frames);
        }
        // Nothing of the last ones arrives, and then nothing at all.
        for _ in 0..40 {
            paint(byte);
            sleep(Duration::from_millis(100)).await;
            all.extend(turn(&mut sim).await);
        }
        paint(byte);
        spawn(async { drop(lookup("vm.example").await) }).expect("room");
        all.extend(turn(&mut sim).await);
        paint(byte);
        all.extend(ask(&mut sim, &arp(2, ROUTER, PEER, GUEST)).await);
        let message = [&[8, 0, 0, 0, 0, 7, 0, 9][..], &[0x66; 3_001]].concat();
        for piece in super::pieces::cut(&ipv4(ROUTER, PEER, GUEST, ICMP, &message), 7) {
            paint(byte);
            all.extend(ask(&mut sim, &piece).await);
        }
    });
    all
}

/// The same over IPv6: connections, resets, errors about what nobody knows, echoes in pieces.
fn over_ipv6(byte: u8) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut sim = machine("");
    block_on(async {
        serve_echo(7);
        let segment = |port: u8, seq: u32, ack: u32, flags: u8, data: &[u8]| {
            let mut bytes = [&[0x12, 0x34, 0, port][..], &seq.to_be_bytes(), &ack.to_be_bytes()].concat();
            bytes.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
            bytes.extend(data);
            ipv6(ROUTER, PEER_V6, OWN_V6, 64, TCP, &bytes)
        };
        let frames = ask(&mut sim, &segment(7, 1, 0, SYN, &[])).await;
        let next = be32(&frames[0], 54 + 4).expect("an answer").wrapping_add(1);
        let message = [&[128, 0, 0, 0, 0, 7, 0, 9][..], &[0x66; 3_001]].concat();
        let mut unknown = ipv6(ROUTER, PEER_V6, OWN_V6, 64, 59, &[0; 11]);
        unknown[20] = 99;
        let mut frames = vec![
            segment(7, 1, 0, SYN, &[]),
            segment(7, 2, next, ACK, b"odd"),
            segment(7, 5, next.wrapping_add(3), ACK | FIN, &[]),
            segment(8, 1, 0, SYN, &[]),
            unknown,
        ];
        frames.extend(super::pieces::cut(&ipv6(ROUTER, PEER_V6, OWN_V6, 64, ICMPV6, &message), 7));
        for frame in frames {
            paint(byte);
            all.extend(ask(&mut sim, &frame).await);
            paint(byte);
            sleep(Duration::from_millis(20)).await;
            all.extend(turn(&mut sim).await);
        }
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
    // Each kind is among them.
    let count = |is: &dyn Fn(&[u8]) -> bool| one.iter().filter(|frame| is(frame)).count();
    let v4 = |protocol: u8| move |frame: &[u8]| be16(frame, 12) == Some(frame::IPV4) && frame[23] == protocol;
    let v6 = |next: u8| move |frame: &[u8]| be16(frame, 12) == Some(frame::IPV6) && frame[20] == next;
    let is_arp = |operation: u8| move |frame: &[u8]| be16(frame, 12) == Some(ARP) && frame[21] == operation;
    let is_piece = |frame: &[u8]| be16(frame, 20).is_some_and(|field| field & 0x3fff != 0);
    for (what, least, found) in [
        ("questions for addresses", 2, count(&is_arp(1))),
        ("answers to them", 1, count(&is_arp(2))),
        ("datagrams", 3, count(&v4(UDP))),
        ("questions for names", 1, count(&|frame| v4(UDP)(frame) && be16(frame, 36) == Some(53))),
        ("messages of DHCP", 1, count(&|frame| v4(UDP)(frame) && be16(frame, 36) == Some(67))),
        ("errors", 2, count(&|frame| v4(ICMP)(frame) && frame[34] == 3)),
        ("echoes", 1, count(&|frame| v4(ICMP)(frame) && frame[34] == 0 && !is_piece(frame))),
        ("echoes in pieces", 3, count(&|frame| v4(ICMP)(frame) && is_piece(frame))),
        ("answers to SYNs", 1, count(&|frame| v4(TCP)(frame) && frame[47] == SYN | ACK)),
        ("SYNs", 1, count(&|frame| v4(TCP)(frame) && frame[47] == SYN)),
        ("resets", 2, count(&|frame| v4(TCP)(frame) && frame[47] & RST != 0)),
        ("acknowledgements", 3, count(&|frame| v4(TCP)(frame) && frame[47] == ACK && be16(frame, 16) == Some(40))),
        ("full segments", 4, count(&|frame| v4(TCP)(frame) && frame.len() == 1514)),
        ("those of a narrow path", 4, count(&|frame| v4(TCP)(frame) && (1000..=1020).contains(&frame.len()))),
        ("ends behind content", 1, count(&|frame| v4(TCP)(frame) && frame[47] & FIN != 0 && frame.len() > 54)),
        ("answers to SYNs over IPv6", 1, count(&|frame| v6(TCP)(frame) && frame[67] == SYN | ACK)),
        ("segments over IPv6", 1, count(&|frame| v6(TCP)(frame) && frame.ends_with(b"odd"))),
        ("ends over IPv6", 1, count(&|frame| v6(TCP)(frame) && frame[67] & FIN != 0)),
        ("resets over IPv6", 1, count(&|frame| v6(TCP)(frame) && frame[67] & RST != 0)),
        ("errors over IPv6", 1, count(&|frame| v6(ICMPV6)(frame) && frame[54] == 1)),
        ("problems with headers", 1, count(&|frame| v6(ICMPV6)(frame) && frame[54] == 4)),
        ("echoes over IPv6", 1, count(&|frame| v6(ICMPV6)(frame) && frame[54] == 129)),
        ("those in pieces", 3, count(&v6(44))),
        ("questions for routers", 1, count(&|frame| v6(ICMPV6)(frame) && frame[54] == 133)),
        ("questions for neighbours", 2, count(&|frame| v6(ICMPV6)(frame) && frame[54] == 135)),
        ("answers to neighbours", 1, count(&|frame| v6(ICMPV6)(frame) && frame[54] == 136)),
        ("reports of groups", 1, count(&|frame| v6(0)(frame) && frame[62] == 143)),
    ] {
        assert!(found >= least, "{what}: {found}");
    }
}

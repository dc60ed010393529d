//! Packets that come in pieces, or with more in front than an address.

use super::super::frame::{ICMPV6, TCP, UDP, be16, be32};
use super::super::*;
use super::ARGS;
use super::crafted::{ask, ipv4, ipv6, machine};
use super::serve_echo;
use crate::block_on;
use crate::sim::GUEST;
use crate::time::{Duration, timeout};
use std::vec::Vec;

const MAC: [u8; 6] = [2, 1, 0, 0, 0, 9];
const PEER: [u8; 4] = [10, 0, 2, 9];
const GUEST_V6: u128 = 0xfe80_0000_0000_0000_0046_4bff_fe00_0000;
const PEER_V6: u128 = 0xfe80 << 112 | 9;

/// A UDP datagram without a checksum, in pieces.
fn pieces(id: u16, data: &[u8]) -> Vec<Vec<u8>> {
    let len = u16::try_from(8 + data.len()).expect("short");
    let mut datagram = [40_000u16.to_be_bytes(), 53u16.to_be_bytes(), len.to_be_bytes(), [0, 0]].concat();
    datagram.extend(data);
    let count = datagram.len().div_ceil(1480);
    let piece = |number: usize| {
        let payload = &datagram[number * 1480..datagram.len().min((number + 1) * 1480)];
        let mut frame = ipv4(MAC, PEER, GUEST, UDP, payload);
        let field = u16::try_from(number * 185).expect("near") | if number + 1 < count { 0x2000 } else { 0 };
        // A checksum was filled in, as of a whole one.
        frame[34..].copy_from_slice(payload);
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum::header(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_ne_bytes());
        frame
    };
    (0..count).map(piece).collect()
}

#[test]
fn datagrams_in_pieces_are_put_together() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(53).expect("free");
        let data: Vec<u8> = (0..3_500usize).map(|at| u8::try_from(at * 7 % 251).expect("a byte")).collect();
        for (id, turned) in [(1, false), (2, true)] {
            let mut frames = pieces(id, &data);
            if turned {
                frames.reverse();
            }
            for frame in frames {
                assert!(ask(&mut sim, &frame).await.is_empty());
            }
            let mut bytes = [0; 4096];
            let (len, from) =
                timeout(Duration::from_secs(1), socket.recv_from(&mut bytes)).await.expect("there").expect("a network");
            assert_eq!((&bytes[..len], from), (&data[..], SocketAddr::from((PEER, 40_000))));
        }
        assert_eq!((net_counters().assembled_datagrams, net_counters().refused_frames), (2, 0));
        // Nobody listens there, and pieces that cannot be are counted.
        for mut frame in pieces(3, &data) {
            frame[20] |= 0x1f;
            frame[24..26].fill(0);
            let sum = checksum::header(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_ne_bytes());
            ask(&mut sim, &frame).await;
        }
        assert_eq!((net_counters().assembled_datagrams, net_counters().refused_frames), (2, 3));
    });
}

/// Whole frames as they come in pieces.
pub fn cut(frame: &[u8], id: u32) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    fragments::split(frame, id, |piece| pieces.push(piece.to_vec()));
    assert!(pieces.len() > 1);
    pieces
}

/// Delivers all of these, and returns what is said to the last one.
async fn ask_all(sim: &mut crate::sim::Sim, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (last, others) = frames.split_last().expect("some");
    for frame in others {
        assert!(ask(sim, frame).await.is_empty());
    }
    ask(sim, last).await
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).expect("a byte")).collect()
}

#[test]
fn datagrams_over_ipv6_are_put_together() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(53).expect("free");
        let data = data(3_500);
        let mut datagram = [40_000u16.to_be_bytes(), 53u16.to_be_bytes(), 3_508u16.to_be_bytes(), [0, 0]].concat();
        datagram.extend(&data);
        let whole = ipv6(MAC, PEER_V6, GUEST_V6, 64, UDP, &datagram);
        let mut frames = cut(&whole, 1);
        assert!(ask_all(&mut sim, &frames).await.is_empty());
        let mut bytes = [0; 4096];
        let (len, from) =
            timeout(Duration::from_secs(1), socket.recv_from(&mut bytes)).await.expect("there").expect("a network");
        assert_eq!((&bytes[..len], from.port()), (&data[..], 40_000));
        assert_eq!((net_counters().assembled_datagrams, net_counters().refused_frames), (1, 0));
        // One that overlaps another: none of them counts, and none of those that follow.
        let mut overlaps = cut(&whole, 2);
        overlaps[1][57] -= 8;
        frames = overlaps;
        frames.extend(cut(&whole, 2));
        assert!(ask_all(&mut sim, &frames).await.is_empty());
        assert!(timeout(Duration::from_secs(1), socket.recv_from(&mut bytes)).await.is_err());
        assert_eq!(net_counters().assembled_datagrams, 1);
        // What the wire does not carry in one piece is not sent.
        let large = [0; 1_453];
        assert_eq!(socket.send_to(&large, from).await, Err(Error::InvalidInput));
        assert_eq!(socket.send_to(&large[1..], from).await, Ok(()));
    });
}

#[test]
fn large_echoes_come_back_in_pieces() {
    let mut sim = machine(ARGS);
    block_on(async {
        // What is sent to a neighbour that is not known yet waits; answers to echoes go back where they came from.
        let message = |kind| [&[kind, 0, 0, 0, 0, 7, 0, 9], &data(3_992)[..]].concat();
        for (request, reply, from) in [
            (ipv4(MAC, PEER, GUEST, 1, &message(8)), ipv4(MAC, PEER, GUEST, 1, &message(0)), 34),
            (
                ipv6(MAC, PEER_V6, GUEST_V6, 64, ICMPV6, &message(128)),
                ipv6(MAC, GUEST_V6, PEER_V6, 64, ICMPV6, &message(129)),
                54,
            ),
        ] {
            let frames = ask_all(&mut sim, &cut(&request, 7)).await;
            assert_eq!(frames.len(), 3);
            assert!(frames.iter().all(|frame| frame.len() <= 1514 && frame[..6] == MAC));
            let head = if from == 34 { 34 } else { 62 };
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame[head..].to_vec()).collect();
            assert_eq!(bytes, reply[from..], "the same, with its checksum");
        }
        assert_eq!((net_counters().assembled_datagrams, net_counters().refused_frames), (2, 0));
        // TCP in pieces is counted, and no more.
        let segment =
            [&[0x12, 0x34, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0], &data(2_000)[..]].concat();
        serve_echo(7);
        assert!(ask_all(&mut sim, &cut(&ipv4(MAC, PEER, GUEST, TCP, &segment), 8)).await.is_empty());
        assert_eq!((connections(), net_counters().refused_frames), ((0, 0), 1));
    });
}

#[test]
fn halves_are_given_back_when_they_are_late() {
    let mut sim = machine(ARGS);
    block_on(async {
        for id in 0..100 {
            ask(&mut sim, &pieces(id, &[1; 3_000])[0]).await;
        }
        assert!(!shrink(), "somebody's pieces are waited for");
        crate::time::sleep(Duration::from_secs(16)).await;
        assert!(shrink());
    });
}

/// A SYN to the echo server over IPv6, with headers in front of it.
fn syn(first: u8, headers: &[u8]) -> Vec<u8> {
    let tcp = [0x12, 0x34, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0];
    // The checksum is that of a packet without them.
    let plain = ipv6(MAC, PEER_V6, GUEST_V6, 64, TCP, &tcp);
    let mut frame = ipv6(MAC, PEER_V6, GUEST_V6, 64, 59, &[headers, &plain[54..]].concat());
    frame[20] = first;
    frame[54..54 + headers.len()].copy_from_slice(headers);
    frame[54 + headers.len()..].copy_from_slice(&plain[54..]);
    frame
}

#[test]
fn headers_in_front_of_a_transport_are_taken_out() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let pads = [TCP, 0, 1, 4, 0, 0, 0, 0];
        let atomic = [TCP, 0, 0, 0, 1, 2, 3, 4];
        for (first, headers) in
            [(TCP, &[][..]), (0, &pads), (44, &atomic), (60, &[44, 0, 1, 4, 0, 0, 0, 0, TCP, 0, 0, 0, 9, 9, 9, 9])]
        {
            let frames = ask(&mut sim, &syn(first, headers)).await;
            assert_eq!(frames.len(), 1, "{first}: {frames:?}");
            assert_eq!((frames[0][20], frames[0][54 + 13], be32(&frames[0], 54 + 8)), (TCP, 0x12, Some(2)));
        }
        assert_eq!(net_counters().refused_frames, 0);
    });
}

#[test]
fn what_nobody_knows_is_told() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        for (first, headers, code, pointer) in [
            (99, &[0; 8][..], 1, 6),
            (60, &[TCP, 0, 0xbe, 4, 0, 0, 0, 0], 2, 42),
            (43, &[TCP, 0, 0, 1, 0, 0, 0, 0], 0, 42),
        ] {
            let frame = syn(first, headers);
            let frames = ask(&mut sim, &frame).await;
            assert_eq!(frames.len(), 1, "{first}");
            let said = &frames[0];
            assert_eq!((be16(said, 12), said[20], &said[54..56]), (Some(0x86dd), ICMPV6, &[4, code][..]));
            assert_eq!((be32(said, 58), &said[62..]), (Some(pointer), &frame[14..]), "what came is quoted");
            assert!(checksum::segment_valid(&said[22..54], ICMPV6, &said[54..]));
        }
        // A fragment that is one, and silence about it.
        assert!(ask(&mut sim, &syn(44, &[TCP, 0, 0, 1, 1, 2, 3, 4])).await.is_empty());
        for _ in 0..300 {
            assert!(sim.deliver(&syn(99, &[])) || sim.collect().is_some());
            crate::time::sleep(Duration::from_micros(500)).await;
        }
        let mut told = 0;
        while sim.collect().is_some() {
            told += 1;
        }
        assert!(told <= 100, "{told}");
    });
}

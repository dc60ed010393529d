//! An IPv6 address of what a router says, and who hears of the groups that we listen to.

use super::super::frame::{ACK, ICMPV6, SYN, TCP, UDP, be16, be32};
use super::super::*;
use super::crafted::{GUEST_MAC, ask, awake, ipv6, machine, turn};
use super::serve_echo;
use crate::block_on;
use crate::sim::Sim;
use crate::time::{Duration, sleep};
use std::vec::Vec;

const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: u128 = 0xfe80 << 112 | 1;
const LOCAL: u128 = 0xfe80_0000_0000_0000_0046_4bff_fe00_0000;
const GLOBAL: u128 = 0x2001_0db8_0000_0000_0046_4bff_fe00_0000;
const FAR: u128 = 0x2001_0db9 << 96 | 5;
const NEAR: u128 = 0x2001_0db8 << 96 | 5;
const ALL_NODES: u128 = 0xff02 << 112 | 1;
const SOLICITED: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

/// ICMPv6 messages among these frames: from whom, to whom, hops, and the message behind what stands in front of it.
fn messages(frames: &[Vec<u8>]) -> Vec<(u128, u128, u8, Vec<u8>)> {
    let address = |frame: &[u8], at: usize| u128::from_be_bytes(*frame[at..].first_chunk().expect("long enough"));
    let read = |frame: &Vec<u8>| {
        if be16(frame, 12) != Some(0x86dd) {
            return None;
        }
        let start = if frame[20] == 0 { 62 } else { 54 };
        let protocol = if frame[20] == 0 { frame[54] } else { frame[20] };
        if protocol != ICMPV6 {
            return None;
        }
        assert!(checksum::segment_valid(&frame[22..54], ICMPV6, &frame[start..]), "{frame:x?}");
        Some((address(frame, 22), address(frame, 38), frame[21], frame[start..].to_vec()))
    };
    frames.iter().filter_map(read).collect()
}

/// What a router advertises to all.
fn advert(lifetime: u16, valid: u32, flags: u8) -> Vec<u8> {
    let mut message = [&[134, 0, 0, 0, 64, 0][..], &lifetime.to_be_bytes(), &[0; 8], &[1, 1], &ROUTER_MAC].concat();
    message.extend([3, 4, 64, flags]);
    message.extend(valid.to_be_bytes());
    message.extend(valid.to_be_bytes());
    message.extend([0; 4]);
    message.extend((GLOBAL >> 64 << 64).to_be_bytes());
    let server: u128 = 0x2001_0db8 << 96 | 53;
    message.extend([&[25, 3, 0, 0][..], &valid.to_be_bytes(), &server.to_be_bytes()].concat());
    to_all(ipv6(ROUTER_MAC, ROUTER, ALL_NODES, 255, ICMPV6, &message))
}

fn to_all(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame
}

/// A neighbour's word about this address.
fn neighbour(kind: u8, from: u128, target: u128) -> Vec<u8> {
    let mut message = [kind, 0, 0, 0, 0x20, 0, 0, 0].to_vec();
    message.extend(target.to_be_bytes());
    to_all(ipv6([2, 0, 0, 0, 0, 9], from, if kind == 135 { SOLICITED } else { ALL_NODES }, 255, ICMPV6, &message))
}

/// Lets time pass, and returns the messages that were sent in it.
async fn wait(sim: &mut Sim, milliseconds: u64) -> Vec<(u128, u128, u8, Vec<u8>)> {
    let mut all = Vec::new();
    for _ in 0..milliseconds / 50 {
        sleep(Duration::from_millis(50)).await;
        all.extend(turn(sim).await);
    }
    messages(&all)
}

#[test]
fn an_address_is_made_of_what_a_router_says() {
    let mut sim = machine("ip6=auto");
    block_on(async {
        serve_echo(7);
        let said = wait(&mut sim, 1_500).await;
        let of = |kind: u8| said.iter().filter(|(.., message)| message[0] == kind).cloned().collect::<Vec<_>>();
        // Two reports of our one group, a question whether somebody has the address, one for routers.
        let reports = of(143);
        assert_eq!(
            (reports.len(), reports[0].0, reports[1].0),
            (2, 0, LOCAL),
            "from nobody before it is known to be free"
        );
        assert_eq!((reports[0].1, reports[0].2), (0xff02 << 112 | 0x16, 1));
        assert_eq!((&reports[0].3[6..10], &reports[0].3[12..]), (&[0, 1, 4, 0][..], &SOLICITED.to_be_bytes()[..]));
        let probes = of(135);
        assert_eq!((probes.len(), probes[0].0, probes[0].1, probes[0].2), (1, 0, SOLICITED, 255));
        assert_eq!((probes[0].3.len(), &probes[0].3[8..24]), (24, &LOCAL.to_be_bytes()[..]));
        let questions = of(133);
        assert_eq!((questions.len(), questions[0].0, questions[0].1), (1, LOCAL, 0xff02 << 112 | 2));
        assert_eq!((said.len(), global_ipv6_addr()), (4, None));
        // The router answers; the address is asked for, and used a second later.
        let probes = messages(&ask(&mut sim, &advert(1800, 3600, 0xc0)).await);
        assert_eq!((probes.len(), probes[0].0, &probes[0].3[8..24]), (1, 0, &GLOBAL.to_be_bytes()[..]));
        assert_eq!((wait(&mut sim, 900).await.len(), global_ipv6_addr()), (0, None));
        wait(&mut sim, 200).await;
        assert_eq!(global_ipv6_addr(), Some(Ipv6Addr::from_bits(GLOBAL)));
        assert_eq!((ipv6_addr(), ipv4_addr()), (Some(Ipv6Addr::from_bits(LOCAL)), None));
        assert_eq!(with(|stack| Ok(stack.name_servers().len())), Ok(1), "and there is a name server");
        // A neighbour asks for it.
        let solicit = neighbour(135, NEAR, GLOBAL);
        let answers = messages(&ask(&mut sim, &solicit).await);
        assert_eq!((answers.len(), answers[0].0, answers[0].3[0]), (1, GLOBAL, 136));
        // Somebody far away connects: the way back is the router.
        let syn = [0x12, 0x34, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0x20, 0, 0, 0, 0, 0];
        let frames = ask(&mut sim, &ipv6(ROUTER_MAC, FAR, GLOBAL, 60, TCP, &syn)).await;
        assert_eq!(
            (frames.len(), &frames[0][..6], &frames[0][22..38]),
            (1, &ROUTER_MAC[..], &GLOBAL.to_be_bytes()[..])
        );
        let [seq, _] = [58, 62].map(|at| be32(&frames[0], at).expect("long enough"));
        let mut hello = [0x12, 0x34, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0x50, ACK, 0x20, 0, 0, 0, 0, 0].to_vec();
        hello[8..12].copy_from_slice(&seq.wrapping_add(1).to_be_bytes());
        hello.extend(b"hello");
        let frames = ask(&mut sim, &ipv6(ROUTER_MAC, FAR, GLOBAL, 60, TCP, &hello)).await;
        assert!(frames.iter().any(|frame| frame.ends_with(b"hello") && frame[22..38] == GLOBAL.to_be_bytes()));
        // But not at an address that its answers would not come from.
        assert!(ask(&mut sim, &ipv6(ROUTER_MAC, FAR, LOCAL, 60, TCP, &syn)).await.is_empty());
        // Datagrams go to neighbours and by the router.
        let socket = UdpSocket::bind(9).expect("free");
        socket.send_to(b"x", SocketAddr::new(Ipv6Addr::from_bits(FAR).into(), 9)).await.expect("room");
        let frames = turn(&mut sim).await;
        assert_eq!(
            (&frames[0][..6], frames[0][20], &frames[0][22..38]),
            (&ROUTER_MAC[..], UDP, &GLOBAL.to_be_bytes()[..])
        );
        socket.send_to(b"x", SocketAddr::new(Ipv6Addr::from_bits(NEAR).into(), 9)).await.expect("room");
        let asked = messages(&turn(&mut sim).await);
        assert_eq!((asked[0].3[0], &asked[0].3[8..24]), (135, &NEAR.to_be_bytes()[..]));
        drop(socket);
        // The router is asked again before it runs out, and says no more: first the way out is gone, and then the address.
        awake(1_300).await;
        assert!(turn(&mut sim).await.len() < 100);
        awake(100).await;
        let questions = messages(&turn(&mut sim).await);
        assert!(questions.iter().any(|(.., message)| message[0] == 133), "{questions:?}");
        awake(500).await;
        turn(&mut sim).await;
        assert!(!with(|stack| Ok(stack.link.reaches(FAR))).expect("a network"));
        assert!(with(|stack| Ok(stack.link.reaches(NEAR))).expect("a network"));
        for _ in 0..17 {
            awake(100).await;
            turn(&mut sim).await;
        }
        assert_eq!(global_ipv6_addr(), None);
    });
}

#[test]
fn what_another_host_has_is_not_used() {
    let mut sim = machine("ip6=auto");
    block_on(async {
        wait(&mut sim, 1_500).await;
        ask(&mut sim, &advert(1800, 3600, 0xc0)).await;
        ask(&mut sim, &neighbour(136, NEAR, GLOBAL)).await;
        wait(&mut sim, 3_000).await;
        assert_eq!(global_ipv6_addr(), None);
        assert!(Sim::console().contains("2001:db8::46:4bff:fe00:0 is used by another host"), "{}", Sim::console());
    });
    // The same for the link-local one: then routers are not even asked.
    let mut sim = machine("ip6=auto");
    block_on(async {
        turn(&mut sim).await;
        ask(&mut sim, &neighbour(135, 0, LOCAL)).await;
        let said = wait(&mut sim, 10_000).await;
        assert!(said.iter().all(|(.., message)| message[0] != 133), "{said:?}");
        ask(&mut sim, &advert(1800, 3600, 0xc0)).await;
        wait(&mut sim, 3_000).await;
        assert_eq!(global_ipv6_addr(), None);
    });
}

#[test]
fn adverts_that_no_router_can_have_sent_are_nothing() {
    let mut sim = machine("ip6=auto");
    block_on(async {
        wait(&mut sim, 1_500).await;
        let good = advert(1800, 3600, 0xc0);
        let mut far = good.clone();
        far[21] = 254;
        let mut global = good.clone();
        global[22..38].copy_from_slice(&NEAR.to_be_bytes());
        let not_for_addresses = advert(1800, 3600, 0x80);
        for mut frame in [far, global, not_for_addresses] {
            checksum::fill(&mut frame);
            assert!(messages(&ask(&mut sim, &frame).await).is_empty());
        }
        // One without an option is one.
        let bare = [&[134, 0, 0, 0, 64, 0, 0, 9][..], &[0; 8]].concat();
        ask(&mut sim, &to_all(ipv6(ROUTER_MAC, ROUTER, ALL_NODES, 255, ICMPV6, &bare))).await;
        assert_eq!(with(|stack| Ok(stack.link.router())), Ok(ROUTER));
        assert_eq!(messages(&ask(&mut sim, &good).await).len(), 1);
    });
    // Who does not ask for an address makes none, and asks nobody.
    let mut sim = machine("");
    block_on(async {
        assert!(wait(&mut sim, 5_000).await.is_empty());
        ask(&mut sim, &advert(1800, 3600, 0xc0)).await;
        assert!(wait(&mut sim, 5_000).await.is_empty());
        assert_eq!(global_ipv6_addr(), None);
    });
}

/// A router's question who listens to this group, with an answer within `code` milliseconds.
fn query(group: u128, code: u16, from: u128) -> Vec<u8> {
    let mut message =
        [&[130, 0, 0, 0][..], &code.to_be_bytes(), &[0; 2], &group.to_be_bytes(), &[2, 125, 0, 0]].concat();
    let plain = ipv6(ROUTER_MAC, from, ALL_NODES, 1, ICMPV6, &message);
    message = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0], &plain[54..]].concat();
    let mut frame = ipv6(ROUTER_MAC, from, ALL_NODES, 1, 59, &message);
    frame[20] = 0;
    // Without the checksum that was filled in for an unknown protocol.
    frame[54..].copy_from_slice(&message);
    to_all(frame)
}

#[test]
fn routers_that_ask_who_listens_are_told() {
    let mut sim = machine("");
    block_on(async {
        for group in [0, SOLICITED] {
            let mut said = messages(&ask(&mut sim, &query(group, 1_000, ROUTER)).await);
            said.extend(wait(&mut sim, 1_100).await);
            assert_eq!((said.len(), said[0].0, said[0].1), (1, LOCAL, 0xff02 << 112 | 0x16));
            assert_eq!((said[0].3[0], said[0].3[8], &said[0].3[12..]), (143, 2, &SOLICITED.to_be_bytes()[..]));
        }
        // Another group, and one who is no neighbour.
        for frame in [query(SOLICITED + 1, 1_000, ROUTER), query(0, 1_000, FAR)] {
            let mut said = messages(&ask(&mut sim, &frame).await);
            said.extend(wait(&mut sim, 1_100).await);
            assert!(said.is_empty(), "{said:?}");
        }
        // Something that nobody knows in a packet for all is not answered.
        let mut problem = query(0, 1_000, ROUTER);
        problem[56..58].copy_from_slice(&[0xbe, 2]);
        let said = messages(&ask(&mut sim, &problem).await);
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(GUEST_MAC[0] & 1, 0);
    });
}

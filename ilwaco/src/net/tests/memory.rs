//! What becomes of clients, and of what they send, where the machine has little memory, or none.

use super::super::frame::{ACK, Flow, RST};
use super::super::place::Place;
use super::super::*;
use super::ARGS;
use super::crafted::{Host, ask, icmp, machine, turn};
use super::pieces::cut;
use super::serve_echo;
use crate::memory::STACK_PAGES;
use crate::sim::{GUEST, Sim};
use crate::task::spawn;
use crate::time::{Duration, sleep, timeout};
use crate::{block_on, has_memory_for, task, time};
use std::vec::Vec;

/// Kept while so many connections are there, of which so many have no task yet, in bytes.
fn kept(live: usize, queued: usize) -> usize {
    1024 + live * PROMISED_BYTES + queued * 2048
}

#[test]
fn who_is_in_has_what_was_promised_before_anybody_else() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        Sim::leave(1000);
        assert!(has_memory_for(1000) && !has_memory_for(1001), "nothing is kept for nobody");
        for live in 1..=3 {
            let mut host = Host::new(u16::try_from(live).expect("few"), 7);
            host.knock(&mut sim).await;
            // One byte too few, and then as many as it takes.
            let needs = CONNECTION_BYTES + kept(live, 1);
            Sim::leave(needs - 1);
            let ack = host.next(ACK, &[]);
            ask(&mut sim, &ack).await;
            assert_eq!(connections(), (0, live - 1));
            Sim::leave(needs);
            ask(&mut sim, &ack).await;
            assert_eq!(connections(), (0, live));
            Sim::leave(kept(live, 0) + 1000);
            assert!(has_memory_for(1000) && !has_memory_for(1001), "{live}");
        }
        assert_eq!(net_counters().refused_connections, 3);
    });
}

#[test]
fn what_has_a_place_for_each_connection_grows_only_where_there_is_memory() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let sizes = || {
            let own = |stack: &mut Stack| {
                Ok([stack.places.capacity() * size_of::<Place>(), stack.flows.capacity() * size_of::<(Flow, usize)>()])
            };
            let [places, flows] = with(own).expect("a network");
            [places, flows, task::bytes(), time::bytes()]
        };
        // What there is beside what is kept, while there is memory for the socket.
        let there = CONNECTION_BYTES + kept(1, 1) - kept(0, 0);
        for n in 1..=700 {
            let live = connections().1 + 1;
            let mut host = Host::new(n, 7);
            host.knock(&mut sim).await;
            let ack = host.next(ACK, &[]);
            let before = sizes();
            Sim::leave(CONNECTION_BYTES + kept(live, 1));
            ask(&mut sim, &ack).await;
            for (before, after) in before.into_iter().zip(sizes()) {
                assert!(after <= before || after <= there, "connection {n}: {before} to {after} bytes");
            }
            Sim::leave(usize::MAX);
            if connections() != (0, live) {
                // Who waits longest may have made room.
                ask(&mut sim, &ack).await;
            }
        }
        assert!(sizes().iter().all(|size| *size > there), "all had to: {:?}", sizes());
    });
}

#[test]
fn who_is_idle_makes_room_after_memory_was_given_back() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut hosts: Vec<_> = (1..=9).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.connect(&mut sim).await;
            host.say(&mut sim, b"hello").await;
        }
        sleep(Duration::from_secs(2)).await;
        shrink();
        // No more than what was promised to those who are in.
        Sim::leave(kept(9, 0));
        let mut host = Host::new(10, 7);
        host.knock(&mut sim).await;
        let ack = host.next(ACK, &[]);
        ask(&mut sim, &ack).await;
        let counters = net_counters();
        assert_eq!((counters.refused_connections, counters.dismissed_connections), (1, 3));
        // The peers hear the end, and a socket is kept for who was refused, although nothing happens for a while. Nothing of what tasks leave serves another.
        let closing = turn(&mut sim).await;
        for host in &mut hosts {
            if !host.listen(&closing).is_empty() {
                let end = host.next(ACK, &[]);
                ask(&mut sim, &end).await;
            }
        }
        sleep(Duration::from_millis(900)).await;
        shrink();
        ask(&mut sim, &ack).await;
        assert_eq!((connections(), net_counters().refused_connections), ((0, 7), 1));
        // And not for long.
        sleep(Duration::from_secs(6)).await;
        shrink();
        assert_eq!(with(|stack| Ok(stack.spare.len())), Ok(0));
    });
}

#[test]
fn without_pages_nothing_is_taken_in_and_nothing_sent() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let word = host.next(ACK, b"hello");
        assert_eq!(host.listen(&ask(&mut sim, &word).await)[0].data, b"hello", "which is not acknowledged");
        Sim::run_dry(true);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(turn(&mut sim).await.len(), 0, "nothing is sent again");
        assert_eq!(net_counters().dismissed_connections, 1);
        let ping = icmp(host.mac, host.ip, GUEST, [8, 0], [0, 1, 0, 1], b"ping");
        assert_eq!(ask(&mut sim, &ping).await.len(), 0);
        Sim::run_dry(false);
        sleep(Duration::from_millis(50)).await;
        let frames = turn(&mut sim).await;
        assert!(frames.iter().any(|frame| frame[34..36] == [0, 0] && frame.ends_with(b"ping")), "it has waited");
    });
}

#[test]
fn nobody_accepts_what_was_given_up_before() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        sleep(Duration::from_millis(100)).await;
        Sim::run_dry(true);
        let ping = icmp(host.mac, host.ip, GUEST, [8, 0], [0, 1, 0, 1], b"ping");
        ask(&mut sim, &ping).await;
        assert_eq!((net_counters().dismissed_connections, connections()), (1, (0, 0)));
        Sim::run_dry(false);
        sleep(Duration::from_millis(50)).await;
        Sim::leave(CONNECTION_BYTES + kept(1, 1));
        let mut host = Host::new(2, 7);
        host.connect(&mut sim).await;
        assert_eq!(connections(), (0, 1), "nothing is kept for the one that is gone");
        let mut stream = listener.accept().await.expect("open");
        host.say(&mut sim, b"hello").await;
        let mut bytes = [0; 8];
        assert_eq!(stream.read(&mut bytes).await, Ok(5));
        assert!(timeout(Duration::from_millis(100), listener.accept()).await.is_err(), "there was one");
        // A listener that goes takes along what is kept for those that it has not accepted.
        let mut host = Host::new(3, 7);
        Sim::leave(usize::MAX);
        host.connect(&mut sim).await;
        drop(listener);
        Sim::leave(kept(1, 0) + 1000);
        assert!(has_memory_for(1000) && !has_memory_for(1001));
    });
}

#[test]
fn who_becomes_somebody_else_keeps_nothing_for_the_connections_that_were() {
    let mut sim = machine(ARGS);
    block_on(async {
        let _listener = TcpListener::bind(7).expect("free");
        Host::new(1, 7).connect(&mut sim).await;
        Sim::leave(kept(1, 1) + 10);
        assert!(has_memory_for(10) && !has_memory_for(11));
        let _ = with(|stack| {
            stack.forget_connections();
            Ok(())
        });
        assert!(has_memory_for(kept(1, 1)));
    });
}

#[test]
fn who_has_no_connection_and_enough_of_its_reserve_asks_for_no_pages() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        let ping = icmp(host.mac, host.ip, GUEST, [8, 0], [0, 1, 0, 1], b"ping");
        Sim::run_dry(true);
        let pages = u32::try_from(STACK_PAGES).expect("few");
        Sim::hold(pages + 11, 12);
        assert_eq!(ask(&mut sim, &ping).await.len(), 0, "a page too few");
        Sim::run_dry(false);
        sleep(Duration::from_millis(100)).await;
        assert_eq!(turn(&mut sim).await.len(), 1, "it has waited");
        Sim::run_dry(true);
        Sim::hold(pages + 12, 12);
        assert_eq!(ask(&mut sim, &ping).await.len(), 1, "the machine keeps them for it");
        // Whoever has a connection takes more, of which nobody knows how much.
        Sim::run_dry(false);
        host.connect(&mut sim).await;
        Sim::run_dry(true);
        assert_eq!(ask(&mut sim, &ping).await.len(), 0);
    });
}

#[test]
fn pieces_are_not_kept_without_memory() {
    let mut sim = machine(ARGS);
    block_on(async {
        let ping = icmp([2, 1, 0, 0, 0, 9], [10, 0, 2, 9], GUEST, [8, 0], [0, 1, 0, 1], &[7; 3000]);
        let mut answers = Vec::new();
        for (id, left) in [(1, 0), (2, usize::MAX), (3, 4000)] {
            Sim::leave(left);
            for piece in cut(&ping, id) {
                answers.extend(ask(&mut sim, &piece).await);
            }
            let assembled = if left == usize::MAX { 1 } else { net_counters().assembled_datagrams };
            assert_eq!((answers.len(), assembled), if id == 1 { (0, 0) } else { (3, 1) }, "{id}");
        }
    });
}

#[test]
fn a_program_is_told_that_there_is_no_memory_and_can_go_on() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let mut stream = listener.accept().await.expect("open");
        static BODY: [u8; 100] = [b'x'; 100];
        let body = || Repeated::new(Summed::none(&BODY), 0, 100);
        Sim::run_short(true);
        assert_eq!(stream.send(b"head", body()).await, Err(Error::NoMemory));
        stream.write_all(b"tail").await.expect("from the socket");
        let has_bulk = |stack: &mut Stack| Ok(stack.places.iter().any(|place| place.bulk.is_some()));
        let frames = turn(&mut sim).await;
        assert_eq!(host.listen(&frames)[0].data, b"tail");
        let acknowledged = host.segment(ACK, &[], &[]);
        ask(&mut sim, &acknowledged).await;
        // More than the socket holds goes beside it where there is memory.
        let all: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sent = all.clone();
        spawn(async move {
            stream.write_all(&sent).await.expect("open");
            let mut buffer = Vec::new();
            assert_eq!(stream.read_onto(&mut buffer, 100).await, Err(Error::NoMemory));
            Sim::run_short(false);
            assert_eq!(stream.read_onto(&mut buffer, 100).await, Ok(5), "what has come can still be read");
            stream.write_all(&buffer).await.expect("open");
            stream.sent(0).await.expect("open");
        })
        .expect("room");
        let question = host.next(ACK, b"hello");
        let mut frames = ask(&mut sim, &question).await;
        let mut got = Vec::new();
        for _ in 0..100 {
            for heard in host.listen(&frames) {
                assert_eq!(heard.flags & RST, 0);
                got.extend(heard.data);
            }
            if got.len() + SEND_BYTES < all.len() {
                assert_eq!(with(has_bulk), Ok(false), "copies take memory");
            }
            if got.len() == all.len() + 5 {
                break;
            }
            let acknowledged = host.segment(ACK, &[], &[]);
            frames = ask(&mut sim, &acknowledged).await;
        }
        assert!(got == [all.as_slice(), b"hello"].concat(), "{} bytes", got.len());
    });
}

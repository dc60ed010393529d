//! Many clients at once, and clients that are none.

use super::super::frame::{ACK, RST, SYN};
use super::super::*;
use super::crafted::{Host, ask, machine, turn};
use super::serve_echo;
use crate::block_on;
use crate::sim::Sim;
use crate::task::{spawn, yield_now};
use crate::time::{Duration, sleep};
use std::vec::Vec;

const ARGS: &str = "ip=10.0.2.16/16 gw=10.0.2.2";

#[test]
fn a_thousand_connections_at_once_none_is_lost() {
    let mut sim = machine(ARGS);
    let mut hosts: Vec<_> = (0..1000).map(|n| Host::new(n, 7)).collect();
    block_on(async {
        serve_echo(7);
        // Every SYN before every acknowledgement, and these before any data.
        for host in &mut hosts {
            host.knock(&mut sim).await;
        }
        assert_eq!(connections(), (0, 0), "nothing is kept of a handshake that is not complete");
        for host in &mut hosts {
            let ack = host.next(ACK, &[]);
            let frames = ask(&mut sim, &ack).await;
            assert!(host.listen(&frames).is_empty(), "no reset");
        }
        assert_eq!(connections(), (0, 1000));
        for host in &mut hosts {
            let heard = host.say(&mut sim, b"hello").await;
            assert!(heard.iter().any(|heard| heard.data == b"hello"), "{heard:?}");
        }
    });
    assert_eq!(net_counters(), NetCounters::default());
}

#[test]
fn whom_memory_does_not_carry_is_not_let_in_and_nobody_else_notices() {
    let mut sim = machine(ARGS);
    let hello = |heard: &[super::crafted::Heard]| heard.iter().any(|heard| heard.data == b"hello");
    block_on(async {
        serve_echo(7);
        // One that has gone has left a socket, but nobody knows that there is memory for what serves the next one.
        let mut hosts: Vec<_> = (0..3).map(|n| Host::new(n, 7)).collect();
        hosts[0].connect(&mut sim).await;
        let reset = hosts[0].next(RST | ACK, &[]);
        ask(&mut sim, &reset).await;
        hosts[1].connect(&mut sim).await;
        assert!(hello(&hosts[1].say(&mut sim, b"hello").await));
        assert_eq!(connections(), (0, 1));
        Sim::run_short(true);
        hosts[2].knock(&mut sim).await;
        let ack = hosts[2].next(ACK, &[]);
        assert_eq!(ask(&mut sim, &ack).await.len(), 0, "no word: it may try again");
        assert_eq!((connections(), net_counters().refused_connections), ((0, 1), 1));
        assert!(hello(&hosts[1].say(&mut sim, b"hello").await), "who is in is served");
        Sim::run_short(false);
        assert_eq!(ask(&mut sim, &ack).await.len(), 0);
        assert_eq!(connections(), (0, 2));
        assert!(hello(&hosts[2].say(&mut sim, b"hello").await));
    });
}

#[test]
fn who_cannot_say_a_word_for_want_of_memory_gives_connections_up() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut hosts: Vec<_> = (0..3).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.connect(&mut sim).await;
        }
        sleep(Duration::from_millis(100)).await;
        Sim::run_dry(true);
        let word = hosts[2].next(ACK, b"hello");
        assert_eq!(ask(&mut sim, &word).await.len(), 0);
        assert_eq!((connections(), net_counters().dismissed_connections), ((0, 2), 1), "one makes room");
        // What they have had is enough.
        Sim::run_dry(false);
        sleep(Duration::from_millis(50)).await;
        let mut next = Host::new(7, 7);
        next.connect(&mut sim).await;
        assert!(next.say(&mut sim, b"hello").await.iter().any(|heard| heard.data == b"hello"));
    });
}

#[test]
fn a_client_whose_packet_has_started_the_vm_is_not_refused() {
    let mut sim = machine(ARGS);
    let mut host = Host::new(1, 7);
    // It lies in the ring before the program's first instruction.
    assert!(sim.deliver(&host.next(SYN, &[])));
    block_on(async {
        // Servers begin with other things than their socket.
        let server = async {
            yield_now().await;
            serve_echo(7);
        };
        spawn(server).expect("room");
        let frames = turn(&mut sim).await;
        let heard: Vec<_> = host.listen(&frames).iter().map(|heard| heard.flags).collect();
        assert_eq!(heard, [SYN | ACK]);
        let ack = host.next(ACK, &[]);
        assert!(host.listen(&ask(&mut sim, &ack).await).is_empty());
        assert!(host.say(&mut sim, b"hello").await.iter().any(|heard| heard.data == b"hello"));
    });
}

#[test]
fn one_that_never_awaits_does_not_keep_the_network_out() {
    let mut sim = machine(ARGS);
    let mut host = Host::new(1, 7);
    assert!(sim.deliver(&host.next(SYN, &[])));
    block_on(async {
        serve_echo(7);
        spawn(async {
            loop {
                yield_now().await;
            }
        })
        .expect("room");
        for _ in 0..100 {
            yield_now().await;
        }
        let frames: Vec<_> = core::iter::from_fn(|| sim.collect()).collect();
        assert_eq!(host.listen(&frames).len(), 1);
    });
}

#[test]
fn a_flood_of_syns_costs_nothing_and_keeps_nobody_out() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut far = Host::new(5000, 7);
        far.knock(&mut sim).await;
        // Ten thousand in the second that it takes the client to answer.
        for n in 0..10_000u32 {
            let [_, _, high, low] = n.to_be_bytes();
            let mut flood = Host::new(1, 7);
            (flood.ip, flood.seq) = ([10, 0, 100 + high, low], n);
            let frames = ask(&mut sim, &flood.segment(SYN, &[], &[])).await;
            assert_eq!(flood.listen(&frames).len(), 1);
            if n % 1000 == 0 {
                assert_eq!(far.clone().say(&mut sim, b"").await, [], "in between, too");
            }
        }
        with(|stack| {
            assert!(stack.places.len() <= 1 && stack.spare.is_empty(), "no socket for any of them");
            Ok(())
        })
        .expect("a network");
        let heard = far.say(&mut sim, b"still there").await;
        assert!(heard.iter().any(|heard| heard.data == b"still there"), "{heard:?}");
    });
}

#[test]
fn who_finds_no_room_is_served_when_there_is() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        with(|stack| {
            stack.most = 2;
            Ok(())
        })
        .expect("a network");
        let mut hosts: Vec<_> = (0..3).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.connect(&mut sim).await;
        }
        let waiting = hosts[2].clone();
        let mut last = hosts.pop().expect("three");
        assert_eq!(last.say(&mut sim, b"hello").await, [], "no room, and no reset");
        assert_eq!(net_counters().refused_connections, 2);
        // One of the others ends.
        let fin = hosts[0].next(super::super::frame::FIN | ACK, &[]);
        let frames = ask(&mut sim, &fin).await;
        hosts[0].listen(&frames);
        let ack = hosts[0].next(ACK, &[]);
        ask(&mut sim, &ack).await;
        // The client sends again.
        let mut last = waiting;
        let heard = last.say(&mut sim, b"hello").await;
        assert!(heard.iter().any(|heard| heard.data == b"hello"), "{heard:?}");
    });
}

#[test]
fn what_completes_no_handshake_is_reset() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        host.knock(&mut sim).await;
        for (seq, ack) in [(host.seq, host.ack + 1), (host.seq + 1, host.ack), (host.seq, host.ack ^ 0x100)] {
            let heard = host.forge(&mut sim, ACK, seq, ack, b"x").await;
            assert_eq!((heard.len(), heard[0].flags, heard[0].seq), (1, RST, ack));
        }
        let other = Host { ports: (1, 7), ..host.clone() };
        let frames = ask(&mut sim, &other.segment(ACK, &[], &[])).await;
        assert_eq!(frames.len(), 1);
        // Without an acknowledgement the answer is one to what was sent; a reset is not answered.
        let heard = host.forge(&mut sim, 0, 100, 0, b"abc").await;
        assert_eq!((heard[0].flags, heard[0].seq, heard[0].ack), (RST | ACK, 0, 103));
        assert_eq!(host.forge(&mut sim, RST, 100, 0, b"").await, []);
        assert_eq!(connections(), (0, 0));
        // A handshake holds for a while, as what completes it may get lost again and again, and not for ever.
        sleep(Duration::from_secs(60)).await;
        let mut late = host.clone();
        assert_eq!(late.say(&mut sim, b"in time").await.last().map(|heard| heard.data.len()), Some(7));
        let mut host = Host::new(2, 7);
        host.knock(&mut sim).await;
        sleep(Duration::from_secs(129)).await;
        turn(&mut sim).await;
        assert_eq!(host.say(&mut sim, b"late").await[0].flags, RST);
    });
}

#[test]
fn a_late_segment_does_not_begin_anew_what_is_over() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let duplicate = host.segment(ACK, &[], b"once");
        host.say(&mut sim, b"once").await;
        let fin = host.next(super::super::frame::FIN | ACK, &[]);
        let frames = ask(&mut sim, &fin).await;
        host.listen(&frames);
        let ack = host.next(ACK, &[]);
        ask(&mut sim, &ack).await;
        assert_eq!(connections(), (0, 0));
        let frames = ask(&mut sim, &duplicate).await;
        assert_eq!(host.clone().listen(&frames)[0].flags, RST);
        assert_eq!(connections(), (0, 0), "the request is not carried out twice");
        // The same ports may be used again.
        let mut again = Host { seq: host.seq + 5, ..host };
        again.connect(&mut sim).await;
        assert_eq!(connections(), (0, 1));
    });
}

#[test]
fn what_the_peer_offers_is_kept_in_the_answer() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        for (options, answered) in [
            (linux.as_slice(), [2, 4, 5, 0xb4, 3, 3, 0, 1, 4, 2, 1, 1].as_slice()),
            (&[2, 4, 2, 0x18], &[2, 4, 5, 0xb4]),
            (&[], &[2, 4, 5, 0xb4]),
        ] {
            let mut host = Host::new(u16::try_from(options.len()).expect("few"), 7);
            let frames = ask(&mut sim, &host.segment(SYN, options, &[])).await;
            host.seq += 1;
            let heard = host.listen(&frames);
            assert_eq!(heard[0].options, answered);
            let heard = host.say(&mut sim, &[b'x'; 1400]).await;
            let longest = heard.iter().map(|heard| heard.data.len()).max();
            assert_eq!(longest, Some(if options.len() == 20 { 1400 } else { 536 }));
        }
    });
}

#[test]
fn what_arrives_is_acknowledged_soon_and_what_lies_behind_a_gap_is_named() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            while stream.read(&mut [0; 99]).await.is_ok_and(|len| len > 0) {}
        })
        .expect("room");
        let mut host = Host::new(1, 7);
        let frames = ask(&mut sim, &host.segment(SYN, &[2, 4, 5, 0xb4, 4, 2, 1, 1], &[])).await;
        host.seq += 1;
        host.listen(&frames);
        let ack = host.next(ACK, &[]);
        assert!(ask(&mut sim, &ack).await.is_empty());
        // An answer could take the acknowledgement with it.
        let data = host.next(ACK, b"one");
        assert!(ask(&mut sim, &data).await.is_empty());
        sleep(Duration::from_millis(12)).await;
        let heard = host.listen(&turn(&mut sim).await);
        assert_eq!((heard.len(), heard[0].flags, heard[0].ack), (1, ACK, host.seq));
        // Behind a gap: at once (RFC 5681 4.2), and with its range (RFC 2018).
        let behind = Host { seq: host.seq + 100, ..host.clone() };
        let heard = host.listen(&ask(&mut sim, &behind.segment(ACK, &[], b"three")).await);
        assert_eq!((heard.len(), heard[0].flags, heard[0].ack), (1, ACK, host.seq));
        let range = [behind.seq.to_be_bytes(), (behind.seq + 5).to_be_bytes()].concat();
        assert!(heard[0].options.windows(8).any(|bytes| bytes == range), "{:?}", heard[0].options);
        // The gap is filled: all of it is acknowledged.
        let filling = host.segment(ACK, &[], &[b'2'; 100]);
        ask(&mut sim, &filling).await;
        sleep(Duration::from_millis(12)).await;
        host.seq += 105;
        let last = host.next(ACK, b"six");
        let mut frames = ask(&mut sim, &last).await;
        sleep(Duration::from_millis(12)).await;
        frames.extend(turn(&mut sim).await);
        assert_eq!(host.listen(&frames).last().map(|heard| heard.ack), Some(host.seq));
    });
}

//! How connections end, and who makes room for whom.

use super::super::frame::{ACK, FIN, RST, SYN};
use super::super::*;
use super::crafted::{Heard, Host, ask, heard, machine, turn};
use super::serve_echo;
use crate::block_on;
use crate::sim::Sim;
use crate::task::spawn;
use crate::time::{Duration, sleep};
use std::cell::Cell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const ARGS: &str = "ip=10.0.2.16/16 gw=10.0.2.2";

fn limit(most: usize) {
    with(|stack| {
        stack.most = most;
        Ok(())
    })
    .expect("a network");
}

/// Serves one connection that is closed after this time, with this for a last word.
fn serve_once(patience: Duration, last: &'static [u8]) {
    let listener = TcpListener::bind(7).expect("free");
    spawn(async move {
        let mut stream = listener.accept().await.expect("a network");
        sleep(patience).await;
        let _ = stream.write_all(last).await;
    })
    .expect("room");
}

/// What arrives for `host` within this time.
async fn watch(sim: &mut Sim, host: &mut Host, ms: u64) -> Vec<Heard> {
    let mut all = Vec::new();
    for _ in 0..ms / 10 {
        sleep(Duration::from_millis(9)).await;
        let frames = turn(sim).await;
        all.extend(host.listen(&frames));
    }
    all
}

#[test]
fn an_idle_connection_ends_with_an_end_and_not_with_a_reset() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_once(Duration::from_secs(60), b"");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let heard = watch(&mut sim, &mut host, 60_500).await;
        assert!(!heard.is_empty() && heard.iter().all(|heard| heard.flags == FIN | ACK), "{heard:?}");
        let fin = host.next(FIN | ACK, &[]);
        let frames = ask(&mut sim, &fin).await;
        let heard = host.listen(&frames);
        assert_eq!((heard[0].flags, heard[0].ack), (ACK, host.seq));
        assert_eq!(connections(), (0, 0), "what is left needs no place");
        // The acknowledgement was lost: the peer's end comes again, and is acknowledged again.
        let again = Host { seq: host.seq - 1, ..host.clone() };
        let frames = ask(&mut sim, &again.segment(FIN | ACK, &[], &[])).await;
        let heard = host.listen(&frames);
        assert_eq!((heard[0].flags, heard[0].ack), (ACK, host.seq));
    });
}

#[test]
fn what_comes_with_the_last_acknowledgement_is_heard_by_who_keeps_no_socket() {
    // What the peer says when it has got the last word and the end, frame by frame: an acknowledgement of all or of none of it, flags and data.
    type Said = (bool, u8, &'static [u8]);
    let cases: [(&str, &[Said]); 6] = [
        ("its end", &[(true, FIN | ACK, b"")]),
        ("data, and its end", &[(true, FIN | ACK, b"more")]),
        ("data, and then its end", &[(true, ACK, b"more"), (true, FIN | ACK, b"")]),
        (
            "data before, of which it has not been told",
            &[(false, ACK, b"more"), (true, ACK, b""), (true, FIN | ACK, b"")],
        ),
        ("all at once, and late", &[(false, FIN | ACK, b"more"), (true, ACK, b"")]),
        ("twice the same", &[(true, ACK, b"more"), (true, ACK, b""), (true, FIN | ACK, b"")]),
    ];
    for (name, said) in cases {
        let mut sim = machine(ARGS);
        block_on(async {
            serve_once(Duration::from_secs(1), b"last");
            let mut host = Host::new(1, 7);
            host.connect(&mut sim).await;
            let before = host.ack;
            let heard = watch(&mut sim, &mut host, 1100).await;
            assert!(heard.iter().any(|heard| heard.data == b"last" && heard.flags & FIN != 0), "{name}: {heard:?}");
            let all = host.ack;
            assert_eq!(all, before + 5);
            // All of it is there before the VM looks.
            for &(acknowledges, flags, data) in said {
                host.ack = if acknowledges { all } else { before };
                let frame = host.next(flags, data);
                assert!(sim.deliver(&frame), "there is room");
            }
            let frames = turn(&mut sim).await;
            let heard = host.listen(&frames);
            let last = heard.last().expect("an answer");
            assert_eq!((last.flags, last.seq, last.ack), (ACK, all, host.seq), "{name}: {heard:?}");
            assert!(heard.iter().all(|heard| heard.flags & RST == 0), "{name}: {heard:?}");
            assert_eq!(connections(), (0, 0), "{name}");
            assert_eq!(host.say(&mut sim, b"").await, [], "{name}: nothing is left to say");
        });
    }
}

#[test]
fn the_socket_of_a_connection_that_is_through_serves_another_one_at_once() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_once(Duration::from_secs(1), b"last");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        watch(&mut sim, &mut host, 1100).await;
        let fin = host.next(FIN | ACK, &[]);
        assert!(sim.deliver(&fin), "there is room");
        let left = with(|stack| {
            stack.receive(Instant::now());
            Ok((stack.orphans, stack.spare.len(), stack.touched.len()))
        });
        assert_eq!(left, Ok((0, 1, 0)), "and has not heard of the end");
    });
}

#[test]
fn who_breaks_off_what_is_through_may_begin_anew() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                let _ = stream.write_all(b"last").await;
            }
        })
        .expect("room");
        let mut host = Host::new(1, 7);
        for round in 0..3 {
            host.knock(&mut sim).await;
            let ack = host.next(ACK, &[]);
            let frames = ask(&mut sim, &ack).await;
            let heard = host.listen(&frames);
            assert!(heard.iter().any(|heard| heard.data == b"last"), "{round}: {heard:?}");
            let reset = host.next(RST | ACK, &[]);
            assert_eq!(ask(&mut sim, &reset).await, Vec::<Vec<u8>>::new(), "{round}");
            assert_eq!(connections(), (0, 0), "{round}");
        }
    });
}

#[test]
fn a_connection_is_open_until_its_peer_has_sent_all_or_broken_it_off() {
    for end in [FIN | ACK, RST | ACK] {
        let mut sim = machine(ARGS);
        block_on(async {
            let listener = TcpListener::bind(7).expect("free");
            let seen = Rc::new(Cell::new(None));
            let shown = seen.clone();
            spawn(async move {
                let stream = listener.accept().await.expect("a network");
                loop {
                    shown.set(Some(stream.is_open()));
                    sleep(Duration::from_millis(5)).await;
                }
            })
            .expect("room");
            let mut host = Host::new(1, 7);
            host.connect(&mut sim).await;
            host.say(&mut sim, b"still here").await;
            watch(&mut sim, &mut host, 50).await;
            assert_eq!(seen.get(), Some(true));
            let last = host.next(end, &[]);
            ask(&mut sim, &last).await;
            watch(&mut sim, &mut host, 50).await;
            assert_eq!(seen.get(), Some(false), "{end:#x}");
        });
    }
}

#[test]
fn who_still_sends_reads_the_last_word() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_once(Duration::from_secs(12), b"408");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let mut all = Vec::new();
        for _ in 0..200 {
            all.extend(host.say(&mut sim, b"slow").await);
            all.extend(watch(&mut sim, &mut host, 100).await);
        }
        assert!(all.iter().any(|heard| heard.data == b"408"), "{all:?}");
        assert!(all.iter().any(|heard| heard.flags & FIN != 0));
        assert!(all.iter().all(|heard| heard.flags & RST == 0), "no reset takes it away again");
        assert_eq!(all.last().map(|heard| heard.ack), Some(host.seq), "all is acknowledged, and thrown away");
        assert_eq!(connections(), (0, 0), "and needs no place");
        // Not for ever.
        let mut all = Vec::new();
        for _ in 0..100 {
            all.extend(host.say(&mut sim, b"slow").await);
            all.extend(watch(&mut sim, &mut host, 100).await);
        }
        assert!(all.iter().any(|heard| heard.flags & RST != 0));
    });
}

#[test]
fn a_peer_that_takes_nothing_is_broken_off() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_once(Duration::from_secs(1), b"nobody takes this");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let heard = watch(&mut sim, &mut host, 9000).await;
        assert!(heard.iter().all(|heard| heard.flags & RST == 0));
        assert_eq!(connections(), (0, 1));
        let heard = watch(&mut sim, &mut host, 3000).await;
        assert!(heard.iter().any(|heard| heard.flags & RST != 0), "{heard:?}");
        assert_eq!(connections(), (0, 0));
    });
}

#[test]
fn idle_connections_make_room() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        limit(4);
        let mut hosts: Vec<_> = (0..4).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.connect(&mut sim).await;
            host.say(&mut sim, b"first").await;
        }
        sleep(Duration::from_secs(2)).await;
        // All but the second have just said something.
        for index in [0, 2, 3] {
            hosts[index].say(&mut sim, b"busy").await;
        }
        let mut late = Host::new(10, 7);
        late.connect(&mut sim).await;
        let heard = late.say(&mut sim, b"hello").await;
        assert!(heard.iter().any(|heard| heard.data == b"hello"), "{heard:?}");
        assert_eq!(net_counters().dismissed_connections, 1);
        // The idle one has seen its end, and nobody else has.
        let heard = hosts[1].say(&mut sim, b"").await;
        assert!(heard.iter().all(|heard| heard.flags & RST == 0));
        let heard = watch(&mut sim, &mut hosts[1], 3000).await;
        assert!(heard.iter().any(|heard| heard.flags & FIN != 0), "{heard:?}");
        for index in [0, 2, 3] {
            let heard = hosts[index].say(&mut sim, b"still here").await;
            assert!(heard.iter().any(|heard| heard.data == b"still here"));
        }
    });
}

#[test]
fn a_peer_that_has_everything_makes_room_for_one_that_has_nothing() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        limit(8);
        let from = |host: u16, port: u16| Host { ports: (port, 7), ..Host::new(host, 7) };
        let mut greedy: Vec<_> = (0..7).map(|n| from(1, 1000 + n)).collect();
        let mut modest = from(2, 1);
        for host in greedy.iter_mut().chain([&mut modest]) {
            host.connect(&mut sim).await;
        }
        // The greedy one is never idle for long, and would have more.
        sleep(Duration::from_secs(2)).await;
        for host in &mut greedy {
            host.say(&mut sim, b"x").await;
        }
        let mut other = from(3, 1);
        other.connect(&mut sim).await;
        assert!(other.say(&mut sim, b"hello").await.iter().any(|heard| heard.data == b"hello"));
        assert!(modest.say(&mut sim, b"here").await.iter().any(|heard| heard.data == b"here"));
        let mut more = from(1, 2000);
        more.connect(&mut sim).await;
        assert!(more.say(&mut sim, b"more").await.is_empty(), "not before one of its own is idle");
        sleep(Duration::from_secs(2)).await;
        for host in [&mut modest, &mut other] {
            let heard = host.say(&mut sim, b"here").await;
            assert!(heard.iter().any(|heard| heard.data == b"here"));
        }
        let again = Host { seq: more.seq - 4, ..more.clone() }.next(ACK, b"more");
        let frames = ask(&mut sim, &again).await;
        assert!(more.listen(&frames).iter().any(|heard| heard.data == b"more"), "it takes the place of its own");
    });
}

#[test]
fn a_program_that_is_at_work_is_not_disturbed() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                spawn(async move {
                    let mut bytes = [0; 9];
                    let len = stream.read(&mut bytes).await.expect("open");
                    sleep(Duration::from_secs(5)).await;
                    stream.write_all(&bytes[..len]).await.expect("open");
                })
                .expect("room");
            }
        })
        .expect("room");
        limit(1);
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        host.say(&mut sim, b"work").await;
        sleep(Duration::from_secs(2)).await;
        let mut other = Host::new(2, 7);
        other.connect(&mut sim).await;
        let heard = watch(&mut sim, &mut host, 4000).await;
        assert!(heard.iter().any(|heard| heard.data == b"work"), "{heard:?}");
        assert_eq!(net_counters().dismissed_connections, 0);
    });
}

#[test]
fn closing_connections_are_bounded_and_hold_no_place() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                // Written, and closed at once.
                let _ = stream.write_all(b"bye").await;
            }
        })
        .expect("room");
        limit(4);
        for n in 0..500 {
            let mut host = Host::new(n, 7);
            host.connect(&mut sim).await;
            let (_, open) = connections();
            assert!(open <= MAX_CLOSING + 4, "{open}");
        }
        assert_eq!(net_counters(), NetCounters::default(), "nobody had to wait");
    });
}

#[test]
fn blind_resets_and_syns_are_challenged() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        host.say(&mut sim, b"one").await;
        let (seq, ack) = (host.seq, host.ack);
        let challenge =
            |heard: &[Heard]| heard.len() == 1 && (heard[0].flags, heard[0].seq, heard[0].ack) == (ACK, ack, seq);
        // In the window, but not exactly what comes next.
        let heard = host.forge(&mut sim, RST, seq + 100, 0, b"").await;
        assert!(challenge(&heard), "{heard:?}");
        // At most one in half a second.
        for guess in 0..100 {
            assert_eq!(host.forge(&mut sim, RST, seq + 200 + guess, 0, b"").await, []);
        }
        sleep(Duration::from_secs(1)).await;
        // Outside of it: not a word.
        assert_eq!(host.forge(&mut sim, RST, seq.wrapping_sub(5), 0, b"").await, []);
        assert_eq!(host.forge(&mut sim, RST | ACK, seq.wrapping_add(1 << 20), ack, b"").await, []);
        // A SYN, wherever it is.
        for guess in [seq, seq + 50, seq.wrapping_sub(1 << 30)] {
            let heard = host.forge(&mut sim, SYN, guess, 0, b"").await;
            assert!(challenge(&heard), "{heard:?}");
            sleep(Duration::from_secs(1)).await;
        }
        // An acknowledgement of what was never sent, or long ago (RFC 5961 5.2), with data.
        for guess in [ack + 1000, ack.wrapping_sub(1 << 20)] {
            let heard = host.forge(&mut sim, ACK, seq, guess, b"evil").await;
            assert!(challenge(&heard), "{heard:?}");
            sleep(Duration::from_secs(1)).await;
        }
        // None of that has done any harm.
        assert!(host.say(&mut sim, b"two").await.iter().any(|heard| heard.data == b"two"));
        // The exact number ends the connection, before and after it was acknowledged.
        assert_eq!(host.forge(&mut sim, RST, host.seq, 0, b"").await, []);
        assert_eq!(connections(), (0, 0));
        let mut host = Host::new(2, 7);
        host.connect(&mut sim).await;
        let data = host.next(ACK, b"x");
        assert!(sim.deliver(&data));
        host.forge(&mut sim, RST, host.seq, 0, b"").await;
        assert_eq!(connections(), (0, 0));
    });
}

#[test]
fn probes_whether_we_are_there_are_answered() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        host.say(&mut sim, b"hello").await;
        sleep(Duration::from_secs(5)).await;
        let (seq, ack) = (host.seq, host.ack);
        for _ in 0..5 {
            for data in [b"".as_slice(), b"x"] {
                let heard = host.forge(&mut sim, ACK, seq - 1, ack, data).await;
                assert_eq!(heard.len(), 1, "{data:?}");
                assert_eq!((heard[0].flags, heard[0].seq, heard[0].ack), (ACK, ack, seq));
            }
            sleep(Duration::from_millis(300)).await;
        }
        assert!(host.say(&mut sim, b"more").await.iter().any(|heard| heard.data == b"more"));
    });
}

#[test]
fn a_burst_that_ends_at_once_is_delivered_to_the_last_byte() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                let _ = stream.write_all(b"answer").await;
            }
        })
        .expect("room");
        let mut hosts: Vec<_> = (0..500).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.knock(&mut sim).await;
        }
        // All are answered and closed before the first of them acknowledges anything.
        for host in &mut hosts {
            let ack = host.next(ACK, &[]);
            let frames = ask(&mut sim, &ack).await;
            // As if these were lost.
            assert!(host.clone().listen(&frames).iter().any(|heard| heard.data == b"answer"));
        }
        let mut answered = vec![false; hosts.len()];
        for _ in 0..2500 {
            let frames = turn(&mut sim).await;
            for (host, answered) in hosts.iter_mut().zip(&mut answered) {
                for heard in host.listen(&frames) {
                    assert_eq!(heard.flags & RST, 0);
                    *answered |= heard.data == b"answer";
                }
            }
        }
        assert!(answered.iter().all(|&answered| answered));
    });
}

#[test]
fn a_silent_peer_is_asked_within_a_second_of_what_was_set() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        let ended = Rc::new(Cell::new(None));
        let end = ended.clone();
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            stream.set_keep_alive(Some(Duration::from_secs(20)));
            end.set(Some(stream.read(&mut [0]).await));
        })
        .expect("room");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        let mut probes = Vec::new();
        let start = Sim::now();
        for _ in 0..1_000 {
            sleep(Duration::from_millis(100)).await;
            for heard in turn(&mut sim).await.iter().filter_map(|frame| heard(frame)) {
                if heard.flags & RST != 0 {
                    assert_eq!(heard.seq, host.ack, "one that the peer believes");
                    continue;
                }
                assert_eq!((heard.flags, heard.seq.wrapping_add(1), heard.ack), (ACK, host.ack, host.seq));
                probes.push((Sim::now() - start) / 1_000_000_000);
                if probes.len() < 3 {
                    // It is.
                    assert!(ask(&mut sim, &host.segment(ACK, &[], &[])).await.is_empty());
                }
            }
        }
        assert_eq!(probes, [20, 40, 60, 65, 70, 75, 80, 85, 90, 95]);
        assert_eq!(ended.get(), Some(Err(Error::ConnectionReset)));
    });
}

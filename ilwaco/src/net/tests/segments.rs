//! Several segments in one record: what arrives is the same, with fewer records; and acknowledgements of which sockets hear late.

use super::super::checksum;
use super::super::frame::{ACK, FIN, SYN};
use super::super::*;
use super::crafted::{Host, ask, machine, turn};
use super::{ARGS, serve_echo};
use crate::block_on;
use crate::sim::{self, Sim};
use crate::task::spawn;
use crate::time::{Duration, sleep};
use std::cell::Cell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// The answer of `len` bytes to a request of a host that takes segments of this size, in frames.
async fn answer(sim: &mut Sim, host: &mut Host, segment: u16, len: usize) -> Vec<usize> {
    let listener = TcpListener::bind(7).expect("free");
    spawn(async move {
        let mut stream = listener.accept().await.expect("somebody");
        let mut byte = [0; 1];
        while stream.read(&mut byte).await.is_ok_and(|got| got > 0) {
            stream.write_all(&vec![7; len]).await.expect("open");
        }
    })
    .expect("room");
    let [high, low] = segment.to_be_bytes();
    let syn = host.segment(SYN, &[2, 4, high, low], &[]);
    host.seq = host.seq.wrapping_add(1);
    let frames = ask(sim, &syn).await;
    host.listen(&frames);
    let done = host.next(ACK, b"");
    ask(sim, &done).await;
    let request = host.next(ACK, b"?");
    let frames = ask(sim, &request).await;
    host.listen(&frames).iter().map(|heard| heard.data.len()).filter(|len| *len > 0).collect()
}

#[test]
fn what_takes_several_segments_leaves_in_one_record_where_the_machine_takes_it() {
    // A machine that has never heard of it; one that cuts, or whose NIC does; one that takes no more than a frame, and one that takes two.
    for (most, nic_cuts, expected) in
        [(0, false, 0), (0, true, 0), (8_184, false, 1), (8_184, true, 1), (1_514, true, 0), (3_000, true, 1)]
    {
        let mut sim = Sim::new(ARGS);
        sim.takes_segments(most, nic_cuts);
        sim::start();
        let records = sim.records();
        block_on(async {
            let lens = answer(&mut sim, &mut Host::new(1, 7), 1460, 4000).await;
            assert_eq!(lens.iter().sum::<usize>(), 4000, "{most} {nic_cuts}");
        });
        assert_eq!(records.get(), expected, "{most} {nic_cuts}");
    }
}

#[test]
fn frames_are_no_larger_than_the_peer_takes() {
    // What a cookie remembers is one of eight sizes.
    for (segment, cuts) in [(1460, true), (1400, true), (1000, false), (536, false), (300, false)] {
        let mut sim = machine(ARGS);
        let records = sim.records();
        block_on(async {
            let mut host = Host::new(1, 7);
            let lens = answer(&mut sim, &mut host, segment, 4000).await;
            let fits = |len: &usize| *len <= usize::from(segment);
            assert!(lens.iter().all(fits) && lens.iter().sum::<usize>() == 4000, "{segment}: {lens:?}");
        });
        assert_eq!(records.get() > 0, cuts, "{segment}");
    }
}

#[test]
fn an_acknowledgement_of_everything_is_heard_with_the_next_request() {
    let mut sim = machine(ARGS);
    block_on(async {
        serve_echo(7);
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        for round in 0..4_u8 {
            let request = host.next(ACK, &[round; 900]);
            let frames = ask(&mut sim, &request).await;
            assert_eq!(host.listen(&frames).iter().map(|heard| heard.data.len()).sum::<usize>(), 900);
            let heard = host.next(ACK, b"");
            assert!(ask(&mut sim, &heard).await.is_empty());
            // Even where nothing follows for longer than the socket waits with sending again.
            let later = if round == 2 { 3_000 } else { 1 };
            sleep(Duration::from_millis(later)).await;
            assert!(turn(&mut sim).await.is_empty(), "nothing is sent again in round {round}");
        }
        let end = host.next(ACK | FIN, b"");
        let frames = ask(&mut sim, &end).await;
        assert!(host.listen(&frames).iter().any(|heard| heard.flags & FIN != 0));
    });
}

#[test]
fn what_waits_for_the_window_leaves_when_it_opens() {
    let mut sim = machine(ARGS);
    block_on(async {
        let mut host = Host::new(1, 7);
        // Its window is 8,192 bytes.
        let lens = answer(&mut sim, &mut host, 1460, 8_700).await;
        assert_eq!(lens.iter().sum::<usize>(), 8_192);
        let heard = host.next(ACK, b"");
        let frames = ask(&mut sim, &heard).await;
        assert_eq!(host.listen(&frames).iter().map(|heard| heard.data.len()).sum::<usize>(), 508, "at once");
    });
}

#[test]
fn who_waits_for_the_peer_hears_of_it_at_once() {
    let mut sim = machine(ARGS);
    block_on(async {
        let flushed = Rc::new(Cell::new(0));
        let count = flushed.clone();
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("somebody");
            for _ in 0..3 {
                stream.write_all(b"well?").await.expect("open");
                stream.flush().await.expect("open");
                count.set(count.get() + 1);
            }
        })
        .expect("room");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        for round in 0..3 {
            assert_eq!(flushed.get(), round);
            let heard = host.next(ACK, b"");
            let frames = ask(&mut sim, &heard).await;
            let data: usize = host.listen(&frames).iter().map(|heard| heard.data.len()).sum();
            assert_eq!((flushed.get(), data), (round + 1, if round < 2 { 5 } else { 0 }));
        }
    });
}

#[test]
fn who_sends_without_being_asked_fills_no_buffer_with_what_has_arrived() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        let written = Rc::new(Cell::new(0));
        let count = written.clone();
        spawn(async move {
            let mut stream = listener.accept().await.expect("somebody");
            for _ in 0..20 {
                stream.write_all(&[7; 5000]).await.expect("open");
                count.set(count.get() + 1);
                sleep(Duration::from_millis(5)).await;
            }
        })
        .expect("room");
        let mut host = Host::new(1, 7);
        host.connect(&mut sim).await;
        // What came with the handshake is in its numbers.
        let start = host.ack;
        let mut silent = 0;
        while silent < 20 {
            let heard = host.next(ACK, b"");
            let frames = [ask(&mut sim, &heard).await, turn(&mut sim).await].concat();
            silent = if host.listen(&frames).iter().any(|heard| !heard.data.is_empty()) { 0 } else { silent + 1 };
        }
        let first = 100_000 - host.ack.wrapping_sub(start);
        assert!(written.get() == 20 && first <= 5_000, "{} writes, and {first} bytes are missing", written.get());
        assert!(Sim::now() < 1_000_000_000, "nothing waited for a timer: {}", Sim::now());
    });
}

/// The host's next word, saying that it takes so many bytes.
fn with_window(host: &Host, data: &[u8], window: u16) -> Vec<u8> {
    let mut frame = host.segment(ACK, &[], data);
    frame[48..50].copy_from_slice(&window.to_be_bytes());
    checksum::fill(&mut frame);
    frame
}

#[test]
fn into_a_closed_window_go_probes_of_a_byte_and_nothing_else() {
    let mut sim = machine(ARGS);
    block_on(async {
        let mut host = Host::new(1, 7);
        // As much as a socket's buffer holds, so that it is the socket that sends it.
        let first: usize = answer(&mut sim, &mut host, 536, 3000).await.iter().sum();
        assert_eq!(first, 3000);
        ask(&mut sim, &with_window(&host, b"", 100)).await;
        let request = with_window(&host, b"?", 100);
        host.seq = host.seq.wrapping_add(1);
        let frames = ask(&mut sim, &request).await;
        assert_eq!(host.listen(&frames).iter().map(|heard| heard.data.len()).sum::<usize>(), 100);
        let closed = with_window(&host, b"", 0);
        let mut heard = host.listen(&ask(&mut sim, &closed).await);
        let mut probes = 0;
        for _ in 0..150 {
            for segment in heard {
                assert!(segment.data.len() <= 1, "{} bytes in {probes}", segment.data.len());
                probes += 1;
            }
            sleep(Duration::from_millis(100)).await;
            let frames: Vec<_> = turn(&mut sim).await;
            // It takes nothing.
            let due = host.ack;
            heard = host.listen(&frames);
            host.ack = due;
            if !heard.is_empty() {
                ask(&mut sim, &closed).await;
            }
        }
        // After 1, 3, 7 and 15 s.
        assert!((3..=5).contains(&probes), "{probes} probes");
        let frames = ask(&mut sim, &with_window(&host, b"", 8000)).await;
        let mut rest = host.listen(&frames).iter().map(|heard| heard.data.len()).sum::<usize>();
        // Probes without an answer are no losses: there is no congestion window by them.
        assert!(rest >= 2000, "{rest} bytes at once");
        for _ in 0..30 {
            let frames = ask(&mut sim, &with_window(&host, b"", 8000)).await;
            rest += host.listen(&frames).iter().map(|heard| heard.data.len()).sum::<usize>();
            sleep(Duration::from_millis(200)).await;
        }
        assert!(rest >= 2900, "{rest} bytes of the rest");
    });
}

#[test]
fn what_is_sent_again_fits_into_the_window() {
    let mut sim = machine(ARGS);
    block_on(async {
        let mut host = Host::new(1, 7);
        answer(&mut sim, &mut host, 536, 3000).await;
        ask(&mut sim, &with_window(&host, b"", 300)).await;
        let request = with_window(&host, b"?", 300);
        host.seq = host.seq.wrapping_add(1);
        let due = host.ack;
        let first = ask(&mut sim, &request).await;
        assert_eq!(host.listen(&first).iter().map(|heard| heard.data.len()).sum::<usize>(), 300);
        // It gets lost, and so does what follows.
        for _ in 0..80 {
            sleep(Duration::from_millis(100)).await;
            for heard in host.listen(&turn(&mut sim).await) {
                let end = heard.seq.wrapping_sub(due) as usize + heard.data.len();
                assert!(end <= 300, "up to byte {end} in a window of 300");
            }
        }
    });
}

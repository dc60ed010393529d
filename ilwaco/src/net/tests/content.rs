//! What is sent beside the sockets: large documents, over paths that delay and lose.

use super::super::frame::{ACK, FIN, PSH, RST, SYN};
use super::super::*;
use super::crafted::{Heard, Host, ask, machine, turn};
use super::{ARGS, GUEST};
use crate::block_on;
use crate::sim::{Sim, World};
use crate::task::spawn;
use crate::time::{Duration, sleep, timeout};
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, Ipv4Address};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

/// A document that does not repeat soon.
static PIECE: [u8; 4099] = {
    let mut bytes = [0; 4099];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = ((i * i + i / 7) % 251).to_le_bytes()[0];
        i += 1;
    }
    bytes
};

fn document(len: usize) -> Vec<u8> {
    (0..len).map(|at| PIECE[at % PIECE.len()]).collect()
}

/// How a server sends it.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// From where it lies, with a word before and one behind, and then the end.
    Constant,
    /// As bytes of the program's.
    Copied,
    /// The same, by and by.
    Pieces,
}

/// Serves a document to whoever connects, and closes.
fn serve(how: How, len: usize) {
    let listener = TcpListener::bind(7).expect("free");
    spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            match how {
                How::Constant => {
                    stream.send(b"head", Repeated::new(Summed::none(&PIECE), 0, len)).await.expect("open");
                    stream.write_all(b"tail").await.expect("open");
                    stream.sent(0).await.expect("open");
                }
                How::Copied => stream.write_all(&document(len)).await.expect("open"),
                How::Pieces => {
                    for piece in document(len).chunks(999) {
                        stream.write_all(piece).await.expect("open");
                    }
                }
            }
        }
    })
    .expect("room");
}

/// Fetches what is served by `how`; what arrives, and how many milliseconds it takes from the first byte to the end.
fn fetch(mut world: World, buffer: usize, how: How, len: usize) -> (Vec<u8>, u64) {
    let handle = world.tcp_with(buffer);
    let got = Rc::new(RefCell::new((Vec::new(), 0, 0, false)));
    let shared = got.clone();
    let mut started = false;
    world.script(move |sockets, iface, now| {
        let socket = sockets.get_mut::<tcp::Socket>(handle);
        let mut got = shared.borrow_mut();
        if !started {
            socket.connect(iface.context(), (IpAddress::from(Ipv4Address::from(GUEST)), 7), 40_000).expect("closed");
            started = true;
        }
        while socket.can_recv() {
            if got.0.is_empty() {
                got.1 = now;
            }
            socket.recv(|bytes| (bytes.len(), got.0.extend_from_slice(bytes))).expect("open");
        }
        if socket.state() == tcp::State::CloseWait && !got.3 {
            got.2 = now;
            got.3 = true;
            socket.close();
        }
    });
    world.run();
    block_on(async {
        serve(how, len);
        timeout(Duration::from_secs(600), async {
            while !got.borrow().3 {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("in time");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(connections(), (0, 0));
    });
    let got = got.borrow();
    (got.0.clone(), (got.2 - got.1) / 1_000_000)
}

fn expected(how: How, len: usize) -> Vec<u8> {
    match how {
        How::Constant => [b"head".to_vec(), document(len), b"tail".to_vec()].concat(),
        How::Copied | How::Pieces => document(len),
    }
}

#[test]
fn a_long_path_carries_a_window_for_each_round_trip() {
    let len = 2_000_000;
    let mut world = World::new(ARGS);
    world.round_trip(100_000_000);
    let (bytes, ms) = fetch(world, 512 << 10, How::Constant, len);
    assert!(bytes == expected(How::Constant, len));
    // 512 KiB each 100 ms, when the congestion window has grown to that. With 8,760 bytes it took 23 s.
    assert!(ms < 1_700, "{ms} ms");
    let mut world = World::new(ARGS);
    world.round_trip(100_000_000);
    let (bytes, ms) = fetch(world, 64_000, How::Constant, len);
    assert!(bytes == expected(How::Constant, len));
    assert!((3_000..4_300).contains(&ms), "never more than the peer takes, and always that: {ms} ms");
}

#[test]
fn a_long_path_that_loses() {
    for how in [How::Constant, How::Copied] {
        let len = 400_000;
        let mut world = World::new(ARGS);
        world.round_trip(100_000_000);
        let (mut number, mut heard) = (0u32, 0u32);
        world.lose_sent(move |frame| {
            number += 1;
            frame.len() > 1000 && number % 50 == 25
        });
        world.lose(move |_| {
            heard += 1;
            heard % 31 == 17
        });
        let (bytes, ms) = fetch(world, 256 << 10, how, len);
        assert!(bytes == expected(how, len));
        // 8,760 bytes each 100 ms would be 4.6 s without any loss.
        assert!(ms < 8_000, "{ms} ms");
    }
}

#[test]
fn what_the_program_copies_is_bounded_and_faster_than_a_socket() {
    let len = 1_000_000;
    let mut world = World::new(ARGS);
    world.round_trip(100_000_000);
    let (bytes, ms) = fetch(world, 256 << 10, How::Copied, len);
    assert!(bytes == expected(How::Copied, len));
    assert!(ms < 3_500, "{ms} ms");
}

#[test]
fn sizes_around_the_edges() {
    for len in [1, 535, 1456, 1457, 8_760, 8_761, 70_000] {
        for how in [How::Constant, How::Copied] {
            let (bytes, _) = fetch(World::new(ARGS), 16 << 10, how, len);
            assert!(bytes == expected(how, len), "{len}");
        }
    }
}

#[test]
fn a_peer_with_a_small_window() {
    let (bytes, _) = fetch(World::new(ARGS), 700, How::Constant, 50_000);
    assert!(bytes == expected(How::Constant, 50_000));
}

/// Connects a host that takes full segments; what it gets at once.
async fn open(sim: &mut Sim, n: u16) -> (Host, Vec<Vec<u8>>) {
    let mut host = Host { ip: [10, 0, 2, 9], ..Host::new(n, 7) };
    let syn = host.segment(SYN, &[2, 4, 5, 0xb4], &[]);
    host.seq += 1;
    let frames = ask(sim, &syn).await;
    host.listen(&frames);
    let ack = host.segment(ACK, &[], &[]);
    let frames = ask(sim, &ack).await;
    (host, frames)
}

/// All segments of content that are there, each acknowledged as soon as it is.
async fn collect(sim: &mut Sim, host: &mut Host, first: &[Vec<u8>], turns: usize) -> Vec<Heard> {
    let mut all = host.listen(first);
    for _ in 0..turns {
        let frames = ask(sim, &host.segment(ACK, &[], &[])).await;
        all.extend(host.listen(&frames));
    }
    all
}

#[test]
fn a_request_in_the_middle_is_heard_and_answered_behind() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            let mut bytes = [0; 64];
            while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                stream.send(&bytes[..len], Repeated::new(Summed::none(&PIECE), 0, 5_000)).await.expect("open");
            }
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 2).await;
        assert!(host.listen(&frames).is_empty());
        // Nothing is acknowledged before the second request has been sent.
        let first = host.next(ACK | PSH, b"one");
        let frames = ask(&mut sim, &first).await;
        let heard = host.listen(&frames);
        assert!(heard.iter().all(|heard| heard.ack == host.seq), "the content acknowledges: {heard:?}");
        let mut data: Vec<u8> = heard.iter().flat_map(|heard| heard.data.clone()).collect();
        // The peer's number is still that of before: it has not said that it has got anything.
        let before = host.ack;
        host.ack = before.wrapping_sub(u32::try_from(data.len()).expect("short"));
        let second = host.next(ACK | PSH, b"two");
        host.ack = before;
        let frames = ask(&mut sim, &second).await;
        data.extend(host.listen(&frames).iter().flat_map(|heard| heard.data.clone()));
        data.extend(collect(&mut sim, &mut host, &[], 12).await.iter().flat_map(|heard| heard.data.clone()));
        let whole = [b"one".to_vec(), document(5_000), b"two".to_vec(), document(5_000)].concat();
        assert_eq!(data.len(), whole.len());
        assert!(data == whole);
    });
}

#[test]
fn heads_are_bounded_too() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        let count = Rc::new(RefCell::new(0));
        let sent = count.clone();
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            for _ in 0..200 {
                stream.send(&[7; 1_000], Repeated::new(Summed::none(&PIECE), 0, 10)).await.expect("open");
                *sent.borrow_mut() += 1;
            }
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 8).await;
        assert_eq!(*count.borrow(), 65, "64 KiB of them");
        let data = collect(&mut sim, &mut host, &frames, 100).await;
        assert_eq!(data.iter().map(|heard| heard.data.len()).sum::<usize>(), 200 * 1_010);
        assert_eq!(*count.borrow(), 200);
    });
}

#[test]
fn a_reset_ends_it_and_who_waits_is_told() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        let told = Rc::new(RefCell::new(None));
        let result = told.clone();
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            stream.send(b"", Repeated::new(Summed::none(&PIECE), 0, 1 << 20)).await.expect("open");
            *result.borrow_mut() = Some(stream.sent(0).await);
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 3).await;
        collect(&mut sim, &mut host, &frames, 3).await;
        assert_eq!(*told.borrow(), None);
        let reset = host.segment(RST, &[], &[]);
        ask(&mut sim, &reset).await;
        assert_eq!(*told.borrow(), Some(Err(Error::ConnectionReset)));
        sleep(Duration::from_millis(5)).await;
        assert_eq!(connections(), (0, 0));
    });
}

#[test]
fn a_program_that_breaks_off_says_so_with_the_right_number() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            stream.send(b"", Repeated::new(Summed::none(&PIECE), 0, 1 << 20)).await.expect("open");
            sleep(Duration::from_millis(20)).await;
            stream.abort();
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 4).await;
        let mut all = host.listen(&frames);
        for _ in 0..30 {
            let frames = turn(&mut sim).await;
            all.extend(host.listen(&frames));
        }
        let last = all.last().expect("frames");
        assert!(last.flags & RST != 0 && last.seq == host.ack, "{last:?}");
    });
}

#[test]
fn the_end_comes_behind_the_content() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            stream.send(b"", Repeated::new(Summed::none(&PIECE), 0, 6_000)).await.expect("open");
            stream.finish();
            assert_eq!(stream.write_all(b"more").await, Err(Error::ConnectionReset));
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 5).await;
        let all = collect(&mut sim, &mut host, &frames, 6).await;
        let data: Vec<u8> = all.iter().flat_map(|heard| heard.data.clone()).collect();
        assert!(data == document(6_000));
        let ends: Vec<_> = all.iter().filter(|heard| heard.flags & FIN != 0).collect();
        assert_eq!(ends.len(), 1, "with the last bytes, once");
        assert!(!ends[0].data.is_empty() && ends[0].flags & PSH != 0, "{ends:?}");
        // And when the peer ends, too, nothing is left.
        ask(&mut sim, &host.next(FIN | ACK, &[])).await;
        assert_eq!(connections(), (0, 0));
    });
}

#[test]
fn an_end_that_is_lost_or_comes_late_is_said_again() {
    for late in [false, true] {
        let mut sim = machine(ARGS);
        block_on(async {
            let listener = TcpListener::bind(7).expect("free");
            spawn(async move {
                let mut stream = listener.accept().await.expect("a network");
                stream.send(b"", Repeated::new(Summed::none(&PIECE), 0, 6_000)).await.expect("open");
                if late {
                    // All of it has left.
                    sleep(Duration::from_micros(500)).await;
                }
            })
            .expect("room");
            let (mut host, mut frames) = open(&mut sim, 5).await;
            sleep(Duration::from_millis(5)).await;
            frames.extend(turn(&mut sim).await);
            let flags = |frames: &[Vec<u8>]| frames.iter().map(|frame| frame[47] & FIN).collect::<Vec<_>>();
            let last = frames.len() - 1;
            assert_eq!(flags(&frames[last..]), [FIN]);
            assert_eq!(frames[last].len() == 54, late, "an end that comes late has a segment of its own");
            host.listen(&frames[..last]);
            ask(&mut sim, &host.segment(ACK, &[], &[])).await;
            let mut again = Vec::new();
            for _ in 0..60 {
                sleep(Duration::from_millis(50)).await;
                again.extend(turn(&mut sim).await);
                if !again.is_empty() {
                    break;
                }
            }
            assert_eq!(flags(&again), [FIN], "{late}");
            let heard = host.listen(&again);
            assert_eq!(heard.len(), 1, "{heard:?}");
            ask(&mut sim, &host.next(FIN | ACK, &[])).await;
            assert_eq!(connections(), (0, 0));
        });
    }
}

#[test]
fn small_pieces_are_in_flight_as_far_as_the_peer_takes_them() {
    let len = 1_000_000;
    let mut world = World::new(ARGS);
    world.round_trip(100_000_000);
    let (bytes, ms) = fetch(world, 256 << 10, How::Pieces, len);
    assert!(bytes == document(len));
    // 64 KiB each 100 ms; a socket's buffer each 100 ms would be 11.4 s.
    assert!(ms < 3_000, "{ms} ms");
}

#[test]
fn what_a_socket_sends_again_obeys_a_congestion_window() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            for _ in 0..2 {
                stream.write_all(&document(8_000)).await.expect("open");
                stream.flush().await.expect("open");
            }
            let _ = stream.read(&mut [0]).await;
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 7).await;
        assert_eq!(frames.len(), 6, "all at once, as it is less than an initial window");
        // Nothing of it arrives.
        let mut flights = Vec::new();
        let mut data = Vec::new();
        let mut frames = Vec::new();
        for _ in 0..400 {
            let fresh: Vec<u8> = host.listen(&frames).into_iter().flat_map(|heard| heard.data).collect();
            if fresh.is_empty() {
                sleep(Duration::from_millis(50)).await;
                frames = turn(&mut sim).await;
                continue;
            }
            flights.push(fresh.len());
            data.extend(fresh);
            if data.len() >= 8_000 {
                break;
            }
            frames = ask(&mut sim, &host.segment(ACK, &[], &[])).await;
        }
        assert!(data == document(8_000));
        assert!(flights[0] <= 1_460, "a loss window is one segment: {flights:?}");
        assert!(flights[1] <= 2 * 1_460, "and doubles at most: {flights:?}");
    });
}

#[test]
fn a_narrow_path_is_found_out_by_content_too() {
    let mut sim = machine(ARGS);
    block_on(async {
        let listener = TcpListener::bind(7).expect("free");
        spawn(async move {
            let mut stream = listener.accept().await.expect("a network");
            stream.send(b"", Repeated::new(Summed::none(&PIECE), 0, 20_000)).await.expect("open");
            let _ = stream.sent(0).await;
        })
        .expect("room");
        let (mut host, frames) = open(&mut sim, 6).await;
        let (mut data, mut largest) = (Vec::new(), Vec::new());
        let mut frames = frames;
        for _ in 0..4_000 {
            largest.extend(frames.iter().map(Vec::len).max());
            // Nothing larger than 1,300 bytes passes.
            let passed: Vec<_> = frames.into_iter().filter(|frame| frame.len() <= 1_300).collect();
            let heard = host.listen(&passed);
            if !heard.is_empty() {
                assert!(sim.deliver(&host.segment(ACK, &[], &[])));
            }
            data.extend(heard.into_iter().flat_map(|heard| heard.data));
            sleep(Duration::from_millis(5)).await;
            frames = turn(&mut sim).await;
            if data.len() >= 20_000 {
                break;
            }
        }
        let first = largest.iter().position(|&len| len == 14 + 1280).expect("it is tried");
        assert!(largest[0] == 1514 && largest[first..].iter().all(|&len| len <= 14 + 1280), "{largest:?}");
        assert!(data == document(20_000));
    });
}

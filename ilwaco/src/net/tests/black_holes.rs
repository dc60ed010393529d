//! Paths that swallow what is too large for them, and say nothing.

use super::super::frame::ACK;
use super::super::*;
use super::crafted::{Host, machine, turn};
use super::links::{ARGS, far, open};
use crate::block_on;
use crate::sim::Sim;
use crate::task::spawn;
use crate::time::{Duration, sleep};
use std::vec;

/// What a socket's buffer takes as a whole, and what goes beside it.
const SIZES: [u32; 2] = [2_258, 102_400];

/// Serves whoever comes with so many bytes.
fn serve(count: u32) {
    let listener = TcpListener::bind(80).expect("free");
    spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            spawn(async move {
                let _ = stream.write_all(&vec![b'x'; count as usize]).await;
                sleep(Duration::from_secs(60)).await;
            })
            .expect("room");
        }
    })
    .expect("room");
}

/// What a host sees of a document until it has it or for so many milliseconds, on a path that lets through what `passes`, by the size of the packet
/// and by how long ago it was asked: how long it took, and the largest packet that passed.
async fn fetch(
    sim: &mut Sim,
    host: &mut Host,
    (count, millis): (u32, u64),
    passes: impl Fn(usize, u64) -> bool,
) -> (Option<u64>, usize) {
    let began = Sim::now();
    let mut frames = open(sim, host).await;
    let (first, mut largest) = (host.ack, 0);
    loop {
        let took = (Sim::now() - began) / 1_000_000;
        frames.retain(|frame| passes(frame.len() - 14, took));
        largest = frames.iter().map(|frame| frame.len() - 14).max().unwrap_or(0).max(largest);
        if !host.listen(&frames).is_empty() {
            sim.deliver(&host.segment(ACK, &[], &[]));
        }
        let is_whole = host.ack.wrapping_sub(first) == count;
        if is_whole || took >= millis {
            return (is_whole.then_some(took), largest);
        }
        sleep(Duration::from_millis(4)).await;
        frames = turn(sim).await;
    }
}

fn another(port: u16) -> Host {
    Host { ports: (port, 80), ..far() }
}

#[test]
fn a_path_that_swallows_large_packets_is_found_out() {
    for count in SIZES {
        // After one second and two more, and where also the next size is swallowed, after one more, if there is that much.
        for (mtu, least, most) in [(1300, 3_000, 3_500), (600, 3_000, if count > 8_760 { 4_700 } else { 3_300 })] {
            let mut sim = machine(ARGS);
            block_on(async {
                serve(count);
                let passes = |size, _| size <= mtu;
                let (took, _) = fetch(&mut sim, &mut far(), (count, 60_000), passes).await;
                assert!(took.is_some_and(|took| (least..most).contains(&took)), "{count} through {mtu}: {took:?} ms");
            });
        }
    }
}

#[test]
fn what_was_found_out_is_remembered() {
    for count in SIZES {
        for (mtu, fits) in [(1300, 1280), (600, 576)] {
            let mut sim = machine(ARGS);
            block_on(async {
                serve(count);
                let passes = |size, _| size <= mtu;
                // What was little told of one size only.
                for port in 1000..1002 {
                    fetch(&mut sim, &mut another(port), (count, 60_000), passes).await;
                }
                let (took, largest) = fetch(&mut sim, &mut another(1002), (count, 60_000), passes).await;
                assert!(took.is_some_and(|took| took < 900) && largest == fits, "{took:?} ms, {largest} bytes");
            });
        }
    }
}

#[test]
fn a_network_that_is_silent_for_a_while_costs_one_size_and_not_two() {
    for millis in [3_500, 8_000] {
        let mut sim = machine(ARGS);
        block_on(async {
            serve(102_400);
            let passes = |_, took| took < 20 || took > millis;
            let (took, _) = fetch(&mut sim, &mut far(), (102_400, 60_000), passes).await;
            // Not longer than the timer, which doubles.
            assert!(took.is_some_and(|took| took < 2 * millis + 2_000), "{took:?} ms");
            let (_, largest) = fetch(&mut sim, &mut another(1000), (102_400, 60_000), |_, _| true).await;
            assert_eq!(largest, 1280);
        });
    }
}

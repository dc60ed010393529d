//! Neighbours that do not say where they are, and what becomes of others beside them.

use super::super::*;
use super::crafted::{Host, arp, ask, machine, turn};
use super::links::asked;
use crate::block_on;
use crate::sim::{GUEST, Sim};
use crate::time::{Duration, sleep};
use std::collections::HashMap;
use std::vec::Vec;

const ARGS: &str = "ip=10.0.2.16/16 gw=10.0.2.2";

/// When each address was asked for, in milliseconds, while `socket` sends to every one of these hosts every 50 ms for so many seconds.
async fn insist(sim: &mut Sim, socket: &UdpSocket, hosts: &[Host], seconds: u64) -> HashMap<[u8; 4], Vec<u64>> {
    let mut times: HashMap<_, Vec<u64>> = HashMap::new();
    let end = Sim::now() + seconds * 1_000_000_000;
    while Sim::now() < end {
        for some in hosts.chunks(10) {
            for host in some {
                socket.send_to(b"nobody", SocketAddr::from((host.ip, 9))).await.expect("room");
            }
            for address in asked(&turn(sim).await) {
                times.entry(address).or_default().push(Sim::now() / 1_000_000);
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    times
}

#[test]
fn however_many_are_silent_each_is_asked_for_less_and_less() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        let hosts: Vec<_> = (0..300).map(|n| Host::new(n, 9)).collect();
        for (count, most) in [(65, 5), (300, 5)] {
            let times = insist(&mut sim, &socket, &hosts[..count], 20).await;
            for host in &hosts[..count] {
                // After 0, 1, 3, 7 and 15 s, or as much later as it had to wait for a place.
                let times = times.get(&host.ip).map_or(&[][..], |times| times);
                let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
                assert!((2..=most).contains(&times.len()), "of {count}, {:?} at {times:?}", host.ip);
                assert!(gaps.iter().all(|&gap| gap >= 1000), "of {count}, {:?} at {times:?}", host.ip);
            }
            // All of it is forgotten after a while.
            sleep(Duration::from_secs(40)).await;
            turn(&mut sim).await;
            assert!(shrink(), "{count}");
        }
    });
}

#[test]
fn who_takes_its_time_is_heard_beside_many_who_are_silent() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        let hosts: Vec<_> = (0..300).map(|n| Host::new(n, 9)).collect();
        let slow = Host::new(999, 9);
        let to = SocketAddr::from((slow.ip, 9));
        socket.send_to(b"slow", to).await.expect("room");
        assert_eq!(asked(&turn(&mut sim).await), [slow.ip]);
        let times = insist(&mut sim, &socket, &hosts, 1).await;
        assert!(times.len() > 100, "{} have had its place", times.len());
        ask(&mut sim, &arp(2, slow.mac, slow.ip, GUEST)).await;
        socket.send_to(b"again", to).await.expect("room");
        let frames = turn(&mut sim).await;
        assert!(frames.iter().any(|frame| frame[..6] == slow.mac && frame[42..] == *b"again"), "it is known");
    });
}

#[test]
fn without_memory_few_are_asked_for_at_once() {
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        let hosts: Vec<_> = (0..40).map(|n| Host::new(n, 9)).collect();
        Sim::leave(0);
        let all = insist(&mut sim, &socket, &hosts[..20], 1).await;
        assert!(all.len() > 4, "they make room for others: {}", all.len());
        // And no more at once than there are always.
        sleep(Duration::from_secs(30)).await;
        turn(&mut sim).await;
        for host in &hosts[20..] {
            socket.send_to(b"nobody", SocketAddr::from((host.ip, 9))).await.expect("room");
        }
        let count = asked(&turn(&mut sim).await).len();
        assert!((1..=4).contains(&count), "{count}");
        Sim::leave(usize::MAX);
    });
}

#[test]
fn many_who_do_not_answer_keep_nobody_out_for_long() {
    /// Neighbours that are asked for at a time.
    const MOST: u8 = 64;
    let mut sim = machine(ARGS);
    block_on(async {
        let socket = UdpSocket::bind(9).expect("free");
        let silent = |n: u8| SocketAddr::from(([10, 0, 9, n], 9));
        let all = async || {
            for n in 0..MOST {
                socket.send_to(b"nobody", silent(n)).await.expect("room");
            }
        };
        all().await;
        assert_eq!(asked(&turn(&mut sim).await).len(), MOST.into());
        // Whoever has been asked for only now may still answer.
        socket.send_to(b"first", SocketAddr::from(([10, 0, 8, 1], 9))).await.expect("room");
        assert_eq!(asked(&turn(&mut sim).await), [] as [[u8; 4]; 0]);
        sleep(Duration::from_millis(110)).await;
        // They do not stop.
        all().await;
        socket.send_to(b"second", SocketAddr::from(([10, 0, 8, 1], 9))).await.expect("room");
        assert_eq!(asked(&turn(&mut sim).await), [[10, 0, 8, 1]]);
        let mac = [2, 9, 9, 9, 9, 9];
        let frames = ask(&mut sim, &arp(2, mac, [10, 0, 8, 1], GUEST)).await;
        assert_eq!(frames.iter().map(|frame| &frame[42..]).collect::<Vec<_>>(), [b"second"]);
    });
}

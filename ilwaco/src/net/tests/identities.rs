//! The VM becomes somebody else while it serves.

use super::super::frame::{ACK, FIN, IPV4, RST, SYN, be16, be32};
use super::super::*;
use super::crafted::{GUEST_MAC, Heard, Host, ask, heard, machine, turn};
use super::{ARGS, serve_echo};
use crate::block_on;
use crate::sim::Sim;
use crate::task::{spawn, yield_now};
use crate::time::{Duration, sleep};
use std::rc::Rc;
use std::vec::Vec;

const OTHER_MAC: [u8; 6] = [2, 0x46, 0x4b, 1, 2, 3];
const OTHER: [u8; 4] = [10, 0, 2, 99];
const OTHER_ARGS: &str = "ip=10.0.2.99/16 gw=10.0.2.2";

fn become_other() {
    Sim::change_identity(OTHER_ARGS, OTHER_MAC, 0x0feb_da57);
}

/// A frame for the guest as it was, on its way to the guest as it is.
fn moved(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&OTHER_MAC);
    frame[30..34].copy_from_slice(&OTHER);
    // Both are made anew.
    frame[24..26].fill(0);
    super::super::checksum::fill(&mut frame);
    frame
}

/// What the guest says as who it is: nothing that it sends names who it was.
fn said(frames: &[Vec<u8>]) -> Vec<Heard> {
    for frame in frames {
        assert_eq!(frame[6..12], OTHER_MAC, "{frame:x?}");
        if be16(frame, 12) == Some(IPV4) {
            assert_eq!(be32(frame, 26), Some(u32::from_be_bytes(OTHER)), "{frame:x?}");
        }
    }
    frames.iter().filter_map(|frame| heard(frame)).collect()
}

#[test]
fn connections_are_dropped_without_a_word_and_new_ones_are_taken() {
    let mut sim = machine("ip=10.0.2.16/16 gw=10.0.2.2");
    block_on(async {
        serve_echo(7);
        let mut hosts: Vec<Host> = (1..20).map(|n| Host::new(n, 7)).collect();
        for host in &mut hosts {
            host.connect(&mut sim).await;
            assert!(host.say(&mut sim, b"hello").await.iter().any(|heard| heard.data == b"hello"));
        }
        assert_eq!(connections(), (0, 19));
        // One has something unanswered, so that it would be sent again.
        sim.deliver(&hosts[0].next(ACK, b"more"));
        turn(&mut sim).await;
        become_other();
        let mut frames = Vec::new();
        for _ in 0..100 {
            sleep(Duration::from_millis(200)).await;
            frames.extend(turn(&mut sim).await);
        }
        assert_eq!(said(&frames), [], "not a word, neither of an end nor of data");
        assert_eq!(connections(), (0, 0), "their tasks have read the end");
        // What was under way to who it was is nothing to who it is.
        assert_eq!(ask(&mut sim, &hosts[1].segment(ACK, &[], b"late")).await, Vec::<Vec<u8>>::new());
        // Somebody comes to the port where it listens still.
        let mut host = Host::new(50, 7);
        let syn = host.next(SYN, &[]);
        let frames = ask(&mut sim, &moved(syn)).await;
        let heard = said(&frames);
        assert_eq!((heard[0].flags, heard[0].ack), (SYN | ACK, host.seq));
        host.ack = heard[0].seq.wrapping_add(1);
        let hello = host.next(ACK, b"hello");
        let frames = ask(&mut sim, &moved(hello)).await;
        assert!(said(&frames).iter().any(|heard| heard.data == b"hello" && heard.flags & (FIN | RST) == 0));
        assert_eq!(connections(), (0, 1));
    });
}

#[test]
fn no_task_runs_as_who_the_vm_was() {
    let _sim = machine(ARGS);
    block_on(async {
        // Each of these runs in the turn in which the identity changes, behind the task that is interrupted by that.
        let changed = Rc::new(core::cell::Cell::new(false));
        let seen = Rc::new(core::cell::RefCell::new(Vec::new()));
        for number in 0..5 {
            let (changed, seen) = (changed.clone(), seen.clone());
            spawn(async move {
                for _ in 0..3 {
                    if number == 2 && !changed.get() {
                        become_other();
                        changed.set(true);
                    } else {
                        seen.borrow_mut().push((changed.get(), ipv4_addr().map(|address| address.octets())));
                    }
                    yield_now().await;
                }
            })
            .expect("room");
        }
        sleep(Duration::from_millis(5)).await;
        let seen = seen.borrow();
        assert_eq!(seen.len(), 14);
        for &(changed, address) in &*seen {
            let expected = if changed { OTHER } else { crate::sim::GUEST };
            assert_eq!(address, Some(expected), "{seen:?}");
        }
        assert_eq!(seen.iter().filter(|(changed, _)| !changed).count(), 2);
    });
}

#[test]
fn secrets_and_generators_are_new_and_time_goes_on() {
    let mut sim = machine(ARGS);
    block_on(async {
        let random = || with(|stack| Ok(stack.random)).expect("a network");
        let cookie = async |sim: &mut Sim, move_it: bool| {
            let syn = Host::new(1, 7).segment(SYN, &[], &[]);
            let frames = ask(sim, &if move_it { moved(syn) } else { syn }).await;
            frames.iter().filter_map(|frame| heard(frame)).map(|heard| heard.seq).collect::<Vec<_>>()
        };
        serve_echo(7);
        let before = (random(), cookie(&mut sim, false).await, crate::time::Instant::now());
        // Who it is stays: only the secrets change, so that they are all that can differ.
        Sim::change_identity(ARGS, GUEST_MAC, 0x0feb_da57);
        sleep(Duration::from_millis(1)).await;
        let after = (random(), cookie(&mut sim, false).await);
        assert_eq!((before.1.len(), after.1.len()), (1, 1));
        assert_ne!(before.0, after.0);
        assert_ne!(before.1, after.1);
        let passed = before.2.elapsed();
        assert!(passed < Duration::from_millis(20), "{passed:?}");
    });
}

#[test]
fn a_datagram_socket_stays_at_its_port_and_forgets_what_waited() {
    use smoltcp::wire::{IpAddress, Ipv4Address, UdpPacket, UdpRepr};
    let datagram = |text: &[u8]| {
        let repr = UdpRepr { src_port: 9, dst_port: 5 };
        let mut bytes = std::vec![0; 8 + text.len()];
        let [from, to] = [[10, 0, 3, 1], crate::sim::GUEST].map(|ip| IpAddress::Ipv4(Ipv4Address::from(ip)));
        repr.emit(
            &mut UdpPacket::new_unchecked(&mut bytes),
            &from,
            &to,
            text.len(),
            |place| place.copy_from_slice(text),
            &smoltcp::phy::ChecksumCapabilities::default(),
        );
        super::crafted::ipv4([2, 1, 0, 0, 0, 1], [10, 0, 3, 1], crate::sim::GUEST, 17, &bytes)
    };
    let mut sim = machine("ip=10.0.2.16/16 gw=10.0.2.2");
    block_on(async {
        let socket = UdpSocket::bind(5).expect("free");
        ask(&mut sim, &datagram(b"old")).await;
        become_other();
        turn(&mut sim).await;
        sim.deliver(&moved(datagram(b"new")));
        let mut buffer = [0; 8];
        let (len, _) = socket.recv_from(&mut buffer).await.expect("a network");
        assert_eq!(&buffer[..len], b"new");
    });
}

#[test]
fn dhcp_is_asked_anew_and_given_up_where_an_address_is_given() {
    let discovers = |frames: &[Vec<u8>]| {
        frames.iter().filter(|frame| be16(frame, 12) == Some(IPV4) && be16(frame, 36) == Some(67)).count()
    };
    let mut sim = machine("ip=dhcp");
    block_on(async {
        assert!(discovers(&turn(&mut sim).await) > 0);
        Sim::change_identity("ip=dhcp", OTHER_MAC, 1);
        let frames = turn(&mut sim).await;
        assert!(discovers(&frames) == 1 && frames[0][6..12] == OTHER_MAC, "{frames:x?}");
        Sim::change_identity(OTHER_ARGS, OTHER_MAC, 2);
        turn(&mut sim).await;
        assert_eq!(up().await, Ok(Ipv4Addr::from(OTHER)));
        let mut frames = Vec::new();
        for _ in 0..30 {
            sleep(Duration::from_secs(1)).await;
            frames.extend(turn(&mut sim).await);
        }
        assert_eq!(discovers(&frames), 0);
    });
}

//! What is sent to all, and who gets it.

use super::*;
use crate::frame::Mac;
use crate::test_frames::{self as frames, seat};
use crate::test_machine::{Guest, Machine, address};
use abi::nic::{Listens, NicPage};
use core::mem::offset_of;
use std::vec::Vec;
use zerocopy::IntoBytes;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);

fn say(guest: &Guest, ports: &[u16], groups: &[u32]) {
    let mut listens = Listens { said: Listens::SAID, ..Listens::default() };
    listens.broadcast_ports[..ports.len()].copy_from_slice(ports);
    listens.groups[..groups.len()].copy_from_slice(groups);
    guest.window.write(offset_of!(NicPage, listens), listens.as_bytes()).expect("within the page");
}

fn broadcast(from: Mac, source: u32, port: u16) -> Vec<u8> {
    frames::ipv4(from, Mac::BROADCAST, source, u32::MAX, 17, &frames::udp((9, port), &[0; 20]))
}

fn announcement() -> Vec<u8> {
    frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), 77)
}

#[test]
fn noise_costs_idle_vms_neither_a_page_nor_their_sleep() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2, 3]);
    for guest in &mut guests {
        say(guest, &[68], &[]);
        assert!(guest.rx.prepare_wait());
    }
    for _ in 0..50 {
        machine.arrive(&broadcast(HOST, 9, 137));
        machine.arrive(&announcement());
        machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), 78));
        machine.arrive(&frames::ethernet(HOST, Mac::new([0x33, 0x33, 0, 0, 0, 0xfb]), 0x86dd, &[0; 46]));
        machine.settle();
    }
    assert_eq!(machine.raised(), []);
    assert!(machine.core.borrow().given.values().all(|&pages| pages == 0));
    assert!(guests.iter_mut().all(|guest| guest.receive().is_empty() && guest.counters().rx_drop_full == 0));
    // All but the first were known to concern nobody.
    let totals = machine.demux.totals();
    assert_eq!((totals.received, totals.to_all, totals.to_nobody), (200, 1, 199));
}

#[test]
fn who_wants_it_gets_it_and_nobody_else() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2, 3, 4]);
    say(&guests[0], &[137, 68], &[]);
    say(&guests[1], &[68], &[0xe000_00fb]);
    say(&guests[2], &[], &[]);
    let group = frames::ipv4(HOST, Mac::new([1, 0, 0x5e, 0, 0, 0xfb]), 9, 0xe000_00fb, 17, &frames::udp((9, 9), &[]));
    let all = [broadcast(HOST, 9, 137), group, broadcast(HOST, 9, 138)];
    for _ in 0..2 {
        all.iter().for_each(|frame| machine.arrive(frame));
        machine.settle();
        assert_eq!(guests[0].receive(), [all[0].clone()]);
        assert_eq!(guests[1].receive(), [all[1].clone()]);
        assert_eq!(guests[2].receive(), Vec::<Vec<u8>>::new());
        // The last one has not said anything.
        assert_eq!(guests[3].receive(), all);
    }
}

#[test]
fn a_vms_broadcast_goes_to_the_wire_and_to_those_who_want_it() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2, 3]);
    say(&guests[0], &[137], &[]);
    say(&guests[1], &[137], &[]);
    say(&guests[2], &[], &[]);
    let frames = [137, 138, 138, 137].map(|port| broadcast(Mac::of_slot(1), address(1), port));
    frames.iter().for_each(|frame| _ = guests[0].send(frame));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent(), frames);
    assert_eq!(guests[1].receive(), [frames[0].clone(), frames[3].clone()]);
    assert!(guests[0].receive().is_empty() && guests[2].receive().is_empty());
    assert_eq!(guests[0].counters().tx_frames, 4);
}

#[test]
fn announcements_are_for_those_who_talk() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    guests.iter().for_each(|guest| say(guest, &[], &[]));
    let mut unicast = frames::ipv4(HOST, Mac::of_slot(1), 9, address(1), 6, &[]);
    unicast.resize(60, 0);
    machine.arrive(&unicast);
    machine.arrive(&announcement());
    machine.settle();
    assert_eq!(guests[0].receive(), [unicast, announcement()]);
    assert!(guests[1].receive().is_empty());
}

#[test]
fn who_comes_is_asked() {
    let (mut machine, guests) = Machine::with_guests(&[1]);
    say(&guests[0], &[], &[]);
    machine.arrive(&broadcast(HOST, 9, 137));
    machine.settle();
    let mut late = Guest::new(2, 256, 256);
    assert!(machine.demux.attach(late.newcomer(address(2), Share::DEFAULT), late.nic()));
    machine.arrive(&broadcast(HOST, 9, 137));
    machine.settle();
    assert_eq!(late.receive().len(), 1, "it has said nothing");
    // One that speaks up later is asked within a tenth of a second.
    say(&late, &[], &[]);
    machine.clock.set(machine.clock.get() + 100_000);
    machine.arrive(&broadcast(HOST, 9, 137));
    machine.settle();
    say(&late, &[137], &[]);
    machine.clock.set(machine.clock.get() + 100_000);
    machine.arrive(&broadcast(HOST, 9, 137));
    machine.settle();
    assert_eq!(late.receive().len(), 1);
}

/// What goes the short way is what routing would have given to the same VM.
#[test]
fn the_short_way_is_a_way_of_routing() {
    let (mut machine, _guests) = Machine::with_guests(&[1, 2]);
    let dynamic = Guest::new(3, 256, 256);
    assert!(machine.demux.attach(dynamic.newcomer(0, Share::DEFAULT), dynamic.nic()));
    machine.demux.learn(seat(3), address(3));
    let mut short = 0;
    for mac in [Mac::of_slot(1), Mac::of_slot(2), Mac::of_slot(3), Mac::of_slot(4), HOST, Mac::BROADCAST] {
        for to in [address(1), address(2), address(3), address(4), 0, 0xe000_0001, u32::MAX] {
            for protocol in [6, 17] {
                let frame = frames::ipv4(HOST, mac, 9, to, protocol, &frames::udp((67, 68), &[0; 20]));
                let addressed = machine.demux.ports.addressed(&frame[..].target()).map(|(seat, _)| seat);
                let routed = ingress::route(frame.as_slice(), &machine.demux.ports);
                if let Some(seat) = addressed {
                    short += 1;
                    assert_eq!(routed, Receivers::One(seat), "{frame:x?}");
                }
            }
        }
    }
    // Both protocols for fixed addresses, and what is no datagram for a learnt one.
    assert_eq!(short, 5);
}

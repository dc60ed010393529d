//! The whole way: a NIC, guests, and everything that both may do.

use super::*;
use crate::frame::{IPV4, Mac};
use crate::policy::RoundRobin;
use crate::test_frames::{self as frames, seat};
use crate::test_machine::{Guest, LEASE_BYTES, Machine, RX, SLOTS, TX, address, memory, tables};
use abi::nic::{RX_RING, TX_RING};
use abi::ring::{CONSUMER_WAITS, HEAD, TAIL};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);

/// A frame from outside to the VM in `slot`, `len` bytes long, marked with `mark`.
fn inbound(slot: u16, len: usize, mark: u8) -> Vec<u8> {
    let mut frame = frames::ipv4(HOST, Mac::of_slot(slot), 9, address(slot), 6, &[]);
    frame.resize(len, mark);
    frame
}

/// A frame of the VM in `slot`.
fn outbound(slot: u16, to: Mac, len: usize, mark: u8) -> Vec<u8> {
    let mut frame = frames::ipv4(Mac::of_slot(slot), to, address(slot), 9, 6, &[]);
    frame.resize(len, mark);
    frame
}

fn offset(header: u64, word: usize) -> usize {
    usize::try_from(header).expect("small") + word
}

#[test]
fn frames_from_the_wire_reach_their_vm_whole() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    let sent: Vec<_> = [(1, 60, 1), (2, 1514, 2), (1, 61, 3), (1, 1000, 4)].map(|(s, l, m)| inbound(s, l, m)).into();
    sent.iter().for_each(|frame| machine.arrive(frame));
    machine.arrive(&inbound(3, 60, 9));
    machine.settle();
    assert_eq!(guests[0].receive(), [sent[0].clone(), sent[2].clone(), sent[3].clone()]);
    assert_eq!(guests[1].receive(), [sent[1].clone()]);
    let counters = guests[0].counters();
    assert_eq!((counters.rx_frames, counters.rx_bytes), (3, 60 + 61 + 1000));
    assert_eq!(machine.demux.totals(), Totals { received: 5, to_nobody: 1, ..Totals::default() });
    assert!(machine.sent().is_empty());
}

#[test]
fn a_sleeping_guest_is_woken_once_a_batch_and_a_busy_one_never() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    assert!(guests[0].rx.prepare_wait());
    for _ in 0..5 {
        machine.arrive(&inbound(1, 60, 0));
        machine.arrive(&inbound(2, 60, 0));
    }
    machine.settle();
    assert_eq!(machine.raised(), [guests[0].id]);
    guests[0].rx.cancel_wait();
    machine.arrive(&inbound(1, 60, 0));
    machine.settle();
    assert_eq!(machine.raised(), []);
}

#[test]
fn a_full_receive_ring_drops_and_counts_and_harms_nobody_else() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    for mark in 0..100 {
        machine.arrive(&inbound(1, 1000, mark));
    }
    machine.arrive(&inbound(2, 60, 0));
    machine.settle();
    // 256 slots, 16 each.
    assert_eq!(guests[0].receive(), (0..16).map(|mark| inbound(1, 1000, mark)).collect::<Vec<_>>());
    assert_eq!(guests[0].counters().rx_drop_full, 84);
    assert_eq!(guests[1].receive().len(), 1);
    machine.arrive(&inbound(1, 1000, 7));
    machine.settle();
    assert_eq!(guests[0].receive(), [inbound(1, 1000, 7)]);
}

#[test]
fn oversized_frames_for_a_small_ring_are_dropped() {
    let mut machine = Machine::new(1_000_000);
    let mut guest = Guest::new(1, 16, 16);
    assert!(machine.demux.attach(guest.newcomer(address(1), Share::DEFAULT), guest.nic()));
    machine.arrive(&inbound(1, 1514, 0));
    machine.arrive(&inbound(1, 60, 1));
    machine.settle();
    assert_eq!(guest.receive(), [inbound(1, 60, 1)]);
    assert_eq!(guest.counters().rx_drop_full, 1);
}

#[test]
fn frames_of_a_vm_leave_after_a_kick() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    let frame = outbound(1, HOST, 77, 5);
    assert!(guests[0].send(&frame), "the demultiplexer sleeps and wants a kick");
    machine.demux.kick(seat(1));
    assert!(!guests[0].send(&frame), "it is awake");
    machine.settle();
    assert_eq!(machine.sent(), [frame.clone(), frame.clone()]);
    let counters = guests[0].counters();
    assert_eq!((counters.tx_frames, counters.tx_bytes), (2, 2 * 77));
    // It sleeps again.
    assert!(guests[0].send(&frame));
}

#[test]
fn what_was_sent_before_attachment_leaves_without_a_kick() {
    let mut machine = Machine::new(1_000_000);
    let mut guest = Guest::new(1, 256, 256);
    guest.send(&outbound(1, HOST, 60, 5));
    assert!(machine.demux.attach(guest.newcomer(address(1), Share::DEFAULT), guest.nic()));
    machine.settle();
    assert_eq!(machine.sent().len(), 1);
}

#[test]
fn forged_frames_are_dropped_and_counted_by_cause() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    let me = Mac::of_slot(1);
    let forged = [
        outbound(2, HOST, 60, 0),
        frames::ipv4(me, HOST, address(2), 9, 6, &[0; 20]),
        frames::arp(me, Mac::BROADCAST, 1, (me, address(2)), 5),
        frames::ipv4(me, HOST, address(1), 9, 17, &frames::udp((67, 68), &[])),
        frames::ethernet(me, HOST, 0x8100, &[0; 50]),
        vec![0; 13],
        vec![0; 1515],
    ];
    for frame in &forged {
        guests[0].send(frame);
    }
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(machine.sent().is_empty());
    assert!(guests[1].receive().is_empty());
    let counters = guests[0].counters();
    assert_eq!((counters.tx_drop_mac, counters.tx_drop_ip, counters.tx_drop_malformed), (1, 3, 3));
    assert_eq!(machine.demux.totals().refused, 7);
    // It can go on.
    guests[0].send(&outbound(1, HOST, 60, 0));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent().len(), 1);
}

#[test]
fn counters_are_copies_of_a_truth_that_guests_cannot_write() {
    let (mut machine, guests) = Machine::with_guests(&[1]);
    machine.arrive(&inbound(1, 60, 0));
    machine.settle();
    guests[0].window.write64(24, 1_000_000).expect("inside");
    machine.arrive(&inbound(1, 60, 0));
    machine.settle();
    assert_eq!(guests[0].counters().rx_frames, 2);
}

#[test]
fn vms_reach_each_other_inside() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2, 3]);
    let frame = outbound(1, Mac::of_slot(2), 200, 8);
    guests[0].send(&frame);
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(guests[1].receive(), [frame]);
    assert!(guests[2].receive().is_empty() && machine.sent().is_empty());
    // Broadcasts go to the others and out, not back.
    let all = outbound(1, Mac::BROADCAST, 60, 9);
    guests[0].send(&all);
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(guests[0].receive().is_empty());
    assert_eq!((guests[1].receive(), guests[2].receive()), (vec![all.clone()], vec![all.clone()]));
    assert_eq!(machine.sent(), [all]);
    // An ARP question about a VM stays inside and concerns only that one.
    let ask = frames::arp(Mac::of_slot(1), Mac::BROADCAST, 1, (Mac::of_slot(1), address(1)), address(3));
    guests[0].send(&ask);
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(guests[2].receive(), [ask]);
    assert!(guests[1].receive().is_empty() && machine.sent().is_empty());
}

#[test]
fn one_vm_fills_two_thirds_of_anothers_ring_and_the_wire_has_the_rest() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2, 3]);
    let flood = |machine: &mut Machine, guests: &mut [Guest]| {
        for _ in 0..3 {
            for mark in 0..8 {
                guests[0].send(&outbound(1, Mac::of_slot(2), 1000, mark));
            }
            machine.demux.kick(seat(1));
            machine.settle();
        }
    };
    flood(&mut machine, &mut guests);
    // Of sixteen slots each, in a ring of 256.
    assert_eq!((guests[0].counters().tx_drop_full, guests[0].counters().tx_frames), (13, 11));
    assert_eq!((machine.demux.totals().crowded, guests[1].counters().rx_drop_full), (13, 0));
    // Another VM finds room, and so does the wire; what is lost for want of room the receiver counts.
    guests[2].send(&outbound(3, Mac::of_slot(2), 1000, 77));
    machine.demux.kick(seat(3));
    machine.settle();
    for _ in 0..5 {
        machine.arrive(&inbound(2, 1000, 99));
    }
    machine.settle();
    assert_eq!(guests[1].counters().rx_drop_full, 1);
    assert_eq!(guests[1].receive().len(), 16);
    // What was read counts no more.
    flood(&mut machine, &mut guests);
    assert_eq!(guests[1].receive().len(), 11);
}

#[test]
fn broadcasts_fill_no_ring() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    for _ in 0..3 {
        for mark in 0..8 {
            guests[0].send(&outbound(1, Mac::BROADCAST, 1000, mark));
        }
        machine.demux.kick(seat(1));
        machine.settle();
    }
    assert_eq!(guests[1].receive().len(), 11);
    assert_eq!((machine.demux.totals().crowded, machine.sent().len()), (13, 24));
}

/// Frames of 100 bytes of VM 1 that VM 2 gets in so many hundredths of a second, a thousand sent in each, while so many come from the wire.
fn brought(paces: u64, wire: u32) -> usize {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    let mut got = 0;
    for pace in 1..=paces {
        machine.clock.set(pace * 10_000);
        for turn in 0..50 {
            for _ in 0..20 {
                guests[0].send(&outbound(1, Mac::of_slot(2), 100, 1));
            }
            for _ in 0..(wire + turn) / 50 {
                machine.arrive(&inbound(2, 60, 2));
            }
            machine.demux.kick(seat(1));
            machine.settle();
            got += guests[1].receive().iter().filter(|frame| frame.len() == 100).count();
            guests[0].receive();
        }
        assert!(machine.clock.get() < (pace + 1) * 10_000, "the hundredth is over");
    }
    got
}

#[test]
fn beside_much_from_others_a_vm_brings_half_as_much_or_a_little() {
    // In the first hundredth nothing is known yet.
    assert_eq!(brought(4, 0), 4 * 1000);
    assert_eq!(brought(4, 20), 4 * 1000, "that is not much");
    assert_eq!(brought(4, 100), 1000 + 3 * 256);
    assert_eq!(brought(4, 800), 1000 + 3 * 400);
}

#[test]
fn without_link_frames_to_the_wire_are_dropped_and_vms_still_reach_each_other() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    assert_eq!(guests[0].word(16) & 0xffff_ffff, 1);
    machine.wire.borrow_mut().link_up = false;
    machine.demux.interrupt();
    assert_eq!(guests[0].word(16) & 0xffff_ffff, 0);
    for _ in 0..2 * TX {
        guests[0].send(&outbound(1, HOST, 60, 0));
    }
    guests[0].send(&outbound(1, Mac::of_slot(2), 60, 0));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(guests[1].receive().len(), 1);
    assert_eq!(guests[0].counters().tx_drop_full, 2 * u64::try_from(TX).expect("small"));
    assert!(machine.sent().is_empty());
}

#[test]
fn a_busy_nic_holds_frames_back_and_drops_none() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    machine.wire.borrow_mut().blocked = true;
    for mark in 0..20 {
        guests[0].send(&outbound(1, HOST, 60, mark));
    }
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.wire.borrow().sent.len(), TX - 1);
    assert!(machine.wire.borrow().space_interrupt);
    machine.wire.borrow_mut().blocked = false;
    machine.demux.interrupt();
    machine.settle();
    assert_eq!(machine.sent(), (0..20).map(|mark| outbound(1, HOST, 60, mark)).collect::<Vec<_>>());
    assert_eq!(guests[0].counters().tx_drop_full, 0);
}

#[test]
fn a_guest_that_waits_for_space_is_woken() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    while guests[0].tx.push(&outbound(1, HOST, 1000, 0)).is_ok() {}
    assert!(guests[0].tx.prepare_wait(1000));
    machine.demux.kick(seat(1));
    machine.demux.turn();
    assert_eq!(machine.raised(), [guests[0].id]);
}

#[test]
fn transmission_is_fair_between_long_and_short_frames() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    let mut spent = [0; 2];
    // The NIC is the bottleneck: so many buffers a turn.
    machine.wire.borrow_mut().blocked = true;
    for _ in 0..500 {
        for (guest, len) in guests.iter_mut().zip([1514, 200]) {
            let frame = outbound(guest.slot(), HOST, len, 0);
            while guest.tx.push(&frame).is_ok() {}
            machine.demux.kick(guest.seat());
        }
        machine.demux.turn();
        machine.wire.borrow_mut().in_use = 0;
        for frame in machine.sent() {
            spent[usize::from(frame[11]) - 1] += RoundRobin::new(&mut tables::<RoundRobin>(1)).cost(frame.len());
        }
    }
    let [long, short] = spent;
    assert!((long - short).abs() < long / 50, "{spent:?}");
}

#[test]
fn lying_indices_harm_only_the_liar() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    // More filled than there is, more free than there is.
    guests[0].window.store64(offset(TX_RING, TAIL), 0x7777).expect("inside");
    guests[0].window.store64(offset(RX_RING, HEAD), 0x8888).expect("inside");
    for _ in 0..3 {
        machine.arrive(&inbound(1, 1000, 0));
        machine.arrive(&inbound(2, 60, 0));
        machine.demux.kick(seat(1));
        guests[1].send(&outbound(2, HOST, 60, 0));
        machine.demux.kick(seat(2));
        machine.settle();
    }
    assert_eq!(guests[1].receive().len(), 3);
    assert_eq!(machine.sent().len(), 3);
    assert!(machine.demux.totals().corrupt > 0);
    assert!(guests[0].counters().tx_drop_malformed > 0);
}

#[test]
fn lying_records_are_skipped() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    guests[0].send(&outbound(1, HOST, 60, 0));
    // The record says that it takes 200 slots.
    let slots_at = usize::try_from(abi::nic::tx_slots_offset(256)).expect("small");
    guests[0].window.write16(slots_at + 4, 200).expect("inside");
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(machine.sent().is_empty());
    assert_eq!(guests[0].counters().tx_drop_malformed, 1);
    guests[0].send(&outbound(1, HOST, 60, 1));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent(), [outbound(1, HOST, 60, 1)]);
}

#[test]
fn arp_floods_wake_nobody_and_grow_nothing() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    assert!(guests.iter_mut().all(|guest| guest.rx.prepare_wait()));
    for number in 0..2000 {
        machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), 0x0a00_0900 + number));
    }
    machine.settle();
    assert_eq!(machine.demux.totals().to_nobody, 2000);
    assert_eq!(machine.raised(), []);
    // Announcements go to all, and are dropped where nobody takes them.
    for _ in 0..2000 {
        machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 77), 77));
    }
    machine.settle();
    for guest in &guests {
        let counters = guest.counters();
        assert_eq!(counters.rx_frames + counters.rx_drop_full, 2000);
        assert_eq!(counters.rx_frames, 256);
    }
}

#[test]
fn a_turn_is_bounded_and_rests_when_work_is_left() {
    let (mut machine, _guests) = Machine::with_guests(&[1]);
    for _ in 0..RX {
        machine.arrive(&inbound(1, 60, 0));
    }
    assert!(matches!(machine.demux.turn(), Pace::Rest(ticks) if ticks >= u64::try_from(BATCH).expect("small")));
    assert!(machine.demux.rx_left());
    assert_eq!(machine.demux.totals().received, u64::try_from(BATCH).expect("small"));
    assert_eq!(machine.demux.turn(), Pace::Idle);
    assert!(!machine.demux.rx_left());
}

#[test]
fn slow_broadcasts_go_on_in_the_next_turn_and_reach_everybody_once() {
    // So slow a machine that a turn lasts no longer than a look at the clock.
    let mut machine = Machine::new(1);
    let mut guests: Vec<_> = (0..10).map(|slot| Guest::new(slot, 256, 256)).collect();
    for guest in &guests {
        assert!(machine.demux.attach(guest.newcomer(address(guest.slot()), Share::DEFAULT), guest.nic()));
    }
    machine.settle();
    let wire = frames::ipv4(HOST, Mac::BROADCAST, 7, u32::MAX, 1, &[1; 30]);
    let own = outbound(3, Mac::BROADCAST, 60, 4);
    machine.arrive(&wire);
    machine.arrive(&inbound(2, 60, 1));
    guests[3].send(&own);
    guests[3].send(&outbound(3, HOST, 60, 5));
    machine.demux.kick(seat(3));
    let mut turns = 1;
    while machine.demux.turn() != Pace::Idle {
        turns += 1;
    }
    assert!(turns > 5, "{turns}");
    for guest in &mut guests {
        let slot = guest.slot();
        let mut got = guest.receive();
        got.retain(|frame| *frame != inbound(2, 60, 1));
        got.sort();
        let mut expected = if slot == 3 { vec![wire.clone()] } else { vec![wire.clone(), own.clone()] };
        expected.sort();
        assert_eq!(got, expected, "{slot}");
    }
    assert_eq!(machine.sent(), [own, outbound(3, HOST, 60, 5)]);
}

#[test]
fn detached_vms_are_not_touched() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    guests[0].send(&outbound(1, HOST, 60, 0));
    machine.demux.kick(seat(1));
    assert!(machine.demux.detach(guests[0].id, guests[0].seat()).is_some());
    let before: Vec<u64> = (0..guests[0].window.len() / 8).map(|i| guests[0].word(i * 8)).collect();
    machine.arrive(&inbound(1, 60, 0));
    machine.arrive(&frames::ipv4(HOST, Mac::BROADCAST, 7, u32::MAX, 1, &[1; 30]));
    machine.demux.kick(seat(1));
    machine.settle();
    let after: Vec<u64> = (0..guests[0].window.len() / 8).map(|i| guests[0].word(i * 8)).collect();
    assert_eq!(before, after);
    assert!(machine.sent().is_empty());
    assert_eq!(guests[1].receive().len(), 1);
    assert_eq!(machine.demux.totals().to_nobody, 1);
    assert_eq!(machine.demux.ports.end(), seat(3).number());
    // Late messages about a VM that is gone concern nobody.
    assert!(machine.demux.detach(guests[0].id, guests[0].seat()).is_none());
    let stale = VmId::new(2, 9);
    assert!(machine.demux.detach(stale, seat(2)).is_none());
    machine.arrive(&inbound(2, 60, 0));
    machine.settle();
    assert_eq!(guests[1].receive().len(), 1);
}

#[test]
fn a_vm_that_moves_is_reached_where_it_is_now_and_sends_from_there() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    let (old, new) = (address(1), 0x0a00_0263);
    machine.demux.address(guests[0].id, seat(1), new);
    // What was under way for the old address concerns it no longer.
    machine.arrive(&inbound(1, 60, 0));
    machine.arrive(&frames::ipv4(HOST, Mac::of_slot(1), 7, new, 1, &[1; 30]));
    machine.settle();
    assert_eq!(guests[0].receive().len(), 1);
    guests[0].send(&frames::ipv4(Mac::of_slot(1), HOST, old, 7, 1, &[1; 30]));
    guests[0].send(&frames::ipv4(Mac::of_slot(1), HOST, new, 7, 1, &[2; 30]));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent(), [frames::ipv4(Mac::of_slot(1), HOST, new, 7, 1, &[2; 30])]);
    // To where somebody else is nobody moves, and who does not exist has no address.
    machine.demux.address(guests[0].id, seat(1), address(2));
    machine.demux.address(VmId::new(1, 99), seat(1), old);
    guests[0].send(&frames::ipv4(Mac::of_slot(1), HOST, new, 7, 1, &[3; 30]));
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(machine.sent().is_empty());
}

#[test]
fn a_slot_can_be_used_again() {
    let (mut machine, guests) = Machine::with_guests(&[1]);
    machine.demux.detach(guests[0].id, guests[0].seat());
    assert_eq!(machine.demux.ports.end(), 0);
    let mut next = Guest::new(1, 256, 256);
    next.id.generation = 2;
    assert!(machine.demux.attach(next.newcomer(address(1), Share::DEFAULT), next.nic()));
    machine.arrive(&inbound(1, 60, 3));
    machine.settle();
    assert_eq!(next.receive(), [inbound(1, 60, 3)]);
}

#[test]
fn seats_beyond_the_tables_are_refused() {
    let mut machine = Machine::new(1_000_000);
    let guest = Guest::new(u16::try_from(SLOTS).expect("small"), 256, 256);
    assert!(!machine.demux.attach(guest.newcomer(1, Share::DEFAULT), guest.nic()));
    machine.demux.kick(guest.seat());
    machine.settle();
}

#[test]
fn a_restarted_demultiplexer_serves_the_same_guests() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    machine.arrive(&inbound(1, 60, 1));
    machine.settle();
    guests[0].send(&outbound(1, HOST, 60, 1));
    guests[0].window.write64(24 + 32, 99).expect("inside");
    drop(machine);

    let mut machine = Machine::new(1_000_000);
    machine.demux.forget_all();
    for guest in &mut guests {
        guest.reset_rings();
        assert!(machine.demux.attach(guest.newcomer(address(guest.slot()), Share::DEFAULT), guest.nic()));
    }
    machine.settle();
    assert!(machine.sent().is_empty());
    assert_eq!(guests[0].counters(), NicCounters::default());
    for guest in &mut guests {
        assert!(guest.rx.check_epoch().is_err() && guest.tx.check_epoch().is_err());
        let slot = guest.slot();
        machine.arrive(&inbound(slot, 60, 2));
        guest.send(&outbound(slot, HOST, 60, 2));
        machine.demux.kick(seat(slot));
    }
    machine.settle();
    for guest in &mut guests {
        assert_eq!(guest.receive(), [inbound(guest.slot(), 60, 2)]);
    }
    assert_eq!(machine.sent().len(), 2);
}

#[test]
fn a_wake_up_that_a_dead_demultiplexer_owed_is_made_good() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    machine.arrive(&inbound(1, 60, 1));
    machine.settle();
    guests[0].window.store32(offset(RX_RING, CONSUMER_WAITS), 1).expect("inside");
    drop(machine);

    let mut machine = Machine::new(1_000_000);
    assert!(machine.demux.attach(guests[0].newcomer(address(1), Share::DEFAULT), guests[0].nic()));
    machine.settle();
    assert_eq!(machine.raised(), [guests[0].id]);
    assert_eq!(guests[0].receive(), [inbound(1, 60, 1)]);
}

#[test]
fn rings_that_are_reset_while_in_use_go_on() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    machine.arrive(&inbound(1, 60, 1));
    guests[0].send(&outbound(1, HOST, 60, 1));
    machine.demux.kick(seat(1));
    machine.settle();
    guests[0].reset_rings();
    assert!(guests[0].rx.check_epoch().is_err() && guests[0].tx.check_epoch().is_err());
    machine.sent();
    machine.arrive(&inbound(1, 60, 2));
    guests[0].send(&outbound(1, HOST, 60, 2));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(guests[0].receive(), [inbound(1, 60, 2)]);
    assert_eq!(machine.sent(), [outbound(1, HOST, 60, 2)]);
}

#[test]
fn dhcp_opens_ipv4_for_the_vm_that_was_given_an_address() {
    let mut machine = Machine::new(1_000_000);
    let mut guests = [Guest::new(1, 256, 256), Guest::new(2, 256, 256), Guest::new(3, 256, 256)];
    for (guest, ipv4) in guests.iter().zip([0, 0, address(3)]) {
        assert!(machine.demux.attach(guest.newcomer(ipv4, Share::DEFAULT), guest.nic()));
    }
    let mut sends = |machine: &mut Machine, index: usize, slot: u16, source: u32| {
        guests[index].send(&frames::ipv4(Mac::of_slot(slot), HOST, source, 9, 6, &[0; 20]));
        machine.demux.kick(seat(slot));
        machine.settle();
        machine.sent().len()
    };
    assert_eq!(sends(&mut machine, 0, 1, address(15)), 0);
    let give = |machine: &mut Machine, slot, ipv4| {
        machine.arrive(&frames::dhcp_answer(Mac::BROADCAST, Mac::of_slot(slot), ipv4, 5));
        machine.settle();
    };
    give(&mut machine, 1, address(15));
    assert_eq!(sends(&mut machine, 0, 1, address(15)), 1);
    // The server gives it to another VM: the first has it no longer.
    give(&mut machine, 2, address(15));
    assert_eq!(sends(&mut machine, 0, 1, address(15)), 0);
    assert_eq!(sends(&mut machine, 1, 2, address(15)), 1);
    // A fixed address is not for the taking.
    give(&mut machine, 2, address(3));
    assert_eq!(sends(&mut machine, 1, 2, address(3)), 0);
    assert_eq!(sends(&mut machine, 2, 3, address(3)), 1);
    // The answers themselves reached only the VMs that they were for.
    assert_eq!(guests.each_mut().map(|guest| guest.receive().len()), [1, 2, 0]);
}

#[test]
fn learnt_addresses_survive_a_restart() {
    let leases = memory(LEASE_BYTES);
    let mut machine = Machine::<RoundRobin>::after(leases, 1_000_000);
    let mut guest = Guest::new(1, 256, 256);
    assert!(machine.demux.attach(guest.newcomer(0, Share::DEFAULT), guest.nic()));
    machine.arrive(&frames::dhcp_answer(Mac::BROADCAST, Mac::of_slot(1), address(15), 5));
    machine.settle();
    drop(machine);

    let mut machine = Machine::<RoundRobin>::after(leases, 1_000_000);
    assert!(machine.demux.attach(guest.newcomer(0, Share::DEFAULT), guest.nic()));
    guest.send(&frames::ipv4(Mac::of_slot(1), HOST, address(15), 9, 6, &[0; 20]));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent().len(), 1);
    // The next VM in the slot inherits nothing.
    machine.demux.detach(guest.id, guest.seat());
    guest.id.generation = 2;
    assert!(machine.demux.attach(guest.newcomer(0, Share::DEFAULT), guest.nic()));
    guest.send(&frames::ipv4(Mac::of_slot(1), HOST, address(15), 9, 6, &[0; 20]));
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(machine.sent().is_empty());
}

#[test]
fn an_address_belongs_to_one_vm() {
    let mut machine = Machine::new(1_000_000);
    let mut guests = [Guest::new(1, 256, 256), Guest::new(2, 256, 256)];
    for guest in &guests {
        assert!(machine.demux.attach(guest.newcomer(address(1), Share::DEFAULT), guest.nic()));
    }
    guests[1].send(&frames::ipv4(Mac::of_slot(2), HOST, address(1), 9, 6, &[0; 20]));
    machine.demux.kick(seat(2));
    machine.settle();
    assert!(machine.sent().is_empty());
}

proptest! {
    /// Any bytes from the wire, any bytes from guests, any damage to what guests share: no panic, every frame from the
    /// wire accounted for, nothing on the wire that does not bear its sender's MAC.
    #[test]
    fn survives_anything(steps in proptest::collection::vec((0..8_u8, any::<u16>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 14..120)), 1..60)) {
        let (mut machine, mut guests) = Machine::with_guests(&[0, 1, 2]);
        let mut arrived = 0;
        for (step, a, b, mut bytes) in steps {
            let slot = a % 3;
            let guest = &mut guests[usize::from(slot)];
            match step {
                0 => {
                    machine.arrive(&bytes);
                    arrived += 1;
                }
                1 => {
                    bytes[..6].copy_from_slice(&Mac::of_slot(slot).bytes());
                    machine.arrive(&bytes);
                    arrived += 1;
                }
                2 => {
                    bytes[..6].copy_from_slice(&[0xff; 6]);
                    bytes[12..14].copy_from_slice(&IPV4.to_be_bytes());
                    machine.arrive(&bytes);
                    arrived += 1;
                }
                3 => _ = guest.tx.push(&bytes),
                4 => {
                    bytes[6..12].copy_from_slice(&Mac::of_slot(slot).bytes());
                    _ = guest.tx.push(&bytes);
                }
                // Indices, flags and epochs, or whatever lies there.
                5 => _ = guest.window.write64(usize::from(a) % 768 / 8 * 8, b),
                6 => _ = guest.window.write64(usize::from(a) % guest.window.len() / 8 * 8, b),
                _ => _ = guest.receive(),
            }
            machine.demux.kick(seat(slot));
            machine.demux.turn();
        }
        machine.settle();
        prop_assert_eq!(machine.demux.totals().received, arrived);
        for frame in machine.sent() {
            let source = Mac::new(*frame[6..].first_chunk().expect("long enough"));
            prop_assert!(source.slot_behind(Mac::of_slot(0)).is_some_and(|slot| slot.number() < 3));
        }
    }
}

//! The pages of the rings: none before the first frame, one for a quiet ring, none when it is left alone.

use super::*;
use crate::frame::{IPV4, Mac};
use crate::test_frames as frames;
use crate::test_frames::seat;
use crate::test_machine::{Guest, Machine, address};
use abi::charges::Traffic;
use abi::nic::TX_RING;
use abi::ring::TAIL;
use std::vec;
use std::vec::Vec;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
/// Ticks in a second of [`Machine::with_guests`].
const SECOND: u64 = 1_000_000;

fn inbound(slot: u16, len: usize) -> Vec<u8> {
    let mut frame = frames::ipv4(HOST, Mac::of_slot(slot), 9, address(slot), 6, &[]);
    frame.resize(len, 7);
    frame
}

fn outbound(slot: u16, len: usize) -> Vec<u8> {
    let mut frame = frames::ethernet(Mac::of_slot(slot), HOST, IPV4, &inbound(slot, 60)[14..]);
    frame[26..30].copy_from_slice(&address(slot).to_be_bytes());
    frame.resize(len, 7);
    frame
}

/// The pages of a guest's NIC in the window.
fn given(machine: &Machine, guest: &Guest) -> u32 {
    machine.core.borrow().given.get(&guest.id).copied().unwrap_or(0)
}

/// Some time passes in which nothing happens.
fn rest(machine: &mut Machine, ticks: u64) {
    let until = machine.clock.get() + ticks;
    while machine.demux.due() <= until {
        machine.clock.set(machine.clock.get().max(machine.demux.due()));
        machine.settle();
    }
    machine.clock.set(until);
}

fn one() -> (Machine, Guest) {
    let (machine, mut guests) = Machine::with_guests(&[1]);
    (machine, guests.remove(0))
}

#[test]
fn a_ring_has_a_page_from_its_first_frame_on_until_it_is_left_alone() {
    let (mut machine, mut guest) = one();
    assert_eq!((given(&machine, &guest), machine.demux.due()), (0, u64::MAX));
    machine.arrive(&inbound(1, 60));
    machine.settle();
    // Receive slots from page 1 on, transmit slots from page 5 on.
    assert_eq!(given(&machine, &guest), 1 << 1);
    assert!(guest.send(&outbound(1, 60)));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(given(&machine, &guest), 1 << 1 | 1 << 5);
    // What has not been taken stays.
    rest(&mut machine, 5 * SECOND);
    assert_eq!(given(&machine, &guest), 1 << 1);
    assert_eq!(guest.receive(), [inbound(1, 60)]);
    rest(&mut machine, SECOND);
    assert_eq!((given(&machine, &guest), machine.demux.due()), (0, u64::MAX));
    // With all of the transmit ring, of which the guest may have taken more than it has used.
    assert_eq!(machine.core.borrow().returned, 1 << 1 | 0b1111 << 5);
    machine.arrive(&inbound(1, 1514));
    machine.settle();
    assert_eq!(guest.receive(), [inbound(1, 1514)]);
    assert_eq!(machine.sent(), [outbound(1, 60)]);
}

#[test]
fn a_ring_that_is_used_now_and_then_stays_on_one_page() {
    let (mut machine, mut guest) = one();
    for round in 0..300 {
        machine.arrive(&inbound(1, 60 + round * 4));
        machine.settle();
        assert_eq!(guest.receive().len(), 1);
        guest.send(&outbound(1, 60 + round * 4));
        machine.demux.kick(seat(1));
        machine.settle();
        assert_eq!(given(&machine, &guest), 1 << 1 | 1 << 5, "{round}");
        rest(&mut machine, SECOND / 3);
    }
    assert_eq!(machine.sent().len(), 300);
}

#[test]
fn after_a_burst_the_pages_go_but_the_one_that_is_in_use() {
    let (mut machine, mut guest) = one();
    for _ in 0..10 {
        machine.arrive(&inbound(1, 1514));
    }
    machine.settle();
    assert_eq!((given(&machine, &guest), guest.receive().len()), (0b11110, 10));
    for _ in 0..8 {
        machine.arrive(&inbound(1, 60));
        machine.settle();
        assert_eq!(guest.receive().len(), 1);
        rest(&mut machine, SECOND / 4);
    }
    assert_eq!(given(&machine, &guest).count_ones(), 1);
    rest(&mut machine, 2 * SECOND);
    assert_eq!(given(&machine, &guest), 0);
}

#[test]
fn pages_stay_while_their_vm_does_not_idle() {
    let (mut machine, mut guest) = one();
    machine.core.borrow_mut().busy.push(guest.id);
    machine.arrive(&inbound(1, 60));
    machine.settle();
    assert_eq!(guest.receive().len(), 1);
    rest(&mut machine, 5 * SECOND);
    assert_eq!(given(&machine, &guest), 1 << 1);
    assert!(machine.demux.due() <= machine.clock.get() + SECOND / 2, "it is asked again");
    machine.core.borrow_mut().busy.clear();
    rest(&mut machine, SECOND);
    assert_eq!(given(&machine, &guest), 0);
}

#[test]
fn a_frame_for_which_there_is_no_page_is_dropped_and_counted() {
    let (mut machine, mut guest) = one();
    machine.core.borrow_mut().left = Some(1);
    // Of the third frame the second half has no page.
    for len in [1514, 1514, 1514, 60] {
        machine.arrive(&inbound(1, len));
    }
    machine.settle();
    assert_eq!(guest.receive(), [inbound(1, 1514), inbound(1, 1514), inbound(1, 60)]);
    assert_eq!((guest.counters().rx_frames, guest.counters().rx_drop_full), (3, 1));
    machine.core.borrow_mut().left = Some(0);
    for _ in 0..20 {
        machine.arrive(&inbound(1, 1514));
        machine.settle();
        // The ring is empty, so it goes on where it has a page.
        assert_eq!(guest.receive(), [inbound(1, 1514)]);
    }
}

#[test]
fn what_a_guest_claims_to_have_stored_where_no_page_can_be_is_skipped() {
    let (mut machine, mut guest) = one();
    machine.core.borrow_mut().left = Some(0);
    guest.send(&outbound(1, 60));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!((machine.sent(), guest.counters().tx_drop_malformed), (vec![], 1));
    machine.core.borrow_mut().left = None;
    guest.send(&outbound(1, 60));
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent(), [outbound(1, 60)]);
}

/// A tail that is far ahead gets the liar pages of its own ring, one after the other, and nothing else.
#[test]
fn a_guest_that_lies_about_its_tail_gets_its_own_pages() {
    let (mut machine, guest) = one();
    let tail = usize::try_from(TX_RING).expect("small") + TAIL;
    for (ahead, pages) in [(1, 1 << 5), (200, 0b1111 << 5), (257, 0), (1 << 31, 0)] {
        let before = machine.core.borrow().given.get(&guest.id).copied().unwrap_or(0);
        guest.window.write64(tail, ahead).expect("inside");
        machine.demux.kick(seat(1));
        machine.settle();
        assert_eq!(given(&machine, &guest), before | pages, "{ahead}");
    }
    rest(&mut machine, 3 * SECOND);
    assert_eq!(given(&machine, &guest), 0);
}

#[test]
fn whoever_comes_after_a_vm_in_its_slot_has_pages_of_its_own() {
    let (mut machine, mut guest) = one();
    machine.arrive(&inbound(1, 60));
    machine.settle();
    machine.demux.detach(guest.id, seat(1)).expect("attached");
    let mut next = Guest::new(1, 256, 256);
    next.id = VmId::new(1, 2);
    assert!(machine.demux.attach(next.newcomer(address(1), Share::DEFAULT), next.nic()));
    rest(&mut machine, SECOND / 10);
    for _ in 0..3 {
        machine.arrive(&inbound(1, 60));
        machine.settle();
        assert_eq!((next.receive().len(), given(&machine, &next)), (1, 1 << 1));
        rest(&mut machine, 2 * SECOND);
        assert_eq!(given(&machine, &next), 0);
    }
    assert_eq!((guest.receive().len(), machine.demux.due()), (1, u64::MAX));
}

#[test]
fn a_broadcast_wakes_pages_that_go_again() {
    let slots: Vec<u16> = (0..10).collect();
    let (mut machine, mut guests) = Machine::with_guests(&slots);
    machine.arrive(&frames::ethernet(HOST, Mac::BROADCAST, IPV4, &[0x45; 46]));
    machine.settle();
    for guest in &mut guests {
        assert_eq!((given(&machine, guest), guest.receive().len()), (1 << 1, 1));
    }
    rest(&mut machine, 2 * SECOND);
    assert!(guests.iter().all(|guest| given(&machine, guest) == 0));
}

/// All are looked at once a period, however many there are, in turns that are bounded.
#[test]
fn the_looks_are_spread_over_the_period() {
    let mut looks = pages::Looks::new(SECOND);
    for (ports, pause) in [(1, 500_000), (32, 500_000), (33, 250_000), (320, 50_000), (4096, 3906)] {
        looks.rest(1000, ports);
        assert_eq!(looks.due(), 1000 + pause, "{ports}");
    }
    looks.rest(1000, 0);
    assert_eq!(looks.due(), u64::MAX);
}

/// What was said of a VM since the last call: bytes and frames got and sent, and work.
fn said_of(machine: &mut Machine, vm: VmId) -> Vec<([u64; 4], u64)> {
    let used = &mut machine.demux.host_mut().used;
    let mine = used.iter().filter(|(used, _)| used.vm == vm).map(|(used, _)| {
        let Traffic { rx_bytes, tx_bytes, rx_frames, tx_frames } = used.traffic;
        ([rx_bytes, tx_bytes, rx_frames.into(), tx_frames.into()], used.work)
    });
    mine.collect()
}

#[test]
fn what_was_done_for_a_vm_is_said_within_a_second_and_when_it_goes() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    machine.arrive(&inbound(1, 1000));
    machine.arrive(&inbound(1, 60));
    machine.arrive(&inbound(2, 60));
    // Nobody has this address.
    machine.arrive(&inbound(3, 100));
    assert!(guests[0].send(&outbound(1, 200)));
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(machine.demux.host_mut().used.is_empty(), "not at each frame");
    rest(&mut machine, SECOND);
    // At its attachment, and after its frame, a look found nothing to send.
    assert_eq!(
        said_of(&mut machine, guests[0].id),
        [([1060, 200, 2, 1], 1060 + 200 + 3 * FRAME_WORK + 2 * FRAME_WORK)]
    );
    assert_eq!(said_of(&mut machine, guests[1].id), [([60, 0, 1, 0], 60 + 2 * FRAME_WORK)]);
    assert_eq!(said_of(&mut machine, VmId::from_raw(0)), [([0; 4], 100 + FRAME_WORK)]);
    // Each is a part of what had not been said yet, and together they are all of it.
    let used = core::mem::take(&mut machine.demux.host_mut().used);
    for pair in used.windows(2) {
        assert_eq!(pair[1].1, pair[0].1 - pair[0].0.work);
    }
    assert_eq!(used.last().map(|(used, of)| of - used.work), Some(0));
    // What has been said is not said again, and what is left is said at the end.
    rest(&mut machine, SECOND);
    assert!(machine.demux.host_mut().used.is_empty());
    machine.arrive(&inbound(2, 60));
    machine.settle();
    machine.demux.detach(guests[1].id, seat(2)).expect("attached");
    assert_eq!(said_of(&mut machine, guests[1].id), [([120, 0, 2, 0], 60 + FRAME_WORK)]);
}

/// What this VM had brought about, of what was said of it.
fn caused_by(machine: &mut Machine, vm: VmId) -> u64 {
    machine.demux.host_mut().used.iter().filter(|(used, _)| used.vm == vm).map(|(used, _)| used.caused).sum()
}

#[test]
fn whoever_sends_has_caused_what_others_get_and_nobody_what_comes_from_the_wire() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2, 3]);
    machine.arrive(&inbound(2, 700));
    guests[0].send(&frames::ipv4(Mac::of_slot(1), Mac::of_slot(2), address(1), address(2), 6, &[0; 66]));
    machine.demux.kick(seat(1));
    machine.settle();
    guests[0].send(&frames::ipv4(Mac::of_slot(1), Mac::BROADCAST, address(1), !0, 6, &[0; 66]));
    machine.demux.kick(seat(1));
    machine.settle();
    rest(&mut machine, SECOND);
    // Two frames of a hundred bytes taken, three given, and three looks that found nothing more, the first one at its attachment.
    assert_eq!(caused_by(&mut machine, guests[0].id), 5 * (100 + FRAME_WORK) + 3 * FRAME_WORK);
    assert_eq!([1, 2].map(|index: usize| caused_by(&mut machine, guests[index].id)), [FRAME_WORK; 2]);
    let id = guests[1].id;
    assert_eq!(said_of(&mut machine, id).iter().map(|(_, work)| work).sum::<u64>(), 700 + 2 * FRAME_WORK);
}

#[test]
fn kicks_for_nothing_are_work_for_whoever_kicks() {
    let (mut machine, guest) = one();
    for _ in 0..10 {
        machine.demux.kick(seat(1));
        machine.settle();
    }
    machine.demux.detach(guest.id, seat(1)).expect("attached");
    let caused = caused_by(&mut machine, guest.id);
    assert!((10 * FRAME_WORK..=11 * FRAME_WORK).contains(&caused), "{caused}");
}

#[test]
fn of_much_work_it_is_said_soon_whose_it_was() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    for _ in 0..300 {
        guests[0].send(&outbound(1, 1000));
        machine.demux.kick(seat(1));
        machine.settle();
    }
    let (first, second) = (guests[0].id, guests[1].id);
    // A message for each hundred frames, or so.
    let said = said_of(&mut machine, first).len();
    assert!((2..10).contains(&said), "{said}");
    assert!(said_of(&mut machine, second).is_empty());
    // So are kicks for nothing.
    machine.demux.host_mut().used.clear();
    for _ in 0..3000 {
        machine.demux.kick(seat(2));
        machine.settle();
    }
    let said = said_of(&mut machine, second).len();
    assert!((2..50).contains(&said), "{said}");
}

#[test]
fn frames_that_a_vm_may_not_send_are_work_for_it() {
    let (mut machine, mut guest) = one();
    // Another one's address.
    assert!(guest.send(&outbound(2, 60)));
    machine.demux.kick(seat(1));
    machine.settle();
    machine.demux.detach(guest.id, seat(1)).expect("attached");
    assert_eq!(said_of(&mut machine, guest.id), [([0; 4], 3 * FRAME_WORK)]);
}

//! Records of several segments on their way from a guest.

use crate::frame::Mac;
use crate::policy::TokenBucket;
use crate::segments::tests::{judge_all, record};
use crate::test_frames::seat;
use crate::test_machine::{Guest, LEASE_BYTES, Machine, address, memory};
use abi::nic::NicPage;
use abi::share::Share;
use core::mem::offset_of;
use std::vec::Vec;

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).expect("small")).collect()
}

/// A record of the VM in slot 1, to this address.
fn to(mac: Mac, len: usize) -> Vec<u8> {
    let mut record = record(0, 0x18, u32::MAX - 2000, u16::MAX, &data(len));
    record[..6].copy_from_slice(&mac.bytes());
    record
}

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);

#[test]
fn a_record_is_cut_for_a_nic_that_does_not() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    assert_eq!(guests[0].window.read32(offset_of!(NicPage, max_segments)), Some(8_184));
    assert_eq!(guests[0].window.read32(offset_of!(NicPage, nic_cuts)), Some(0));
    let record = to(HOST, 5000);
    assert!(guests[0].send_segments(&record, 1460));
    guests[0].send(&record[..54]);
    machine.demux.kick(seat(1));
    machine.settle();
    let mut sent = machine.sent();
    assert_eq!(sent.pop().expect("what stood behind it"), record[..54]);
    assert_eq!(sent.len(), 4);
    judge_all(&record, &sent, 1460);
    let counters = guests[0].counters();
    assert_eq!((counters.tx_frames, counters.tx_bytes), (5, 5000 + 5 * 54));
}

#[test]
fn a_nic_that_cuts_has_it_whole() {
    let (mut machine, _) = Machine::with_guests(&[]);
    machine.wire.borrow_mut().cuts = true;
    let mut guest = Guest::new(1, 256, 256);
    assert!(machine.demux.attach(guest.newcomer(address(1), Share::DEFAULT), guest.nic()));
    assert_eq!(guest.window.read32(offset_of!(NicPage, nic_cuts)), Some(1));
    let record = to(HOST, 5000);
    guest.send_segments(&record, 1460);
    guest.send(&record[..54]);
    machine.demux.kick(seat(1));
    machine.settle();
    assert_eq!(machine.sent(), [record[..54].to_vec()]);
    let records = core::mem::take(&mut machine.wire.borrow_mut().records);
    assert_eq!((records.len(), records[0].1, &records[0].0[54..]), (1, 1460, &record[54..]));
    let counters = guest.counters();
    assert_eq!((counters.tx_frames, counters.tx_bytes), (5, 5000 + 5 * 54));
    assert_eq!(machine.demux.totals().sent, 5);
}

#[test]
fn another_vm_gets_frames_whatever_the_nic_can() {
    let (mut machine, mut guests) = Machine::with_guests(&[1, 2]);
    machine.wire.borrow_mut().cuts = true;
    let record = to(Mac::of_slot(2), 3000);
    guests[0].send_segments(&record, 1460);
    machine.demux.kick(seat(1));
    machine.settle();
    assert!(machine.sent().is_empty() && machine.wire.borrow().records.is_empty());
    judge_all(&record, &guests[1].receive(), 1460);
}

#[test]
fn what_may_not_leave_does_not_in_pieces_either() {
    for cuts in [false, true] {
        let (mut machine, mut guests) = Machine::with_guests(&[1]);
        machine.wire.borrow_mut().cuts = cuts;
        let good = to(HOST, 3000);
        let spoilt = |at: usize, byte: u8| {
            let mut record = good.clone();
            record[at] = byte;
            record
        };
        // Another's MAC, another's address, a fragment.
        let bad = [spoilt(11, 9), spoilt(29, 77), spoilt(20, 0x20)];
        bad.iter().for_each(|record| _ = guests[0].send_segments(record, 1000));
        machine.demux.kick(seat(1));
        machine.settle();
        assert!(machine.sent().is_empty() && machine.wire.borrow().records.is_empty());
        let counters = guests[0].counters();
        // Cut here, each frame is refused.
        let each = if cuts { 1 } else { 3 };
        assert_eq!((counters.tx_drop_mac, counters.tx_drop_ip, counters.tx_drop_malformed), (each, each, 1));
        guests[0].send_segments(&good, 1000);
        machine.demux.kick(seat(1));
        machine.settle();
        assert_eq!(machine.sent().len() + 3 * machine.wire.borrow().records.len(), 3, "what follows is not lost");
    }
}

#[test]
fn a_guest_that_changes_its_mind_in_the_middle_harms_nobody() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    machine.wire.borrow_mut().blocked = true;
    let record = to(HOST, 8000);
    guests[0].send_segments(&record, 536);
    machine.demux.kick(seat(1));
    // Buffers for seven frames.
    (0..20).for_each(|_| _ = machine.demux.turn());
    assert_eq!(machine.sent().len(), 7);
    // The headers are longer now, and what they say of the length is not true; then the record is as it was, and a good one follows.
    let first = abi::nic::tx_slots_offset(256);
    let at = usize::try_from(first).expect("small") + abi::ring::PACKET_HEADER_BYTES + 16;
    guests[0].window.write(at, &[0, 1]).expect("inside");
    machine.wire.borrow_mut().blocked = false;
    machine.settle();
    assert!(machine.sent().is_empty());
    assert_eq!(guests[0].counters().tx_drop_malformed, 1);
    let record = to(HOST, 3000);
    guests[0].send_segments(&record, 1460);
    machine.demux.kick(seat(1));
    machine.settle();
    judge_all(&record, &machine.sent(), 1460);
}

#[test]
fn a_ring_that_is_reset_in_the_middle_begins_anew() {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    machine.wire.borrow_mut().blocked = true;
    guests[0].send_segments(&to(HOST, 8000), 536);
    machine.demux.kick(seat(1));
    (0..20).for_each(|_| _ = machine.demux.turn());
    assert_eq!(machine.sent().len(), 7);
    guests[0].reset_rings();
    machine.wire.borrow_mut().blocked = false;
    machine.settle();
    let (sent, record) = (machine.sent(), to(HOST, 3000));
    assert!(sent.len() <= 1, "{} frames of a ring that is empty", sent.len());
    let _ = guests[0].tx.check_epoch();
    guests[0].send_segments(&record, 1460);
    machine.demux.kick(seat(1));
    machine.settle();
    judge_all(&record, &machine.sent(), 1460);
}

#[test]
fn whoever_may_send_little_sends_little_whatever_the_nic_can() {
    for cuts in [false, true] {
        let mut machine = Machine::<TokenBucket>::after(memory(LEASE_BYTES), 1_000_000);
        machine.wire.borrow_mut().cuts = cuts;
        let mut guest = Guest::new(1, 256, 256);
        // A frame's worth of burst, and ten thousand bytes a second.
        let share = Share { rate: 10_000, burst: 1514, ..Share::DEFAULT };
        assert!(machine.demux.attach(guest.newcomer(address(1), share), guest.nic()));
        guest.send_segments(&to(HOST, 7300), 1460);
        machine.demux.kick(seat(1));
        machine.clock.set(1_000_000);
        let mut frames = 0;
        while machine.clock.get() < 1_300_000 {
            machine.demux.turn();
            machine.clock.set(machine.clock.get() + 100);
            frames += machine.sent().len();
        }
        assert!(machine.wire.borrow().records.is_empty());
        assert!((1..=3).contains(&frames), "{frames} frames in 0.3 s");
    }
}

//! VMs that are out.

use super::*;
use crate::frame::Mac;
use crate::test_frames::{self as frames, NODE};
use crate::test_machine::{Guest, Machine, address};
use abi::nic::{Listens, NicPage};
use abi::tenant::Tenant;
use core::mem::offset_of;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
const HOST_IPV4: u32 = 0x0a00_0202;

fn vm(slot: u16) -> VmId {
    VmId::new(slot.into(), 1)
}

/// A machine with a VM in slot 1, and those in these slots out.
fn machine(out: &[u16]) -> (Machine, Guest) {
    let (mut machine, mut guests) = Machine::with_guests(&[1]);
    for &slot in out {
        assert!(machine.demux.put_out(vm(slot), Tenant::UNSAID, NODE, address(slot), false));
    }
    (machine, guests.remove(0))
}

/// A datagram from the host, told from others by `byte`.
fn datagram(slot: u16, byte: u8) -> Vec<u8> {
    frames::ipv4(HOST, Mac::of_slot(slot), HOST_IPV4, address(slot), 17, &frames::udp((5000, 7), &[byte; 9]))
}

fn syn(slot: u16, flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[13] = flags;
    frames::ipv4(HOST, Mac::of_slot(slot), HOST_IPV4, address(slot), 6, &segment)
}

#[test]
fn the_first_packet_calls_a_vm_once_and_is_there_when_it_comes() {
    let (mut machine, _) = machine(&[5]);
    for byte in 0..3 {
        machine.arrive(&datagram(5, byte));
    }
    machine.settle();
    assert_eq!(machine.core.borrow().called, [vm(5)], "once");
    let mut guest = Guest::new(5, 256, 256);
    assert!(machine.demux.attach(guest.newcomer(address(5), Share::DEFAULT), guest.nic()));
    machine.settle();
    assert_eq!(guest.receive(), [0, 1, 2].map(|byte| datagram(5, byte)), "in their order");
    let totals = machine.demux.totals();
    assert_eq!((totals.absent_called, totals.absent_delivered, totals.absent_dropped), (1, 3, 0));
    machine.arrive(&datagram(5, 9));
    machine.settle();
    assert_eq!((guest.receive().len(), machine.core.borrow().called.len()), (1, 1), "it is in now");
}

#[test]
fn what_begins_nothing_calls_nobody() {
    let (mut machine, _) = machine(&[5]);
    machine.arrive(&syn(5, 0x10));
    machine.arrive(&syn(5, 0x04));
    // For the address that the slot's last VM had.
    machine.arrive(&frames::ipv4(HOST, Mac::of_slot(5), HOST_IPV4, address(6), 17, &frames::udp((5000, 7), &[1; 9])));
    machine.arrive(&frames::ipv4(HOST, Mac::BROADCAST, HOST_IPV4, u32::MAX, 17, &frames::udp((5000, 7), &[1; 9])));
    machine.settle();
    assert_eq!((machine.core.borrow().called.len(), machine.demux.totals().absent_ignored), (0, 3));
    machine.arrive(&syn(5, 0x02));
    machine.settle();
    assert_eq!(machine.core.borrow().called, [vm(5)]);
}

#[test]
fn questions_are_answered_and_wake_nobody() {
    let (mut machine, mut guest) = machine(&[5]);
    let mac = Mac::of_slot(5);
    machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, HOST_IPV4), address(5)));
    // A conflict is found as well: who asks has no address yet.
    machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 0), address(5)));
    machine.arrive(&frames::arp(HOST, mac, 1, (HOST, HOST_IPV4), address(5)));
    machine.arrive(&frames::arp(HOST, Mac::of_slot(6), 1, (HOST, HOST_IPV4), address(5)));
    machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, HOST_IPV4), address(7)));
    machine.settle();
    let sent = machine.sent();
    assert_eq!(sent.len(), 3, "{sent:?}");
    for answer in sent {
        let head = answer.as_slice().head();
        assert_eq!((head.source(), head.destination(), head.arp_operation()), (mac, HOST, 2));
        assert_eq!((head.arp_sender(), head.arp_sender_ipv4()), (mac, address(5)));
    }
    // From another VM.
    guest.send(&frames::arp(Mac::of_slot(1), Mac::BROADCAST, 1, (Mac::of_slot(1), address(1)), address(5)));
    machine.demux.kick(guest.seat());
    machine.settle();
    let received = guest.receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].as_slice().head().arp_sender(), mac);
    assert!(machine.sent().is_empty(), "nobody outside can answer");
    // Neighbour solicitation, to the group and to the VM.
    let target = frames::own_ipv6([0xfe, 0x80, 0, 0, 0, 0, 0, 0], mac);
    let [_, _, _, d, e, f] = mac.bytes();
    for to in [Mac::new([0x33, 0x33, 0xff, d, e, f]), mac] {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target);
        let asker = frames::own_ipv6([0xfe, 0x80, 0, 0, 0, 0, 0, 0], HOST);
        machine.arrive(&frames::ipv6(HOST, to, asker, 58, &message));
    }
    machine.settle();
    let sent = machine.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|answer| answer.as_slice().head().source() == mac && answer[54] == 136));
    assert_eq!((machine.core.borrow().called.len(), machine.demux.totals().absent_answered), (0, 6));
}

#[test]
fn a_vm_calls_another_one_by_a_packet() {
    let (mut machine, mut guest) = machine(&[5]);
    let frame =
        frames::ipv4(Mac::of_slot(1), Mac::of_slot(5), address(1), address(5), 17, &frames::udp((5000, 7), &[3; 9]));
    guest.send(&frame);
    machine.demux.kick(guest.seat());
    machine.settle();
    assert_eq!((machine.core.borrow().called.clone(), machine.sent().len()), (vec![vm(5)], 0));
    let mut other = Guest::new(5, 256, 256);
    assert!(machine.demux.attach(other.newcomer(address(5), Share::DEFAULT), other.nic()));
    machine.settle();
    assert_eq!(other.receive(), [frame]);
}

#[test]
fn what_waits_too_long_is_dropped_and_the_next_packet_calls_again() {
    let (mut machine, _) = machine(&[5]);
    machine.arrive(&datagram(5, 1));
    machine.settle();
    let due = machine.demux.due();
    assert!(due < u64::MAX && due > machine.clock.get());
    machine.clock.set(due);
    machine.settle();
    assert_eq!((machine.demux.totals().absent_dropped, machine.demux.due()), (1, u64::MAX));
    machine.arrive(&datagram(5, 2));
    machine.settle();
    assert_eq!(machine.core.borrow().called, [vm(5); 2]);
}

#[test]
fn who_leaves_is_out_and_everything_for_it_calls_it() {
    let (mut machine, mut guest) = machine(&[]);
    let seat = guest.seat();
    let to_guest = |flags| {
        frames::ipv4(HOST, Mac::of_slot(1), HOST_IPV4, address(1), 6, &{
            let mut segment = vec![0; 20];
            segment[13] = flags;
            segment
        })
    };
    // With something in its receive ring, and then in its transmit ring, it stays.
    machine.arrive(&to_guest(0x10));
    machine.settle();
    assert!(!machine.demux.leave(vm(1), Tenant::UNSAID, seat));
    assert_eq!(guest.receive().len(), 1);
    guest.send(&frames::ipv4(Mac::of_slot(1), HOST, address(1), HOST_IPV4, 17, &frames::udp((7, 5000), &[1; 9])));
    assert!(!machine.demux.leave(vm(1), Tenant::UNSAID, seat));
    machine.demux.kick(seat);
    machine.settle();
    assert_eq!(machine.sent().len(), 1, "it is attached as before");
    // So does another one than is in that seat.
    assert!(!machine.demux.leave(vm(2), Tenant::UNSAID, seat));
    assert!(machine.demux.leave(vm(1), Tenant::UNSAID, seat));
    assert_eq!(machine.core.borrow().given.get(&vm(1)), Some(&0), "its ring pages are given back");
    assert!(!machine.demux.leave(vm(1), Tenant::UNSAID, seat), "it is not attached any more");
    machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, HOST_IPV4), address(1)));
    machine.settle();
    assert_eq!((machine.sent().len(), machine.core.borrow().called.len()), (1, 0), "questions are answered for it");
    // A segment of a connection that it has.
    machine.arrive(&to_guest(0x18));
    machine.settle();
    assert_eq!(machine.core.borrow().called, [vm(1)]);
    assert!(machine.demux.attach(guest.newcomer(address(1), Share::DEFAULT), guest.nic()));
    machine.settle();
    assert_eq!(guest.receive(), [to_guest(0x18)], "through the rings that it has had");
    guest.send(&frames::ipv4(Mac::of_slot(1), HOST, address(1), HOST_IPV4, 17, &frames::udp((7, 5000), &[2; 9])));
    machine.demux.kick(seat);
    machine.settle();
    assert_eq!(machine.sent().len(), 1);
}

#[test]
fn who_has_left_is_called_by_nothing_that_it_does_not_listen_to() {
    let (mut machine, mut guest) = machine(&[]);
    let seat = guest.seat();
    let mac = Mac::of_slot(1);
    let mut listens = Listens { said: Listens::SAID, ..Listens::default() };
    (listens.broadcast_ports[0], listens.groups[0]) = (7, 0xe000_00fb);
    guest.window.write(offset_of!(NicPage, listens), listens.as_bytes()).expect("within the page");
    assert!(machine.demux.leave(vm(1), Tenant::UNSAID, seat));
    // The core tells of it as well.
    assert!(machine.demux.put_out(vm(1), Tenant::UNSAID, NODE, address(1), true));
    let to_port = |port| frames::ipv4(HOST, mac, HOST_IPV4, address(1), 17, &frames::udp((5000, port), &[1; 9]));
    let own = frames::own_ipv6([0xfe, 0x80, 0, 0, 0, 0, 0, 0], mac);
    let mut asked = vec![135, 0, 0, 0, 0, 0, 0, 0];
    asked.extend(own);
    let noise = [
        to_port(8),
        to_port(0),
        frames::ipv6(HOST, mac, own, 17, &frames::udp((5000, 8), &[1; 9])),
        // Cut off before its ports.
        frames::ipv4(HOST, mac, HOST_IPV4, address(1), 17, &[0; 2])[..36].to_vec(),
        frames::ipv4(HOST, Mac::BROADCAST, HOST_IPV4, u32::MAX, 17, &frames::udp((5000, 7), &[1; 9])),
        frames::ipv4(
            HOST,
            Mac::new([1, 0, 0x5e, 0, 0, 0xfb]),
            HOST_IPV4,
            0xe000_00fb,
            17,
            &frames::udp((5353, 5353), &[1; 9]),
        ),
        frames::ipv4(HOST, mac, HOST_IPV4, address(6), 6, &[0; 20]),
        // Questions, one of whoever wants the address, and an announcement.
        frames::arp(HOST, Mac::BROADCAST, 1, (HOST, HOST_IPV4), address(1)),
        frames::arp(HOST, mac, 1, (HOST, HOST_IPV4), address(1)),
        frames::arp(HOST, Mac::BROADCAST, 1, (HOST, 0), address(1)),
        frames::arp(HOST, Mac::BROADCAST, 1, (HOST, HOST_IPV4), HOST_IPV4),
        frames::ipv6(HOST, mac, frames::own_ipv6([0xfe, 0x80, 0, 0, 0, 0, 0, 0], HOST), 58, &asked),
    ];
    for frame in &noise {
        machine.arrive(frame);
        machine.settle();
    }
    assert_eq!(
        (machine.core.borrow().called.len(), machine.sent().len()),
        (0, 6),
        "all questions were answered, and two datagrams refused"
    );
    // Where it listens, and what may be of a connection of its own.
    for frame in [to_port(7), frames::ipv4(HOST, mac, HOST_IPV4, address(1), 6, &[0; 20])] {
        machine.arrive(&frame);
    }
    machine.settle();
    assert_eq!(machine.core.borrow().called, [vm(1)]);
    assert!(machine.demux.attach(guest.newcomer(address(1), Share::DEFAULT), guest.nic()));
    machine.settle();
    assert_eq!(guest.receive().len(), 2);
    // One that has not said anything wants everything.
    guest.window.write(offset_of!(NicPage, listens), Listens::default().as_bytes()).expect("within the page");
    assert!(machine.demux.leave(vm(1), Tenant::UNSAID, seat));
    machine.arrive(&to_port(8));
    machine.settle();
    assert_eq!(machine.core.borrow().called, [vm(1); 2]);
}

#[test]
fn who_gets_its_address_from_dhcp_does_not_leave() {
    let mut machine = Machine::new(1_000_000);
    let guest = Guest::new(1, 256, 256);
    assert!(machine.demux.attach(guest.newcomer(0, Share::DEFAULT), guest.nic()));
    machine.settle();
    assert!(!machine.demux.leave(vm(1), Tenant::UNSAID, guest.seat()));
}

#[test]
fn a_refusal_of_the_core_drops_the_packet_and_one_that_is_gone_is_forgotten() {
    let (mut machine, _) = machine(&[5]);
    machine.core.borrow_mut().calls = Called::Busy;
    machine.arrive(&datagram(5, 1));
    machine.settle();
    assert_eq!((machine.demux.totals().absent_dropped, machine.demux.due()), (1, u64::MAX));
    machine.core.borrow_mut().calls = Called::Gone;
    machine.arrive(&datagram(5, 1));
    machine.arrive(&datagram(5, 1));
    machine.arrive(&frames::arp(HOST, Mac::BROADCAST, 1, (HOST, HOST_IPV4), address(5)));
    machine.settle();
    assert_eq!((machine.core.borrow().called.len(), machine.demux.totals().absent_dropped), (2, 2));
    assert!(machine.sent().is_empty());
}

proptest! {
    /// Whoever knocks where, and whoever comes, ends or waits: every packet is served or counted, and no more are held than there is room for.
    #[test]
    fn every_knock_is_served_or_counted(
        steps in proptest::collection::vec((0_u8..12, 2_u16..14, any::<u8>()), 0..150),
    ) {
        let (mut machine, _) = machine(&[2, 3, 4, 5, 6, 7, 8, 9]);
        let mut guests: Vec<Guest> = Vec::new();
        let (mut sent, mut received) = (0, 0);
        for (what, slot, byte) in steps {
            match what {
                0..7 => {
                    let known = machine.demux.doors.at(abi::vm::Slot::new(slot.into())).is_some()
                        || guests.iter().any(|guest| guest.slot() == slot);
                    sent += u64::from(known);
                    machine.arrive(&datagram(slot, byte));
                }
                7 if !guests.iter().any(|guest| guest.slot() == slot) && slot < 10 => {
                    let guest = Guest::new(slot, 256, 256);
                    prop_assert!(machine.demux.attach(guest.newcomer(address(slot), Share::DEFAULT), guest.nic()));
                    guests.push(guest);
                }
                8 => machine.demux.forget_absent(vm(slot)),
                9 => _ = machine.clock.replace(machine.clock.get() + u64::from(byte) * 20_000),
                10 => machine.core.borrow_mut().calls = Called::Busy,
                _ => machine.core.borrow_mut().calls = Called::Yes,
            }
            machine.settle();
            received += guests.iter_mut().map(|guest| guest.receive().len() as u64).sum::<u64>();
            let totals = machine.demux.totals();
            let held = machine.demux.doors.held() as u64;
            prop_assert_eq!(sent, received + held + totals.absent_dropped, "{:?}", totals);
            prop_assert!(totals.absent_called <= sent);
        }
    }
}

#[test]
fn what_a_vm_does_not_have_is_refused_for_it_and_wakes_nobody() {
    let (mut machine, _) = machine(&[]);
    assert!(machine.demux.put_out(vm(5), Tenant::UNSAID, NODE, address(5), true));
    let mut listens = Listens { said: Listens::SAID, accepts: Listens::SAID, ..Listens::default() };
    (listens.broadcast_ports[0], listens.tcp_ports[9]) = (9, 80);
    machine.demux.doors.keep(abi::vm::Slot::new(5), &listens);
    let connect = |port: u8, flags: u8| {
        let mut frame = syn(5, flags);
        (frame[37], frame[46]) = (port, 0x50);
        frame
    };
    let mut fragment = datagram(5, 3);
    fragment[21] = 1;
    machine.arrive(&connect(81, 2));
    machine.arrive(&datagram(5, 1));
    machine.arrive(&fragment);
    machine.settle();
    let sent = machine.sent();
    assert_eq!(sent.len(), 2, "nothing is said to a fragment");
    assert_eq!((sent[0][23], sent[0][47], sent[1][23], &sent[1][34..36]), (6, 0x14, 1, &[3, 3][..]));
    assert!(sent.iter().all(|answer| answer.as_slice().head().source() == Mac::of_slot(5)));
    let totals = machine.demux.totals();
    assert_eq!((totals.absent_answered, totals.absent_ignored, totals.absent_called), (2, 3, 0));
    // However many ask.
    for _ in 0..300 {
        machine.arrive(&connect(81, 2));
        machine.settle();
    }
    let sent = machine.sent().len();
    assert!((1..200).contains(&sent), "{sent}");
    assert_eq!(machine.core.borrow().called.len(), 0);
    // What it has, and what belongs to a connection, calls it; then a fragment waits, too.
    machine.arrive(&connect(80, 2));
    machine.arrive(&fragment);
    machine.settle();
    assert_eq!((machine.core.borrow().called.len(), machine.demux.doors.held()), (1, 2));
    for (flags, port) in [(0x10, 81), (0x02, 80)] {
        assert!(machine.demux.put_out(vm(6), Tenant::UNSAID, NODE, address(6), true));
        machine.demux.doors.keep(abi::vm::Slot::new(6), &listens);
        let mut frame = connect(port, flags);
        (frame[..6]).copy_from_slice(&Mac::of_slot(6).bytes());
        frame[30..34].copy_from_slice(&address(6).to_be_bytes());
        machine.arrive(&frame);
        machine.settle();
        assert_eq!(machine.core.borrow_mut().called.pop(), Some(vm(6)));
        machine.demux.forget_absent(vm(6));
    }
}

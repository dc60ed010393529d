//! The demultiplexer under the disciplines that can be chosen beside the usual one.

use crate::demux::Pace;
use crate::frame::Mac;
use crate::policy::{Discipline, Drr, TokenBucket};
use crate::test_frames::{self as frames, seat};
use crate::test_machine::{Guest, LEASE_BYTES, Machine, address, memory};
use abi::share::Share;
use std::vec::Vec;

const HOST: Mac = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
/// Ticks in a second.
const HZ: u64 = 1_000_000;

/// A frame of the VM in `slot`, `len` bytes long.
fn frame(slot: u16, len: usize) -> Vec<u8> {
    let mut frame = frames::ipv4(Mac::of_slot(slot), HOST, address(slot), 9, 6, &[]);
    frame.resize(len, 0);
    frame
}

/// A machine under a discipline with guests of these shares in the slots from 1 on.
fn machine<D: Discipline>(shares: &[Share]) -> (Machine<D>, Vec<Guest>) {
    let mut machine = Machine::<D>::after(memory(LEASE_BYTES), HZ);
    let guests = (1..).zip(shares).map(|(slot, share)| {
        let guest = Guest::new(slot, 256, 256);
        assert!(machine.demux.attach(guest.newcomer(address(slot), *share), guest.nic()));
        guest
    });
    let guests = guests.collect();
    machine.demux.turn();
    (machine, guests)
}

/// Puts as many frames of `len` bytes into the guest's ring as fit, and kicks.
fn fill<D: Discipline>(machine: &mut Machine<D>, guest: &mut Guest, len: usize) {
    let frame = frame(guest.slot(), len);
    while guest.tx.push(&frame).is_ok() {}
    machine.demux.kick(guest.seat());
}

/// The bytes that left, by slot from 1 on.
fn sent<D: Discipline>(machine: &Machine<D>, bytes: &mut [usize]) {
    for frame in machine.sent() {
        bytes[usize::from(frame[11]) - 1] += frame.len();
    }
}

#[test]
fn drr_gives_bytes_by_weight_where_the_nic_is_the_bottleneck() {
    let share = |weight| Share { weight, ..Share::DEFAULT };
    let (mut machine, mut guests) = machine::<Drr>(&[share(100), share(100), share(300)]);
    let mut bytes = [0; 3];
    machine.wire.borrow_mut().blocked = true;
    for _ in 0..1500 {
        for (guest, len) in guests.iter_mut().zip([200, 1514, 700]) {
            fill(&mut machine, guest, len);
        }
        machine.demux.turn();
        machine.wire.borrow_mut().in_use = 0;
        sent(&machine, &mut bytes);
    }
    let near = |a: usize, b: usize| a.abs_diff(b) * 50 < a;
    assert!(near(bytes[0], bytes[1]) && near(bytes[2], 3 * bytes[0]), "{bytes:?}");
}

#[test]
fn a_record_too_long_for_any_turn_is_dropped_and_stops_nobody() {
    for long in [2000, 8000] {
        let (mut drr, mut guests) = machine::<Drr>(&[Share { weight: 1, ..Share::DEFAULT }]);
        guests[0].send(&[0; 8000][..long]);
        guests[0].send(&frame(1, 60));
        drr.demux.kick(seat(1));
        drr.settle();
        assert_eq!((drr.sent().len(), guests[0].counters().tx_drop_malformed), (1, 1));
    }
}

#[test]
fn a_bucket_holds_frames_back_and_says_until_when() {
    // A byte a tick, and two frames at once.
    let share = Share { rate: 1_000_000, burst: 3028, ..Share::DEFAULT };
    let (mut machine, mut guests) = machine::<TokenBucket>(&[share, Share::DEFAULT]);
    let start = machine.clock.get();
    let mut bytes = [0; 2];
    let mut rested = 0;
    while machine.clock.get() < start + HZ {
        fill(&mut machine, &mut guests[0], 1000);
        match machine.demux.turn() {
            Pace::Idle => panic!("the guest has more to send"),
            Pace::Rest(_) => {}
            Pace::Until(time) => {
                let now = machine.clock.get();
                assert!(time > now && time <= now + 1001, "{time} at {now}");
                machine.clock.set(time);
                rested += 1;
            }
        }
        sent(&machine, &mut bytes);
    }
    let elapsed = usize::try_from(machine.clock.get() - start).expect("small");
    assert!(bytes[0] <= elapsed + 3028 && bytes[0] >= elapsed - elapsed / 50, "{bytes:?} in {elapsed}");
    assert!(rested > 500, "{rested}");
    // One that waits delays nobody else.
    fill(&mut machine, &mut guests[1], 1000);
    machine.demux.turn();
    sent(&machine, &mut bytes);
    assert!(bytes[1] > 3000, "{bytes:?}");
}

#[test]
fn a_vm_that_goes_while_it_waits_leaves_nothing_behind() {
    let share = Share { rate: 1000, burst: 2000, ..Share::DEFAULT };
    let (mut machine, mut guests) = machine::<TokenBucket>(&[share]);
    fill(&mut machine, &mut guests[0], 1500);
    while !matches!(machine.demux.turn(), Pace::Until(_)) {}
    assert!(machine.demux.detach(guests[0].id, guests[0].seat()).is_some());
    assert_eq!(machine.demux.turn(), Pace::Idle);
    let next = Guest::new(1, 256, 256);
    assert!(machine.demux.attach(next.newcomer(address(1), share), next.nic()));
    fill(&mut machine, &mut guests[0], 60);
    machine.demux.forget_all();
    assert_eq!(machine.demux.turn(), Pace::Idle);
}

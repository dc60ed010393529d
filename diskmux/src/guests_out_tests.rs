//! VMs that are out keep their virtual disks, and find their rings as they were.

use super::*;

fn leave(lab: &mut Lab, seat: u16) -> Option<DiskCommand> {
    lab.hear(DiskEvent::Leave { vm: vm(seat), seat: Seat::new(seat) });
    lab.vms.commands.pop()
}

fn left(seat: u16) -> Option<DiskCommand> {
    Some(DiskCommand::Left { vm: vm(seat) })
}

fn web() -> Name {
    Name::new("web").expect("short")
}

/// Whether somebody else could write the disk, who does not keep it.
fn is_free(lab: &mut Lab) -> bool {
    lab.attach(0, "web", mode::READ_WRITE, false);
    match lab.vms.commands.pop() {
        None => {
            lab.hear(DiskEvent::Detach { vm: vm(0), seat: Seat::new(0) });
            lab.vms.commands.pop();
            true
        }
        Some(DiskCommand::Refused { vm: of, why: no_disk::IN_USE }) if of == vm(0) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_writer_that_is_out_keeps_its_disk_and_goes_on_where_it_was() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_WRITE, false);
    let mut own = lab.own(1);
    own.put(0, 0x11);
    own.ask(1, DiskOrder::Write { block: 10, slot: 0 });
    lab.kick(1);
    lab.settle();
    // It has not taken its completion, and idles.
    assert_eq!(leave(&mut lab, 1), left(1));
    assert!(!is_free(&mut lab), "it has it");
    lab.vms.raised.clear();
    // It sits elsewhere now.
    lab.vms.pages[3] = lab.vms.pages[1];
    let event = DiskEvent::Attach {
        vm: vm(1),
        seat: Seat::new(3),
        disk: web(),
        mode: mode::READ_WRITE,
        rate: 0,
        again: true,
        weight: 100,
    };
    lab.hear(event);
    assert!(lab.vms.raised.is_empty() && lab.vms.commands.is_empty(), "nothing has happened for it");
    assert!(own.requests.consumer_waits() || !lab.service.is_busy());
    assert_eq!(own.ended(), [(1, status::DONE)]);
    for id in 2..40 {
        own.ask(id, DiskOrder::Read { block: 10, slot: 5 });
        lab.kick(3);
        lab.settle();
        assert_eq!((own.ended(), own.holds(5)), (vec![(id, status::DONE)], 0x11));
        if id % 7 == 0 {
            lab.hear(DiskEvent::Leave { vm: vm(1), seat: Seat::new(3) });
            assert_eq!(lab.vms.commands.pop(), left(1));
            lab.hear(event);
        }
    }
    lab.hear(DiskEvent::Detach { vm: vm(1), seat: Seat::new(3) });
    lab.vms.commands.clear();
    assert!(is_free(&mut lab));
}

#[test]
fn who_has_something_under_way_stays() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_WRITE, false);
    let mut own = lab.own(1);
    let stays = Some(DiskCommand::Stays { vm: vm(1) });
    // In its ring; at the disks.
    own.ask(1, DiskOrder::Read { block: 11, slot: 0 });
    assert_eq!(leave(&mut lab, 1), stays);
    lab.platters.iter().for_each(|platter| platter.borrow_mut().silent = true);
    lab.kick(1);
    lab.step();
    assert_eq!(leave(&mut lab, 1), stays);
    lab.platters.iter().for_each(|platter| platter.borrow_mut().silent = false);
    lab.settle();
    assert_eq!((own.ended(), leave(&mut lab, 1)), (vec![(1, status::DONE)], left(1)));
    // One that waits for those who had disks before has none yet.
    let mut lab = Lab::over(writable(2).0);
    lab.hear(DiskEvent::Hello);
    lab.attach(1, "web", mode::READ_WRITE, false);
    assert_eq!(leave(&mut lab, 1), stays);
}

#[test]
fn a_vm_that_does_not_come_back_gives_its_disk_back_once() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_ONLY, false);
    lab.attach(2, "web", mode::READ_ONLY, false);
    assert_eq!((leave(&mut lab, 1), leave(&mut lab, 2)), (left(1), left(2)));
    for _ in 0..3 {
        lab.hear(DiskEvent::Gone { vm: vm(1), disk: web() });
        assert!(!is_free(&mut lab), "the other one has it");
    }
    lab.hear(DiskEvent::Gone { vm: vm(2), disk: web() });
    assert!(is_free(&mut lab));
    // One of which it knows nothing, beyond the machine's slots, too.
    for of in [vm(3), VmId::new(u32::MAX, 1)] {
        lab.hear(DiskEvent::Gone { vm: of, disk: web() });
        lab.hear(DiskEvent::Leave { vm: of, seat: Seat::new(3) });
        assert_eq!(lab.vms.commands.pop(), Some(DiskCommand::Left { vm: of }));
    }
    assert!(is_free(&mut lab));
}

#[test]
fn a_successor_knows_whose_disks_are_in_use_before_anybody_else_gets_one() {
    let mut lab = Lab::over(writable(2).0);
    lab.hear(DiskEvent::Hello);
    lab.attach(0, "web", mode::READ_WRITE, false);
    for _ in 0..2 {
        lab.hear(DiskEvent::Out { vm: vm(1), disk: web(), mode: mode::READ_WRITE });
    }
    assert_eq!(lab.vms.commands, []);
    lab.hear(DiskEvent::Told);
    assert_eq!(lab.vms.commands.pop(), Some(DiskCommand::Refused { vm: vm(0), why: no_disk::IN_USE }));
    lab.attach(1, "web", mode::READ_WRITE, true);
    assert!(lab.vms.commands.is_empty());
    let mut own = lab.own(1);
    own.ask(1, DiskOrder::Flush);
    lab.kick(1);
    lab.settle();
    assert_eq!(own.ended(), [(1, status::DONE)]);
    // Where the disk is gone, its requests fail, and it lives.
    let mut lab = Lab::over(writable(2).0.split_off(1));
    lab.hear(DiskEvent::Hello);
    lab.hear(DiskEvent::Out { vm: vm(1), disk: web(), mode: mode::READ_WRITE });
    lab.hear(DiskEvent::Told);
    lab.attach(1, "web", mode::READ_WRITE, true);
    assert!(lab.vms.commands.is_empty());
    let mut own = lab.own(1);
    own.ask(1, DiskOrder::Flush);
    lab.kick(1);
    lab.settle();
    assert_eq!((own.ended(), leave(&mut lab, 1)), (vec![(1, status::FAILED)], left(1)));
    lab.hear(DiskEvent::Gone { vm: vm(1), disk: web() });
}

#[test]
fn a_vm_that_lies_about_its_rings_can_go_out_too() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_ONLY, false);
    // More requests than there are slots.
    lab.vms.pages[1].store64(REQUESTS + abi::ring::TAIL, 0x7777).expect("in the page");
    lab.kick(1);
    lab.settle();
    assert_eq!(leave(&mut lab, 1), left(1));
    lab.attach(1, "web", mode::READ_ONLY, true);
    assert!(lab.vms.commands.is_empty());
}

#[test]
fn the_disk_of_a_vm_that_is_out_is_not_removed_and_can_have_a_snapshot() {
    use abi::disk::{DiskReply, snapshot};
    let name = |text| Name::new(text).expect("short");
    let ended = |why| DiskReply::Snapped { why, needed: 0, free: 0 };
    let mut lab = Lab::over(writable(3).0);
    lab.hear(DiskEvent::Told);
    lab.attach(1, "web", mode::READ_WRITE, false);
    assert_eq!(leave(&mut lab, 1), left(1));
    assert_eq!(lab.service.begin_removal(asked(1), web()), Some(ended(snapshot::IN_USE)));
    assert_eq!(lab.service.begin_snapshot(asked(2), web(), name("new")), None);
    let mut replies = Vec::new();
    for _ in 0..2000 {
        replies.extend(lab.step());
        let until = lab.disks.host().0 + 10_000;
        lab.disks.host().sleep(until);
    }
    assert_eq!(replies.iter().map(DiskReply::try_from).collect::<Vec<_>>(), [Ok(ended(snapshot::TAKEN))]);
    assert!(!is_free(&mut lab), "it goes on to what lies on the snapshot");
    lab.attach(1, "web", mode::READ_WRITE, true);
    lab.attach(2, "new", mode::READ_ONLY, false);
    assert!(lab.vms.commands.is_empty());
    let (mut own, mut other) = (lab.own(1), lab.own(2));
    own.put(0, 0x33);
    own.ask(1, DiskOrder::Write { block: 6, slot: 0 });
    lab.kick(1);
    lab.settle();
    other.ask(1, DiskOrder::Read { block: 6, slot: 0 });
    lab.kick(2);
    lab.settle();
    assert_eq!((own.ended(), other.ended()), (vec![(1, status::DONE)], vec![(1, status::DONE)]));
    assert_eq!(Some(other.holds(0)), content(6).map(|data| data[0]));
}

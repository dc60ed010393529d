use super::*;
use crate::Scrub;
use crate::disks::Failed;
use crate::store::{Ask, Store};
use crate::test_machine::{BUFFERS, Clock, Fake, Shared, WEB, blank, connect, content, place, set};
use disk_format::{Check, place_of_check};
use std::boxed::Box;
use std::vec::Vec;

fn find(platters: &[Shared]) -> (Disks<Fake, Clock>, Sets) {
    let mut disks = connect(platters);
    let mut sets = Sets::new(Box::leak(Box::new([0; DIRECTORY_BYTES])));
    sets.find(&mut disks);
    (disks, sets)
}

fn untouched(platter: &Shared) -> bool {
    platter.borrow().written.is_empty()
}

fn state(sets: &Sets, index: u16) -> Option<u16> {
    if let DiskReply::Set { state, .. } = sets.set(index) { Some(state) } else { None }
}

#[test]
fn a_whole_set_is_opened_and_goes_to_its_next_generation() {
    let (platters, ..) = set(1, 3);
    for generation in [2, 3, 4] {
        let (disks, sets) = find(&platters);
        assert_eq!(state(&sets, 0), Some(set_state::USED));
        let DiskReply::Set { generation: now, members: 3, .. } = sets.set(0) else { panic!("{:?}", sets.set(0)) };
        assert_eq!(now, generation);
        for index in 0..3 {
            let DiskReply::Disk { state, member, generation: its, errors: 0, requests, .. } = sets.disk(index, &disks)
            else {
                panic!("no disk {index}")
            };
            assert_eq!((state, member, its), (disk_state::MEMBER, index, generation));
            assert!(requests > 10);
        }
        assert_eq!([sets.set(1), sets.problem(0, 0), sets.disk(3, &disks)], [DiskReply::None; 3]);
        let names = (0..3).map(|index| match sets.entry_reply(index) {
            DiskReply::Entry { kind, name, first, blocks, .. } => Some((kind, name.0[0], first, blocks)),
            _ => None,
        });
        let expected = [(entry_kind::SWAP, b's', 0, 16), (entry_kind::READ_ONLY, b'w', 16, WEB)];
        assert!(names.eq(expected.map(Some).into_iter().chain([None])));
    }
    assert!(platters.iter().all(|platter| platter.borrow().flushes == 4 * 3));
}

#[test]
fn what_is_not_the_set_in_use_is_never_written() {
    let (mut platters, ..) = set(1, 1);
    let (other, ..) = set(2, 1);
    platters.push(blank(500));
    let foreign = blank(500);
    foreign.borrow_mut().held.insert(0, Box::new([0x55; BLOCK_BYTES]));
    platters.push(foreign);
    platters.extend(other);
    let (disks, sets) = find(&platters);
    assert_eq!([state(&sets, 0), state(&sets, 1)], [Some(set_state::USED), Some(set_state::SPARE)]);
    assert!(platters[1..].iter().all(untouched) && !platters[..1].iter().any(untouched));
    let states = [1, 2].map(|index| match sets.disk(index, &disks) {
        DiskReply::Disk { state, .. } => state,
        _ => u16::MAX,
    });
    assert_eq!(states, [disk_state::BLANK, disk_state::FOREIGN]);
    // Only superblocks and the directory of the other generation were written.
    let mut written: Vec<u64> = platters[0].borrow().written.clone();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written, [1, 3, 998]);
}

#[test]
fn a_set_that_is_not_whole_is_not_written_and_says_why() {
    let (platters, ..) = set(1, 3);
    let (_, sets) = find(&platters[..2]);
    assert_eq!(state(&sets, 0), Some(set_state::BROKEN));
    let missing = DiskReply::Problem { set: 0, index: 0, what: problem::MISSING, which: 2, first: 0, second: 0 };
    assert_eq!(
        [sets.problem(0, 0), sets.problem(0, 1), sets.entry_reply(0)],
        [missing, DiskReply::None, DiskReply::None]
    );
    assert!(platters.iter().all(untouched));
    platters[1].borrow_mut().blocks = 900;
    let (_, sets) = find(&platters);
    let DiskReply::Problem { what: problem::SHRUNK, which: 1, first: 900, second: 1000, .. } = sets.problem(0, 0)
    else {
        panic!("{:?}", sets.problem(0, 0))
    };
    assert!(platters.iter().all(untouched));
}

#[test]
fn a_disk_that_takes_no_writes_leaves_the_set_for_reading() {
    let (platters, ..) = set(1, 2);
    platters[1].borrow_mut().read_only = true;
    let (_, sets) = find(&platters);
    assert_eq!(state(&sets, 0), Some(set_state::READ_ONLY));
    assert!(platters.iter().all(untouched));
}

#[test]
fn a_disk_that_fails_or_falls_silent_does_no_harm() {
    let (platters, ..) = set(1, 2);
    // Its directory is bad: the other member's is taken.
    platters[0].borrow_mut().held.insert(4, Box::new([1; BLOCK_BYTES]));
    assert_eq!(state(&find(&platters).1, 0), Some(set_state::USED));
    // A superblock cannot be written: the set is not opened, and is good the next time.
    let (platters, ..) = set(1, 2);
    platters[1].borrow_mut().bad.push(1);
    let (_, sets) = find(&platters);
    let unopened = DiskReply::Problem { set: 0, index: 0, what: problem::UNOPENED, which: 0, first: 0, second: 0 };
    assert_eq!((state(&sets, 0), sets.problem(0, 0)), (Some(set_state::BROKEN), unopened));
    platters[1].borrow_mut().bad.clear();
    assert_eq!(state(&find(&platters).1, 0), Some(set_state::USED));
    platters[1].borrow_mut().silent = true;
    let (disks, sets) = find(&platters);
    let DiskReply::Disk { state: disk_state::UNREADABLE, errors: 1, .. } = sets.disk(1, &disks) else {
        panic!("{:?}", sets.disk(1, &disks))
    };
    assert_eq!(state(&sets, 0), Some(set_state::BROKEN));
}

#[test]
fn memory_that_a_silent_disk_may_still_write_is_used_for_no_other() {
    let platters = [blank(100), blank(100)];
    let mut disks = connect(&platters);
    platters[0].borrow_mut().held.insert(5, Box::new([7; BLOCK_BYTES]));
    platters[0].borrow_mut().silent = true;
    assert_eq!(disks.read(0, 5, &mut [0; BLOCK_BYTES]), Err(Failed::TimeOut));
    // What was asked of it comes late: just while another disk is written, and read.
    platters[0].borrow_mut().silent = false;
    assert_eq!(disks.write(1, 6, &[9; BLOCK_BYTES]), Ok(()));
    assert!(platters[1].borrow().read(6) == [9; BLOCK_BYTES], "the late block is on the other disk");
    assert_eq!(disks.read(0, 5, &mut [0; BLOCK_BYTES]), Err(Failed::TimeOut), "it is not asked again");
    // The next scrub does not ask it either, and finds the same.
    let (platters, ..) = set(1, 3);
    let (mut disks, sets) = find(&platters);
    platters[0].borrow_mut().silent = true;
    let first = scrub(&mut disks, &sets);
    platters[0].borrow_mut().silent = false;
    assert_eq!(scrub(&mut disks, &sets), first);
    assert!((0..crate::scrub::DEPTH).any(|place| disks.is_lost(BUFFERS + place * BLOCK_BYTES)));
}

fn scrub(disks: &mut Disks<Fake, Clock>, sets: &Sets) -> DiskReply {
    let mut scrub = Scrub::new(1, sets, BUFFERS, 0).expect("a virtual disk");
    let mut store = Store::new(BUFFERS + crate::scrub::BYTES, None);
    for _ in 0..10_000 {
        while let Some((tag, good)) = disks.done() {
            if !store.ended(tag, good, disks) {
                scrub.take(tag, good, disks);
            }
        }
        if let Some((entry, block)) = scrub.doubt()
            && store.ask((0, &entry, Ask::Read(block)), None::<&Block>, sets, disks).is_err()
        {
            scrub.doubt_later();
        }
        store.step(sets, disks, |_, outcome| scrub.resolve(outcome));
        if let Some(reply) = scrub.step(sets, disks) {
            return reply;
        }
        let until = disks.host().0 + 100_000;
        disks.host().sleep(until);
    }
    panic!("it does not end")
}

#[test]
fn scrubs_judge_every_block() {
    let (platters, stripes, web) = set(1, 3);
    let (mut disks, sets) = find(&platters);
    let (empty, good) = (WEB / 5, WEB - WEB / 5);
    let all = DiskReply::Scrubbed { index: 1, empty, good, bad: 0, first_bad: u64::MAX };
    assert_eq!(scrub(&mut disks, &sets), all);
    assert!(Scrub::new(0, &sets, BUFFERS, 0).is_none() && Scrub::new(2, &sets, BUFFERS, 0).is_none());
    // Rot, two blocks that changed places, and one that cannot be read.
    let at = |block| place(&stripes, web.data(block).expect("inside"));
    let (member, block) = at(77);
    platters[member].borrow_mut().held.get_mut(&block).expect("written")[99] ^= 1;
    for (to, from) in [(101, 102), (102, 101)] {
        let (member, block) = at(to);
        platters[member].borrow_mut().held.insert(block, Box::new(content(from).expect("written")));
    }
    let (member, block) = at(601);
    platters[member].borrow_mut().bad.push(block);
    let reply = DiskReply::Scrubbed { index: 1, empty, good: good - 4, bad: 4, first_bad: 77 };
    assert_eq!(scrub(&mut disks, &sets), reply);
    // A block of checks that is lost makes errors of all its blocks.
    let (member, block) = place(&stripes, web.first + 1);
    platters[member].borrow_mut().held.remove(&block);
    let (platters, ..) = set(1, 3);
    let (mut disks, sets) = find(&platters);
    platters[member].borrow_mut().held.remove(&block);
    let (row, _) = place_of_check(WEB - 1);
    assert_eq!((row, Check::from_bytes([0; 8]) == Check::UNWRITTEN), (1, false));
    let DiskReply::Scrubbed { bad, first_bad: 512, .. } = scrub(&mut disks, &sets) else {
        panic!("the first lost one")
    };
    assert_eq!(bad, WEB - 512);
    // A disk that falls silent is waited for, and then given up.
    let (platters, ..) = set(1, 3);
    let (mut disks, sets) = find(&platters);
    platters[0].borrow_mut().silent = true;
    let DiskReply::Scrubbed { bad, .. } = scrub(&mut disks, &sets) else { panic!("it ends") };
    assert!(bad > WEB / 4);
}

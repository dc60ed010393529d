//! The power fails at any write of a change: the set has its old state or the new one, the same on all members, and the new one as soon as
//! the change was acknowledged.

mod common;

use common::{Platter, carry_out, directory, go_on, members, see, set};
use disk_format::{Block, Change, Problem, STEPS, Set, Step, Superblock, recognise};
use proptest::prelude::*;

/// What happens to the disks, in order.
#[derive(Clone)]
enum Event {
    Write(u16, u64, Box<Block>),
    Flush,
}

/// The events of a change.
fn events(change: &Change, members: &[Superblock], directory: &[u8]) -> Vec<Event> {
    let events = std::cell::RefCell::new(Vec::new());
    let write = |member, at, block: &Block| {
        events.borrow_mut().push(Event::Write(member, at, Box::new(*block)));
        Ok::<(), ()>(())
    };
    let flush = || {
        events.borrow_mut().push(Event::Flush);
        Ok(())
    };
    change.carry_out(members, directory, write, flush).expect("no errors");
    events.into_inner()
}

/// What the disks hold when the power fails after `count` events: everything up to the last flush, and of each later write the sectors of 512
/// bytes whose bits are set in `torn`.
fn after(disks: &[Platter], events: &[Event], count: usize, mut torn: impl FnMut() -> u8) -> Vec<Platter> {
    let mut disks = disks.to_vec();
    let flushed = events[..count].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
    for (at, event) in events[..count].iter().enumerate() {
        let Event::Write(member, block, data) = event else { continue };
        let disk = &mut disks[usize::from(*member)];
        let sectors = if at < flushed { 0xff } else { torn() };
        let mut new = disk.read(*block);
        for sector in (0..8).filter(|sector| sectors >> sector & 1 != 0) {
            let bytes = sector * 512..(sector + 1) * 512;
            new[bytes.clone()].copy_from_slice(&data[bytes]);
        }
        disk.write(*block, &new);
    }
    disks
}

fn the_set(disks: &[Platter]) -> Set {
    recognise(&see(disks)).next().expect("a set")
}

/// The directory's bytes of the present state, from each member: good, and the same.
fn directories_are(disks: &[Platter], set: &Set, blocks: u64) {
    let (bytes, checksum) = directory(blocks);
    assert_eq!(set.superblock.directory_checksum, checksum);
    for (_, disk) in set.members() {
        let at = set.superblock.layout().directory(set.superblock.generation);
        assert_eq!(&disks[usize::from(disk)].read(at)[..], &bytes[..]);
    }
}

/// How many events of a change with `members` members, whose directory has one block, come before it is acknowledged.
fn acknowledged(events: &[Event]) -> usize {
    let flushes = events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Flush));
    flushes.map(|(at, _)| at + 1).nth(2).expect("three flushes at least")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Several changes one after the other, of which each is cut off somewhere, or not.
    #[test]
    fn old_or_new_whenever_the_power_fails(
        count in 1_u16..4,
        cuts in proptest::collection::vec((0_usize..40, any::<u64>(), any::<bool>()), 1..6),
    ) {
        let mut disks = set(1, count);
        let mut now = 100;
        for (new, (cut, mut seed, whole_blocks)) in (101..).zip(cuts) {
            let seen = see(&disks);
            let found = the_set(&disks);
            let (bytes, checksum) = directory(new);
            let change = Change::next(&found, 1, checksum, 1).expect("a number is left");
            let members: Vec<Superblock> =
                found.members().map(|(member, _)| *found.superblock_of(member, &seen).expect("there")).collect();
            let events = events(&change, &members, &bytes);
            let cut = cut.min(events.len());
            disks = after(&disks, &events, cut, || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let [.., byte] = seed.to_le_bytes();
                if whole_blocks { if byte & 1 == 0 { 0 } else { 0xff } } else { byte }
            });
            let set = the_set(&disks);
            prop_assert!(set.is_usable(), "after {} of {} events: {:?}", cut, events.len(), set.problems);
            let took = set.superblock.directory_checksum == checksum;
            prop_assert!(took || cut < acknowledged(&events), "it was acknowledged");
            if took {
                now = new;
            }
            directories_are(&disks, &set, now);
        }
        // It goes on from there.
        go_on(&mut disks, 500);
        directories_are(&disks, &the_set(&disks), 500);
    }
}

#[test]
fn the_third_flush_acknowledges() {
    let before: Vec<Step> = STEPS.iter().copied().take_while(|step| !matches!(step, Step::Superblock { .. })).collect();
    assert_eq!(before, [Step::Directory, Step::Flush]);
    assert_eq!(STEPS.iter().filter(|step| **step == Step::Flush).count(), 4);
    let mut disks = set(1, 2);
    go_on(&mut disks, 100);
    let seen = see(&disks);
    let found = the_set(&disks);
    let members: Vec<Superblock> =
        found.members().filter_map(|(member, _)| found.superblock_of(member, &seen).copied()).collect();
    let (bytes, checksum) = directory(300);
    let change = Change::next(&found, 1, checksum, 1).expect("a number is left");
    let events = events(&change, &members, &bytes);
    // One write less than the acknowledgement, of which nothing of the last step arrived: the old state.
    let cut = after(&disks, &events, acknowledged(&events) - 1, || 0);
    assert_eq!(the_set(&cut).superblock.generation, 2);
    let done = after(&disks, &events, acknowledged(&events), || 0);
    assert_eq!(the_set(&done).superblock.generation, 3);
}

/// A set whose making was cut off is no set, and says so.
#[test]
fn an_unfinished_set_is_not_used() {
    let members = members(1, 2);
    let (bytes, checksum) = directory(100);
    let change = Change::first(1, checksum, 1);
    let events = events(&change, &members, &bytes);
    let blank: Vec<Platter> = members.iter().map(|member| Platter::new(member.member_blocks)).collect();
    for cut in 0..=events.len() {
        let disks = after(&blank, &events, cut, || 0xff);
        let seen = see(&disks);
        if let Some(set) = recognise(&seen).next() {
            let done = cut >= acknowledged(&events);
            assert!(
                set.is_usable() || set.problems.contains(&Problem::Unfinished) && !done,
                "{cut}: {:?}",
                set.problems
            );
        } else {
            assert!(cut < acknowledged(&events));
        }
    }
    let mut disks = blank;
    carry_out(&change, &members, &bytes, &mut disks);
    assert!(the_set(&disks).is_usable());
}

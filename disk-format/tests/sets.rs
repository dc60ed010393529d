//! Which disks belong together, and what is wrong with those that do not.

mod common;

use common::{Platter, go_on, see, set};
use disk_format::{Flaw, Place, Problem, Seen, Set, recognise};

/// The one set on these disks.
fn the_set(disks: &[Platter]) -> Set {
    let seen = see(disks);
    let mut sets = recognise(&seen);
    let set = sets.next().expect("a set");
    assert!(sets.next().is_none());
    set
}

fn problems(disks: &[Platter]) -> Vec<Problem> {
    the_set(disks).problems.to_vec()
}

#[test]
fn a_whole_set_is_usable() {
    for count in [1, 2, 3, 16] {
        let mut disks = set(1, count);
        for generation in [1, 2, 3, 4] {
            let found = the_set(&disks);
            assert!(found.is_usable() && !found.is_out_of_order(), "{:?}", found.problems);
            assert_eq!(
                (found.superblock.generation, found.highest, found.superblock.members),
                (generation, generation, count)
            );
            assert!(found.members().map(|(member, disk)| (member, u16::from(disk))).eq((0..count).map(|i| (i, i))));
            assert!(
                see(&disks).iter().all(|seen| seen.member().is_some_and(|member| member.worn == 0)),
                "{generation}"
            );
            go_on(&mut disks, 100);
        }
    }
}

#[test]
fn swapped_around_members_find_their_places() {
    let mut disks = set(1, 3);
    disks.swap(0, 2);
    let found = the_set(&disks);
    assert!(found.is_usable() && found.is_out_of_order());
    assert!(found.members().eq([(0, 2), (1, 1), (2, 0)]));
}

#[test]
fn a_missing_member_is_named() {
    let mut disks = set(1, 3);
    disks.remove(1);
    assert_eq!(problems(&disks), [Problem::Missing { member: 1 }]);
}

#[test]
fn disks_that_are_not_ours_are_told_apart_and_do_no_harm() {
    let mut disks = set(1, 2);
    disks.insert(0, Platter::new(500));
    let mut foreign = Platter::new(500);
    foreign.write(0, &[0x55; 4096]);
    disks.push(foreign.clone());
    // What others have at the places of our superblocks is theirs, too.
    foreign.held.clear();
    foreign.write(499, &[1; 4096]);
    disks.push(foreign);
    disks.push(Platter::new(0));
    let seen = see(&disks);
    assert_eq!([&seen[0], &seen[3], &seen[4], &seen[5]], [&Seen::Blank, &Seen::Foreign, &Seen::Foreign, &Seen::Blank]);
    let found = the_set(&disks);
    assert!(found.is_usable() && found.members().eq([(0, 1), (1, 2)]));
}

#[test]
fn a_foreign_member_is_of_another_set() {
    let (mut disks, other) = (set(1, 2), set(2, 2));
    disks[1] = other[1].clone();
    let seen = see(&disks);
    let sets: Vec<Set> = recognise(&seen).collect();
    let [one, two] = &sets[..] else { panic!("{sets:?}") };
    assert_ne!(one.id, two.id);
    assert_eq!(one.problems.as_slice(), [Problem::Missing { member: 1 }]);
    assert_eq!(two.problems.as_slice(), [Problem::Missing { member: 0 }]);
}

#[test]
fn a_stale_member_is_named() {
    let mut disks = set(1, 3);
    let old = disks[2].clone();
    go_on(&mut disks, 100);
    // One generation behind is enough.
    disks[2] = old;
    assert_eq!(problems(&disks), [Problem::Stale { disk: 2, generation: 1, newest: 2 }]);
    // Where most are stale, it is they who are named.
    let mut disks = set(1, 3);
    let old = disks.clone();
    (0..5).for_each(|_| go_on(&mut disks, 100));
    let mixed = [old[0].clone(), disks[1].clone(), old[2].clone()];
    let stale = |disk| Problem::Stale { disk, generation: 1, newest: 6 };
    assert_eq!(problems(&mixed), [stale(0), stale(2)]);
}

#[test]
fn a_shrunk_member_is_named() {
    for blocks in [999, 900, 64, 3] {
        let mut disks = set(1, 2);
        disks[0].blocks = blocks;
        disks[0].held.retain(|&at, _| at < blocks);
        assert_eq!(problems(&disks), [Problem::Shrunk { disk: 0, blocks, recorded: 1000 }]);
    }
    // One that has grown does no harm.
    let mut disks = set(1, 2);
    disks[0].blocks = 5000;
    assert!(the_set(&disks).is_usable());
    // With nothing but the end, too.
    disks[0].blocks = 1000;
    disks[0].held.retain(|&at, _| at > 500);
    assert!(the_set(&disks).is_usable());
}

#[test]
fn a_duplicate_is_named() {
    let mut disks = set(1, 2);
    disks.push(disks[0].clone());
    assert_eq!(problems(&disks), [Problem::Duplicate { member: 0, disks: [0, 2] }]);
    // An old copy is stale, besides.
    let mut disks = set(1, 2);
    let old = disks[1].clone();
    go_on(&mut disks, 100);
    disks.push(old);
    let stale = Problem::Stale { disk: 2, generation: 1, newest: 2 };
    assert_eq!(problems(&disks), [Problem::Duplicate { member: 1, disks: [1, 2] }, stale]);
}

#[test]
fn one_good_copy_is_enough_and_the_other_is_worn() {
    let [start, end] = Place::of(1);
    let at = |place: Place| place.block(1000);
    for (lost, kept) in [(start, end), (end, start)] {
        for wreck in [[0; 4096], [7; 4096]] {
            let mut disks = set(1, 2);
            disks[0].write(at(lost), &wreck);
            let found = the_set(&disks);
            assert!(found.is_usable(), "{:?}", found.problems);
            assert_eq!(see(&disks)[0].member().map(|member| member.worn), Some(1 << lost.number()));
            // The next change but one writes it anew.
            go_on(&mut disks, 100);
            go_on(&mut disks, 100);
            assert_eq!(see(&disks)[0].member().map(|member| member.worn), Some(0));
            let mut block = *disks[0].held[&at(kept)];
            block[100] ^= 1;
            disks[0].write(at(lost), &block);
            assert!(the_set(&disks).is_usable());
            // Both are too many: what is left is the state before, so it is stale.
            disks[0].write(at(kept), &block);
            assert_eq!(problems(&disks), [Problem::Stale { disk: 0, generation: 2, newest: 3 }]);
        }
    }
}

#[test]
fn disks_of_ours_that_say_nothing_good_are_told() {
    let fresh = set(1, 1).remove(0);
    let [start, end] = Place::of(1).map(|place| place.block(1000));
    let mut torn = fresh.clone();
    for at in [start, end] {
        let mut block = torn.read(at);
        block[4000] = 1;
        torn.write(at, &block);
    }
    assert_eq!(torn.look(), Seen::Damaged(Flaw::Checksum));
    let mut newer = fresh.clone();
    let mut block = newer.read(end);
    block[8] = 9;
    newer.write(end, &block);
    assert_eq!(newer.look(), Seen::Version(9), "although the other copy could be read");
    // A copy at another place than its own.
    let mut copied = fresh.clone();
    copied.write(start - 1, &fresh.read(start));
    copied.held.retain(|&at, _| at != start && at != end);
    assert_eq!(copied.look(), Seen::Damaged(Flaw::Place(1)));
    // Part of one disk over another.
    let [mut one, other] = <[Platter; 2]>::try_from(set(1, 2)).expect("two");
    one.write(start, &other.read(start));
    assert_eq!(one.look(), Seen::Mixed);
    let [other, mut one] = <[Platter; 2]>::try_from(set(1, 2)).expect("two");
    one.write(start, &other.read(start));
    assert_eq!(one.look(), Seen::Mixed);
    let unreadable = disk_format::look(1000, &mut [0; 4096], |_, _| false);
    assert_eq!(unreadable, Seen::Unreadable(0));
    // Nobody knows what an unreadable place holds.
    let half = disk_format::look(1000, &mut [0; 4096], |at, to| {
        *to = [0; 4096];
        at != 2
    });
    assert_eq!(half, Seen::Unreadable(2));
}

#[test]
fn members_that_disagree_are_named() {
    let mut disks = set(1, 2);
    let (members, [start, end]) = (common::members(1, 2), Place::of(1));
    let odd =
        disk_format::Superblock { next_id: 9, entries: 1, directory_checksum: common::directory(100).1, ..members[1] };
    let odd = disk_format::Superblock { state: disk_format::State::Committed, ..odd };
    disks[1].write(start.block(1001), &odd.encode(start));
    disks[1].write(end.block(1001), &odd.encode(end));
    assert_eq!(problems(&disks), [Problem::Disagrees { disk: 1, field: "the next id" }]);
}

#[test]
fn every_problem_says_what_to_do_or_why() {
    let all = [
        (Problem::Missing { member: 1 }, "member 1 is missing: connect its disk"),
        (
            Problem::Duplicate { member: 0, disks: [0, 2] },
            "disks 0 and 2 both are member 0: one is a copy of the other; remove it",
        ),
        (
            Problem::Stale { disk: 2, generation: 1, newest: 6 },
            "disk 2 is stale: its generation is 1, and the set's is 6; it was away when the others went on, or is a copy from before",
        ),
        (
            Problem::Shrunk { disk: 0, blocks: 999, recorded: 1000 },
            "disk 0 has shrunk: it has 999 blocks, and had 1000; give it its size back",
        ),
        (Problem::Unfinished, "it was never completed: make it anew"),
    ];
    for (problem, text) in all {
        assert_eq!(problem.to_string(), text);
    }
}

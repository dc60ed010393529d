//! Virtual disks that come and go, one after the other, and the power that fails in between.

use super::tests::{Machine, name, old};
use crate::alteration::Ended;
use crate::store::{Ask, Outcome};
use crate::test_machine::{WEB, writable_of};
use abi::disk::snapshot;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

#[test]
fn a_new_disk_has_nothing_of_the_one_that_lay_there() {
    let mut machine = Machine::new(2);
    assert_eq!(machine.create("log", 300), Ended::Done);
    machine.write("log", 299, 0x11);
    assert_eq!(machine.read("web", 6), old(6), "its checks are at hand from now on");
    let first = machine.entry("web").expect("there").first;
    assert_eq!(machine.remove("web"), Ended::Done);
    assert!(machine.entry("web").is_none());
    assert_eq!(machine.create("next", WEB), Ended::Done);
    assert_eq!(machine.entry("next").expect("there").first, first, "it lies where the other one did");
    for restarted in [false, true] {
        assert!((0..WEB).all(|block| machine.read("next", block).is_none()), "restarted: {restarted}");
        assert_eq!([298, 299].map(|block| machine.read("log", block)), [None, Some(0x11)]);
        machine = machine.cut(|| false);
    }
    machine.write("next", 6, 0x22);
    assert_eq!((machine.read("next", 6), machine.read("log", 299)), (Some(0x22), Some(0x11)));
}

#[test]
fn what_cannot_come_or_go_is_refused() {
    let mut machine = Machine::new(3);
    let why = |machine: &Machine, of, blocks| {
        machine.sets.plan_creation(name(of), blocks).err().map(|refused| (refused.why, refused.needed))
    };
    assert_eq!(why(&machine, "swap", 1), Some((snapshot::NAME_TAKEN, 0)));
    assert_eq!(why(&machine, "a/b", 1), Some((snapshot::BAD_NAME, 0)));
    assert_eq!(why(&machine, "new", 0), Some((snapshot::BAD_SIZE, 0)));
    assert_eq!(why(&machine, "new", u64::MAX), Some((snapshot::NO_ROOM, u64::MAX)));
    let goes = |machine: &Machine, of| machine.sets.plan_removal(name(of)).err().map(|refused| refused.why);
    assert_eq!([goes(&machine, "swap"), goes(&machine, "nobody")], [Some(snapshot::NO_SUCH_DISK); 2]);
    assert_eq!(machine.take("web", "before"), Ended::Done);
    assert_eq!((goes(&machine, "before"), goes(&machine, "web")), (Some(snapshot::BENEATH), None));
    assert_eq!(machine.remove("web"), Ended::Done);
    assert_eq!(machine.read("before", 6), old(6), "what it lay on is as it was");
    assert_eq!(machine.remove("before"), Ended::Done);
    // As large as there is room, and not a block more.
    let free = |machine: &Machine| machine.sets.plan_creation(name("all"), u64::MAX / 2).expect_err("too much").free;
    let most = free(&machine);
    let rows = |blocks: u64| blocks + blocks.div_ceil(512);
    let blocks = (0..=most).rev().find(|&blocks| rows(blocks) <= most).expect("some");
    assert!(why(&machine, "all", blocks + 1).is_some_and(|(why, _)| why == snapshot::NO_ROOM));
    assert_eq!(machine.create("all", blocks), Ended::Done);
    assert_eq!(free(&machine), 0);
}

#[test]
fn the_directory_has_so_many_and_no_more() {
    let mut machine = Machine::over(writable_of(1, 2000).0);
    // A block of it has room for 64, of which swap and web are there.
    for number in 0..62 {
        assert_eq!(machine.create(&std::format!("d{number}"), 1), Ended::Done);
    }
    let refused = machine.sets.plan_creation(name("more"), 1).err();
    assert_eq!(refused.map(|no| no.why), Some(snapshot::FULL));
    assert_eq!(machine.remove("d30"), Ended::Done);
    let mut machine = machine.cut(|| false);
    assert_eq!(machine.create("more", 1), Ended::Done);
    assert_eq!((machine.read("d61", 0), machine.read("web", 6)), (None, old(6)));
}

/// What is done.
#[derive(Clone, Debug)]
enum Act {
    Create(usize, u64),
    Remove(usize),
    Snapshot(usize, usize),
    Write(usize, u64, u8),
}

const NAMES: [&str; 5] = ["web", "a", "b", "c", "d"];

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..5_usize, prop_oneof![1..30_u64, 500..600_u64]).prop_map(|(of, blocks)| Act::Create(of, blocks)),
        2 => (0..5_usize).prop_map(Act::Remove),
        1 => (0..5_usize, 0..5_usize).prop_map(|(of, new)| Act::Snapshot(of, new)),
        4 => (0..5_usize, 0..30_u64, 1..250_u8).prop_map(|(of, block, byte)| Act::Write(of, block, byte)),
    ]
}

/// What a virtual disk holds in its first blocks, and how many it has.
type Held = BTreeMap<&'static str, (u64, Vec<Option<u8>>)>;
const SEEN: u64 = 30;

fn held(blocks: u64, of: impl Fn(u64) -> Option<u8>) -> (u64, Vec<Option<u8>>) {
    (blocks, (0..blocks.min(SEEN)).map(of).collect())
}

fn is_as(machine: &mut Machine, model: &Held) -> Result<(), TestCaseError> {
    for name in NAMES {
        let blocks = machine.entry(name).map(|entry| entry.blocks);
        prop_assert_eq!(blocks, model.get(name).map(|(blocks, _)| *blocks), "{}", name);
        let Some((_, expected)) = model.get(name) else { continue };
        for (block, was) in (0..).zip(expected) {
            prop_assert_eq!(&machine.read(name, block), was, "{} {}", name, block);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever comes and goes, and wherever the power fails: each virtual disk is there or not there, all of those that were acknowledged are, and each has what was
    /// written to it and nothing of anybody else's.
    #[test]
    fn histories(
        acts in proptest::collection::vec((acts(), proptest::option::weighted(0.3, 0_usize..120)), 1..24),
        mut seed in any::<u64>(),
    ) {
        let mut machine = Machine::over(writable_of(2, 1200).0);
        let mut model = Held::from([("web", held(WEB, old))]);
        for (act, cut) in acts {
            let mut after = model.clone();
            let planned = match act {
                Act::Write(of, block, byte) => {
                    let Some((blocks, now)) = model.get_mut(NAMES[of]) else { continue };
                    let is_read_only = machine.entry(NAMES[of]).is_some_and(|entry| entry.kind == disk_format::Kind::Disk { read_only: true });
                    if block < (*blocks).min(SEEN) && !is_read_only {
                        machine.write(NAMES[of], block, byte);
                        prop_assert_eq!(machine.one(NAMES[of], Ask::Flush, None), Err(Outcome::Done));
                        if let Ok(at) = usize::try_from(block) {
                            now[at] = Some(byte);
                        }
                    }
                    continue;
                }
                Act::Create(of, blocks) => {
                    after.insert(NAMES[of], held(blocks, |_| None));
                    machine.sets.plan_creation(name(NAMES[of]), blocks)
                }
                Act::Remove(of) => {
                    after.remove(NAMES[of]);
                    machine.sets.plan_removal(name(NAMES[of]))
                }
                Act::Snapshot(of, new) => {
                    if let Some(now) = model.get(NAMES[of]) {
                        after.insert(NAMES[new], now.clone());
                    }
                    machine.sets.plan_snapshot(name(NAMES[of]), name(NAMES[new]))
                }
            };
            let Ok(planned) = planned else { continue };
            let mut running = machine.alter(planned);
            let mut done = false;
            for _ in 0..cut.unwrap_or(10_000) {
                if let Some(ended) = machine.step(&mut running) {
                    prop_assert_eq!(ended, Ended::Done);
                    done = true;
                    break;
                }
            }
            prop_assert!(done || cut.is_some());
            if cut.is_some() {
                machine = machine.cut(|| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    seed >> 40 & 1 != 0
                });
            }
            let count = |machine: &Machine| NAMES.iter().filter(|name| machine.entry(name).is_some()).count();
            if done || count(&machine) == after.len() {
                model = after;
            }
            is_as(&mut machine, &model)?;
        }
        let mut machine = machine.cut(|| true);
        is_as(&mut machine, &model)?;
    }
}

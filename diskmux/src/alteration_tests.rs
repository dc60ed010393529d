use super::*;
use crate::Scrub;
use crate::sets::{DIRECTORY_BYTES, Unplanned};
use crate::store::{Ask, Outcome, Store};
use crate::test_machine::{
    BUFFERS, Clock, Fake, SNAPSHOTS, Shared, WEB, connect_to, content, dma, place, set, writable, writable_of,
};
use abi::disk::{DiskReply, snapshot};
use abi::limits::Name;
use disk_format::{Entry, Kind};
use proptest::prelude::*;
use ring::SharedMemory;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

/// A component over the disks of a set.
pub(super) struct Machine {
    platters: Vec<Shared>,
    memory: SharedMemory,
    disks: Disks<Fake, Clock>,
    pub sets: Sets,
    store: Store,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

impl Machine {
    pub fn over(platters: Vec<Shared>) -> Machine {
        let memory = dma();
        let mut disks = connect_to(&platters, memory);
        let mut sets = Sets::new(Box::leak(Box::new([0; DIRECTORY_BYTES])));
        sets.find(&mut disks);
        Machine {
            platters,
            memory,
            disks,
            sets,
            store: Store::new(BUFFERS + crate::scrub::BYTES, component::Crc32c::of_this_processor()),
        }
    }

    pub fn new(count: u16) -> Machine {
        Machine::over(writable(count).0)
    }

    /// The power fails, and comes back.
    pub fn cut(self, mut some: impl FnMut() -> bool) -> Machine {
        self.platters.iter().for_each(|platter| platter.borrow_mut().cut(&mut some));
        Machine::over(self.platters)
    }

    pub fn entry(&self, text: &str) -> Option<Entry> {
        self.sets.entry(self.sets.disk_called(name(text))?)
    }

    fn begin(&self, of: &str, new: &str) -> Result<Alteration, Unplanned> {
        Ok(Alteration::new(self.sets.plan_snapshot(name(of), name(new))?, SNAPSHOTS))
    }

    /// One step of everything.
    pub fn step(&mut self, snapshot: &mut Alteration) -> Option<Ended> {
        let ended = snapshot.step(self.store.is_idle(), &mut self.sets, &mut self.disks);
        if let Some((Ended::Done, (_, gone))) = ended.zip(snapshot.planned.goes) {
            self.store.forget(&gone);
        }
        if let Some((tag, good)) = self.disks.done() {
            assert!(
                self.store.ended(tag, good, &mut self.disks) || snapshot.take(tag, good, &self.sets, &mut self.disks)
            );
        }
        ended
    }

    fn finish(&mut self, mut snapshot: Alteration) -> Ended {
        for _ in 0..10_000 {
            if let Some(ended) = self.step(&mut snapshot) {
                return ended;
            }
            let until = self.disks.host().0 + 10_000;
            self.disks.host().sleep(until);
        }
        panic!("it does not end")
    }

    pub fn take(&mut self, of: &str, new: &str) -> Ended {
        let snapshot = self.begin(of, new).expect("possible");
        self.finish(snapshot)
    }

    pub fn alter(&self, planned: Planned) -> Alteration {
        Alteration::new(planned, SNAPSHOTS)
    }

    pub fn create(&mut self, new: &str, blocks: u64) -> Ended {
        let planned = self.sets.plan_creation(name(new), blocks).expect("possible");
        self.finish(self.alter(planned))
    }

    pub fn remove(&mut self, of: &str) -> Ended {
        let planned = self.sets.plan_removal(name(of)).expect("possible");
        self.finish(self.alter(planned))
    }

    /// Does one request: what was read, by its first byte.
    pub fn one(&mut self, disk: &str, ask: Ask, data: Option<u8>) -> Result<Option<u8>, Outcome> {
        let entry = self.entry(disk).expect("there");
        let data = data.map(|byte| [byte; BLOCK_BYTES]);
        self.store.ask((7, &entry, ask), data.as_ref(), &self.sets, &self.disks).expect("taken");
        let (memory, mut found) = (self.memory, None);
        for _ in 0..1000 {
            self.store.step(&self.sets, &mut self.disks, |_, outcome| {
                found = Some(match outcome {
                    Outcome::Data(at) => Ok(memory.read8(at)),
                    Outcome::Zeros => Ok(None),
                    other => Err(other),
                });
            });
            if let Some(found) = found.filter(|_| self.store.is_idle()) {
                return found;
            }
            if let Some((tag, good)) = self.disks.done() {
                assert!(self.store.ended(tag, good, &mut self.disks));
            }
        }
        panic!("it does not end")
    }

    pub fn write(&mut self, disk: &str, block: u64, byte: u8) {
        assert_eq!(self.one(disk, Ask::Write(block), Some(byte)), Err(Outcome::Done));
    }

    pub fn read(&mut self, disk: &str, block: u64) -> Option<u8> {
        self.one(disk, Ask::Read(block), None).expect("it can be read")
    }

    fn free_of(&self) -> u64 {
        let end = self.entry("web").expect("there").end();
        self.sets.stripes().expect("a set").blocks() - end
    }
}

pub(super) fn old(block: u64) -> Option<u8> {
    content(block).map(|data| data[0])
}

#[test]
fn a_snapshot_keeps_what_was_there_and_the_disk_goes_on() {
    let mut machine = Machine::new(3);
    machine.write("web", 6, 0xaa);
    assert_eq!(machine.take("web", "before"), Ended::Done);
    for restarted in [false, true] {
        let (frozen, above) = (machine.entry("before").expect("there"), machine.entry("web").expect("there"));
        assert_eq!((frozen.kind, above.kind), (Kind::Disk { read_only: true }, Kind::Disk { read_only: false }));
        assert_eq!((above.beneath, frozen.id < above.id), (Some(frozen.id), true));
        assert_eq!(
            [5, 6, 7, WEB - 1].map(|block| machine.read("before", block)),
            [None, Some(0xaa), old(7), old(WEB - 1)]
        );
        assert_eq!([5, 6, WEB - 1].map(|block| machine.read("web", block)), [None, Some(0xaa), old(WEB - 1)]);
        if !restarted {
            machine.write("web", 7, 0xbb);
            machine.write("web", 7, 0xbc);
            assert_eq!(machine.one("web", Ask::Discard(8), None), Err(Outcome::Done));
            assert_eq!(machine.one("web", Ask::Flush, None), Err(Outcome::Done));
            machine = machine.cut(|| false);
        }
        assert_eq!([7, 8].map(|block| machine.read("web", block)), [Some(0xbc), None]);
        assert_eq!([7, 8].map(|block| machine.read("before", block)), [old(7), old(8)]);
    }
    let refused = machine.store.ask(
        (1, &machine.entry("before").expect("there"), Ask::Write(0)),
        Some(&[0; BLOCK_BYTES]),
        &machine.sets,
        &machine.disks,
    );
    assert!(refused.is_err(), "a snapshot is never written");
    // One on top of the other: each as it was.
    assert_eq!(machine.take("web", "later"), Ended::Done);
    machine.write("web", 7, 0xdd);
    let of = |machine: &mut Machine, block| ["before", "later", "web"].map(|disk| machine.read(disk, block));
    assert_eq!(of(&mut machine, 7), [old(7), Some(0xbc), Some(0xdd)]);
    assert_eq!(of(&mut machine, 6), [Some(0xaa); 3]);
    assert_eq!(of(&mut machine, 8), [old(8), None, None]);
    // It can be scrubbed, and counts only what is its own.
    let index = machine.sets.disk_called(name("later")).expect("there");
    let mut scrub = Scrub::new(index, &machine.sets, BUFFERS, 0).expect("a disk");
    let done = (0..10_000).find_map(|_| {
        while let Some((tag, good)) = machine.disks.done() {
            scrub.take(tag, good, &mut machine.disks);
        }
        scrub.step(&machine.sets, &mut machine.disks)
    });
    assert_eq!(done, Some(DiskReply::Scrubbed { index, empty: WEB - 1, good: 1, bad: 0, first_bad: u64::MAX }));
}

#[test]
fn what_cannot_be_is_refused_and_named() {
    let machine = Machine::new(3);
    let why = |machine: &Machine, of, new| machine.begin(of, new).err().map(|refused| refused.why);
    assert_eq!(why(&machine, "nobody", "new"), Some(snapshot::NO_SUCH_DISK));
    assert_eq!(why(&machine, "swap", "new"), Some(snapshot::NO_SUCH_DISK), "no virtual disk");
    assert_eq!([why(&machine, "web", "web"), why(&machine, "web", "swap")], [Some(snapshot::NAME_TAKEN); 2]);
    assert_eq!(why(&machine, "web", "a/b"), Some(snapshot::BAD_NAME));
    assert_eq!(why(&Machine::over(set(1, 3).0), "web", "new"), Some(snapshot::NEVER_WRITTEN));
    assert_eq!(why(&Machine::over(Vec::new()), "web", "new"), Some(snapshot::NO_SET));
    let small = Machine::new(1);
    let needed = small.entry("web").expect("there").extent();
    let refused = small.begin("web", "new").err();
    assert!(refused.is_some_and(|no| no.why == snapshot::NO_ROOM && no.needed == needed && no.free <= small.free_of()));
    let platters = writable(2).0;
    platters[1].borrow_mut().read_only = true;
    assert_eq!(why(&Machine::over(platters), "web", "new"), Some(snapshot::READ_ONLY_SET));
    // Room for all of them.
    let mut machine = Machine::over(writable_of(1, 18 * (WEB + 8)).0);
    for number in 0..disk_format::MAX_DEPTH {
        assert_eq!(machine.take("web", &std::format!("s{number}")), Ended::Done);
    }
    assert_eq!(why(&machine, "web", "one-more"), Some(snapshot::TOO_DEEP));
    assert_eq!(machine.read("web", 6), old(6), "through all of them");
}

#[test]
fn a_disk_that_cannot_do_it_ends_it_and_nothing_has_changed() {
    let mut machine = Machine::new(2);
    machine.write("web", 6, 0xaa);
    let stripes = machine.sets.stripes().expect("a set");
    let above = machine.begin("web", "new").expect("possible").planned.comes.expect("one");
    let (member, at) = place(&stripes, above.first);
    machine.platters[member].borrow_mut().bad.push(at);
    assert_eq!(machine.take("web", "new"), Ended::Failed);
    machine.platters[member].borrow_mut().bad.clear();
    machine.platters[1].borrow_mut().unflushable = true;
    assert_eq!(machine.take("web", "new"), Ended::Failed);
    machine.platters[1].borrow_mut().unflushable = false;
    machine.platters[0].borrow_mut().silent = true;
    assert!(machine.entry("new").is_none());
    machine.platters[0].borrow_mut().silent = false;
    machine.write("web", 7, 0xbb);
    // What was proposed is no state, and the next one gets above it.
    assert_eq!(machine.take("web", "new"), Ended::Done);
    let mut machine = machine.cut(|| false);
    assert_eq!([6, 7].map(|block| machine.read("new", block)), [Some(0xaa), Some(0xbb)]);
}

#[test]
fn a_disk_that_does_not_answer_ends_it() {
    let mut machine = Machine::new(2);
    machine.platters[0].borrow_mut().silent = true;
    assert_eq!(machine.take("web", "new"), Ended::Failed);
    assert!(machine.entry("new").is_none());
    let refused = machine.begin("web", "new").map(|snapshot| machine.finish(snapshot));
    assert_eq!(refused.ok(), Some(Ended::Failed), "its block is not used again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The power fails at any point of a snapshot, and any part of what was not durable is lost: there is a snapshot or none, and whichever it is each has what it must.
    #[test]
    fn there_is_a_snapshot_or_none_whenever_the_power_fails(
        writes in proptest::collection::vec((0_u64..12, 1_u8..250, any::<bool>()), 0..12),
        steps in 0_usize..140,
        after in proptest::collection::vec((0_u64..12, 1_u8..250), 0..6),
        mut seed in any::<u64>(),
    ) {
        let mut machine = Machine::new(3);
        let mut model: BTreeMap<u64, Option<u8>> = (0..12).map(|block| (block, old(block))).collect();
        for (block, byte, discards) in writes {
            if discards {
                prop_assert_eq!(machine.one("web", Ask::Discard(block), None), Err(Outcome::Done));
                model.insert(block, None);
            } else {
                machine.write("web", block, byte);
                model.insert(block, Some(byte));
            }
        }
        prop_assert_eq!(machine.one("web", Ask::Flush, None), Err(Outcome::Done));
        let kept = model.clone();
        let mut running = Some(machine.begin("web", "new").expect("possible"));
        let mut taken = false;
        for _ in 0..steps {
            let Some(current) = &mut running else { break };
            if let Some(ended) = machine.step(current) {
                prop_assert_eq!(ended, Ended::Done);
                (taken, running) = (true, None);
            }
        }
        let mut maybe: BTreeMap<u64, Vec<Option<u8>>> = model.iter().map(|(&block, &now)| (block, Vec::from([now]))).collect();
        if taken {
            for (block, byte) in after {
                machine.write("web", block, byte);
                maybe.entry(block).or_default().push(Some(byte));
            }
        }
        let mut machine = machine.cut(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 40 & 1 != 0
        });
        let is_there = machine.entry("new").is_some();
        prop_assert!(is_there || !taken, "it was acknowledged");
        for (&block, &was) in &kept {
            let now = machine.read("web", block);
            prop_assert!(maybe[&block].contains(&now), "block {} holds {:?}", block, now);
            if is_there {
                prop_assert_eq!(machine.read("new", block), was);
            }
        }
        // It goes on from there.
        machine.write("web", 3, 0xfe);
        prop_assert_eq!(machine.read("web", 3), Some(0xfe));
        if is_there {
            prop_assert_eq!(machine.read("new", 3), kept[&3]);
        }
    }
}

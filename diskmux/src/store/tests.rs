use super::*;
use crate::sets::DIRECTORY_BYTES;
use crate::test_machine::{BUFFERS, Clock, Fake, Shared, WEB, connect_to, content, dma, place, set, writable};
use disk_format::{Block, Stripes, zeroed};
use proptest::prelude::*;
use ring::SharedMemory;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

/// A component over the disks of a set, and what the disks hold.
struct Machine {
    platters: Vec<Shared>,
    stripes: Stripes,
    web: Entry,
    memory: SharedMemory,
    disks: Disks<Fake, Clock>,
    sets: Sets,
    store: Store,
    /// Blocks of checks that it has room for.
    rows: usize,
    /// What ended: token, how, and what was read.
    ended: Vec<(u64, Outcome, Option<Box<Block>>)>,
}

fn find(platters: &[Shared], memory: SharedMemory) -> (Disks<Fake, Clock>, Sets, Store) {
    let mut disks = connect_to(platters, memory);
    let mut sets = Sets::new(Box::leak(Box::new([0; DIRECTORY_BYTES])));
    sets.find(&mut disks);
    (disks, sets, Store::new(BUFFERS, component::Crc32c::of_this_processor()))
}

impl Machine {
    fn new(count: u16) -> Machine {
        Machine::over(writable(count))
    }

    fn over((platters, stripes, web): (Vec<Shared>, Stripes, Entry)) -> Machine {
        let memory = dma();
        let (disks, sets, store) = find(&platters, memory);
        Machine { platters, stripes, web, memory, disks, sets, store, rows: ROWS, ended: Vec::new() }
    }

    /// It has room for so many blocks of checks only, from now on and after each restart.
    fn keep_rows(&mut self, rows: usize) {
        self.rows = rows;
        (rows..ROWS).for_each(|row| self.store.rows.lose(row));
    }

    fn ask(&mut self, token: u64, ask: Ask, data: Option<&Block>) -> Result<(), Refused> {
        self.store.ask((token, &self.web, ask), data, &self.sets, &self.disks)
    }

    /// One step, and the end of one request to a disk.
    fn step(&mut self) {
        let (memory, ended) = (self.memory, &mut self.ended);
        self.store.step(&self.sets, &mut self.disks, |token, outcome| {
            let data = if let Outcome::Data(at) = outcome {
                let mut data = Box::new(zeroed());
                memory.read(at, &mut data[..]).expect("a buffer");
                Some(data)
            } else {
                None
            };
            ended.push((token, outcome, data));
        });
        if let Some((tag, good)) = self.disks.done() {
            assert!(self.store.ended(tag, good, &mut self.disks));
        }
    }

    /// Until all has ended.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.store.is_idle() {
                return;
            }
            self.step();
            let until = self.disks.host().0 + 10_000;
            self.disks.host().sleep(until);
        }
        panic!("it does not end")
    }

    /// Does one request, and says how it ended: with data, by its first byte, all others being the same.
    fn one(&mut self, ask: Ask, data: Option<u8>) -> Result<Option<u8>, Outcome> {
        let data = data.map(|byte| [byte; BLOCK_BYTES]);
        self.ask(77, ask, data.as_ref()).expect("taken");
        self.finish();
        let (77, outcome, data) = self.ended.pop().expect("ended") else { panic!("another one") };
        match (outcome, data) {
            (Outcome::Data(_), Some(data)) => Ok(Some(byte_of(&data))),
            (Outcome::Zeros, None) => Ok(None),
            (other, _) => Err(other),
        }
    }

    /// Where the data of a block lies.
    fn at(&self, block: u64) -> (usize, u64) {
        place(&self.stripes, self.web.data(block).expect("inside"))
    }

    /// The component is another one.
    fn restart(&mut self) {
        (self.disks, self.sets, self.store) = find(&self.platters, self.memory);
        self.keep_rows(self.rows);
    }
}

fn byte_of(data: &Block) -> u8 {
    assert!(data.iter().all(|&byte| byte == data[0]), "a block of two writes");
    data[0]
}

#[test]
fn what_is_written_is_read_and_what_never_was_is_zeros() {
    let mut machine = Machine::new(3);
    let old = |block| content(block).map(|data| data[0]);
    assert_eq!([5, 6, 511, 512].map(|block| machine.one(Ask::Read(block), None)), [5, 6, 511, 512].map(old).map(Ok));
    for block in [5, 6, 511, 512, WEB - 1] {
        assert_eq!(machine.one(Ask::Write(block), Some(0xaa)), Err(Outcome::Done));
        assert_eq!(machine.one(Ask::Read(block), None), Ok(Some(0xaa)));
    }
    assert_eq!(machine.one(Ask::Discard(6), None), Err(Outcome::Done));
    assert_eq!(machine.one(Ask::Flush, None), Err(Outcome::Done));
    machine.restart();
    assert_eq!([5, 6, 7].map(|block| machine.one(Ask::Read(block), None)), [Ok(Some(0xaa)), Ok(None), Ok(old(7))]);
    // What nobody has.
    let block = zeroed();
    for ask in [Ask::Read(WEB), Ask::Discard(WEB), Ask::Write(u64::MAX)] {
        assert_eq!(machine.ask(1, ask, Some(&block)), Err(Refused::Nonsense));
    }
    assert_eq!(machine.ask(1, Ask::Write(0), None), Err(Refused::Nonsense));
    for token in 0..16 {
        assert_eq!(machine.ask(token, Ask::Read(token), None), Ok(()));
    }
    assert_eq!(machine.ask(16, Ask::Read(0), None), Err(Refused::Full));
    machine.finish();
    assert_eq!(machine.ended.len(), 16);
    let mut machine = Machine::over(set(1, 1));
    assert_eq!(machine.ask(1, Ask::Write(0), Some(&block)), Err(Refused::Nonsense));
    assert_eq!(machine.one(Ask::Read(1), None), Ok(old(1)));
}

#[test]
fn a_flush_makes_durable_what_was_written_and_writes_share_theirs() {
    let mut machine = Machine::new(2);
    let before: usize = machine.platters.iter().map(|platter| platter.borrow().flushes).sum();
    for token in 0..8 {
        machine.ask(token, Ask::Write(token), Some(&[9; BLOCK_BYTES])).expect("taken");
    }
    machine.ask(8, Ask::Flush, None).expect("taken");
    machine.finish();
    assert_eq!(machine.ended.iter().filter(|(_, outcome, _)| *outcome == Outcome::Done).count(), 9);
    assert_eq!(machine.ended.last().map(|ended| ended.0), Some(8), "it comes after all that were asked for before");
    // Eight writes and a flush: at the start, between the steps, and at the end, of each disk.
    let after: usize = machine.platters.iter().map(|platter| platter.borrow().flushes).sum();
    assert!(after - before <= 6, "{} flushes", after - before);
    machine.platters.iter().for_each(|platter| platter.borrow_mut().cut(|| false));
    machine.restart();
    for block in 0..8 {
        assert_eq!(machine.one(Ask::Read(block), None), Ok(Some(9)));
    }
}

#[test]
fn a_batch_settles_what_the_last_one_has_changed_only_when_it_has_to() {
    let mut machine = Machine::new(1);
    let flushes = |machine: &mut Machine, ask, data| {
        let before = machine.platters[0].borrow().flushes;
        assert_eq!(machine.one(ask, data), Err(Outcome::Done));
        machine.platters[0].borrow().flushes - before
    };
    assert_eq!(flushes(&mut machine, Ask::Write(0), Some(1)), 2, "of a predecessor nobody knows what is durable");
    assert_eq!(flushes(&mut machine, Ask::Write(1), Some(2)), 1);
    assert_eq!(flushes(&mut machine, Ask::Write(3), Some(3)), 1);
    assert_eq!(flushes(&mut machine, Ask::Write(3), Some(4)), 2, "one of the two that it may be is given up");
    assert_eq!(flushes(&mut machine, Ask::Discard(1), None), 1);
    assert_eq!(flushes(&mut machine, Ask::Write(1), Some(5)), 2, "it is not to be there before the old sum is gone");
    assert_eq!(flushes(&mut machine, Ask::Flush, None), 1);
    // What is settled is as it was written last, and nothing else.
    let (_, at) = machine.at(3);
    machine.platters[0].borrow_mut().held.insert(at, Box::new([3; BLOCK_BYTES]));
    assert_eq!(machine.one(Ask::Read(3), None), Err(Outcome::Corrupt));
}

#[test]
fn who_needs_a_block_of_checks_gets_one_though_unsettled_blocks_have_all() {
    let mut machine = Machine::new(2);
    machine.keep_rows(1);
    for round in 1..4 {
        for block in [0, 600, 1, 601] {
            assert_eq!(machine.one(Ask::Write(block), Some(round)), Err(Outcome::Done));
        }
        for block in [0, 600, 1, 601] {
            assert_eq!(machine.one(Ask::Read(block), None), Ok(Some(round)));
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_of_its_block_until_that_is_written() {
    let mut machine = Machine::new(3);
    let (member, block) = machine.at(77);
    machine.platters[member].borrow_mut().held.get_mut(&block).expect("written")[99] ^= 1;
    assert_eq!(machine.one(Ask::Read(77), None), Err(Outcome::Corrupt));
    assert_eq!(machine.one(Ask::Read(78), None), Ok(Some(78)));
    assert_eq!(machine.one(Ask::Write(77), Some(1)), Err(Outcome::Done));
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(1)));
}

#[test]
fn what_a_disk_cannot_do_fails_after_three_tries_and_harms_nobody_else() {
    let mut machine = Machine::new(3);
    let (member, block) = machine.at(77);
    machine.platters[member].borrow_mut().bad.push(block);
    let errors = machine.disks.list()[member].errors;
    assert_eq!(machine.one(Ask::Read(77), None), Err(Outcome::Failed));
    assert_eq!(machine.disks.list()[member].errors - errors, 3);
    assert_eq!(machine.one(Ask::Write(77), Some(3)), Err(Outcome::Failed));
    assert_eq!(machine.one(Ask::Write(78), Some(3)), Err(Outcome::Done));
    // It may hold either, and nobody can see which: neither may be given up.
    assert_eq!(machine.one(Ask::Write(77), Some(5)), Err(Outcome::Failed));
    // Old or new, and not an error.
    machine.platters[member].borrow_mut().bad.clear();
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(77)));
    assert_eq!(machine.one(Ask::Write(77), Some(4)), Err(Outcome::Done));
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(4)));
    // A discard whose check cannot be written has not happened, for this one and for its successor.
    let (member, block) = place(&machine.stripes, machine.web.first);
    machine.platters[member].borrow_mut().bad.push(block);
    assert_eq!(machine.one(Ask::Discard(77), None), Err(Outcome::Failed));
    machine.platters[member].borrow_mut().bad.clear();
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(4)));
    machine.restart();
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(4)));
    // Without its checks nobody knows what a block is.
    let (member, block) = place(&machine.stripes, machine.web.first + 1);
    machine.platters[member].borrow_mut().bad.push(block);
    assert_eq!(machine.one(Ask::Read(600), None), Err(Outcome::Failed));
    assert_eq!(machine.one(Ask::Write(601), Some(3)), Err(Outcome::Failed));
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(4)));
    machine.platters[member].borrow_mut().bad.clear();
    assert_eq!(machine.one(Ask::Read(601), None), Ok(Some(99)));
}

#[test]
fn who_waits_for_a_disk_that_falls_silent_is_told_and_others_go_on() {
    let mut machine = Machine::new(3);
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(77)));
    let (silent, _) = machine.at(77);
    let other = (70..90).find(|block| block % 5 != 0 && machine.at(*block).0 != silent).expect("on another one");
    machine.platters[silent].borrow_mut().silent = true;
    assert_eq!(machine.one(Ask::Read(77), None), Err(Outcome::Failed));
    // It is not asked again, and the next one need not wait.
    let before = machine.disks.host().0;
    assert_eq!(machine.one(Ask::Read(77), None), Err(Outcome::Failed));
    assert!(machine.disks.host().0 - before < machine.disks.host().hz());
    assert_eq!(machine.one(Ask::Read(other), None), Ok(Some(u8::try_from(other).expect("small"))));
    assert_eq!(machine.one(Ask::Flush, None), Err(Outcome::Failed), "nobody knows what it has kept");
}

#[test]
fn a_disk_that_cannot_be_flushed_is_an_error_of_those_that_need_it() {
    let mut machine = Machine::new(3);
    let (row, _) = place(&machine.stripes, machine.web.first);
    let written = || (1..200).filter(|block| block % 5 != 0);
    let silent = (0..3).find(|&member| member != row).expect("three");
    let lost = written().find(|&block| machine.at(block).0 == silent).expect("some");
    let kept = written().find(|&block| machine.at(block).0 != silent).expect("some");
    assert_eq!([lost, kept].map(|block| machine.one(Ask::Write(block), Some(9))), [Err(Outcome::Done); 2]);
    machine.platters[silent].borrow_mut().silent = true;
    // Each batch would flush the silent one, too.
    assert_eq!(machine.one(Ask::Write(lost), Some(8)), Err(Outcome::Failed));
    for byte in [7, 6] {
        assert_eq!(machine.one(Ask::Write(kept), Some(byte)), Err(Outcome::Done));
        assert_eq!(machine.one(Ask::Read(kept), None), Ok(Some(byte)));
    }
    assert_eq!(machine.one(Ask::Discard(kept), None), Err(Outcome::Done));
    assert_eq!(machine.one(Ask::Flush, None), Err(Outcome::Failed), "its blocks are on all");
}

#[test]
fn memory_that_a_silent_disk_has_is_never_used_again() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(77)));
    (machine.platters[0].borrow_mut().silent, machine.platters[0].borrow_mut().deep) = (true, true);
    for token in 0..16 {
        machine.ask(token, Ask::Read(77), None).expect("taken");
    }
    machine.finish();
    assert!(machine.ended.len() == 16 && machine.ended.iter().all(|ended| ended.1 == Outcome::Failed));
    assert_eq!(machine.ask(16, Ask::Read(77), None), Err(Refused::Gone));
    // Its successor has all of it: the controller was reset.
    machine.platters[0].borrow_mut().silent = false;
    machine.platters[0].borrow_mut().abandon(machine.memory, || false);
    machine.restart();
    machine.ended.clear();
    assert_eq!(machine.one(Ask::Read(77), None), Ok(Some(77)));
}

#[test]
fn neighbours_go_to_a_disk_together() {
    for (run, expected) in [(0, &[8][..]), (3, &[3, 3, 2]), (1, &[1; 8])] {
        let mut machine = Machine::new(1);
        for block in 0..8 {
            assert_eq!(machine.one(Ask::Write(block), Some(1)), Err(Outcome::Done));
        }
        machine.platters[0].borrow_mut().run = run;
        let runs = |machine: &mut Machine| std::mem::take(&mut machine.platters[0].borrow_mut().runs);
        // Whatever the order in which they are asked for.
        for block in [3, 4, 2, 5, 6, 1, 0, 7] {
            machine
                .ask(block, Ask::Write(block), Some(&[u8::try_from(block).expect("small") + 50; BLOCK_BYTES]))
                .expect("taken");
        }
        runs(&mut machine);
        machine.finish();
        // The block of checks, then the data.
        let mut written = runs(&mut machine);
        assert_eq!(written.remove(0), 1);
        written.sort_unstable_by(|one, other| other.cmp(one));
        assert_eq!(written, expected, "a request has {run} blocks at most");
        for block in [7, 1, 0, 3, 2, 5, 4, 6] {
            machine.ask(block, Ask::Read(block), None).expect("taken");
        }
        machine.ended.clear();
        machine.finish();
        assert_eq!(runs(&mut machine).len(), expected.len());
        for (block, _, data) in &machine.ended {
            assert_eq!(byte_of(data.as_ref().expect("data")), u8::try_from(*block).expect("small") + 50);
        }
        assert_eq!(machine.ended.len(), 8);
        let disk = machine.disks.list()[0];
        assert_eq!((disk.queue, disk.errors), (0, 0));
    }
}

#[test]
fn of_neighbours_only_the_bad_one_fails() {
    let mut machine = Machine::new(1);
    let (_, bad) = machine.at(8);
    machine.platters[0].borrow_mut().bad.push(bad);
    assert_eq!(machine.one(Ask::Read(6), None), Ok(Some(6)));
    let before = machine.disks.list()[0].errors;
    for write in [false, true] {
        for block in 6..10 {
            let (ask, data) =
                if write { (Ask::Write(block), Some(&[9; BLOCK_BYTES])) } else { (Ask::Read(block), None) };
            machine.ask(block, ask, data).expect("taken");
        }
        machine.finish();
        machine.ended.sort_unstable_by_key(|ended| ended.0);
        for (block, outcome, data) in machine.ended.drain(..) {
            let good = matches!(outcome, Outcome::Done) && write
                || data.is_some_and(|data| u64::from(byte_of(&data)) == block);
            assert_eq!(good, block != 8, "{block}: {outcome:?}");
        }
    }
    let disk = machine.disks.list()[0];
    // Together, and twice alone.
    assert_eq!((disk.errors - before, disk.queue), (2 * u64::from(TRIES), 0));
}

#[test]
fn neighbours_of_a_silent_disk_are_given_up_together() {
    let mut machine = Machine::new(1);
    assert_eq!(machine.one(Ask::Read(6), None), Ok(Some(6)));
    let before = machine.disks.list()[0];
    machine.platters[0].borrow_mut().silent = true;
    // In no order, so that nobody reads ahead.
    for block in [7, 6, 9, 8] {
        machine.ask(block, Ask::Read(block), None).expect("taken");
    }
    machine.finish();
    assert!(machine.ended.len() == 4 && machine.ended.iter().all(|ended| ended.1 == Outcome::Failed));
    let disk = machine.disks.list()[0];
    assert_eq!((disk.requests - before.requests, disk.errors - before.errors, disk.queue), (1, 1, 0));
    assert_eq!(machine.store.lost.count_ones(), 4, "the disk may still write to all of them");
}

#[test]
fn who_reads_in_a_row_has_all_disks_work() {
    let mut machine = Machine::new(3);
    let mut most = 0;
    for block in 0..WEB {
        let old = content(block).map(|data| data[0]);
        machine.ask(77, Ask::Read(block), None).expect("taken");
        while machine.ended.is_empty() {
            machine.step();
            most = most.max(machine.disks.list().iter().filter(|disk| disk.queue > 0).count());
        }
        let (_, outcome, data) = machine.ended.pop().expect("one");
        assert_eq!(data.map(|data| byte_of(&data)), old, "{block}: {outcome:?}");
    }
    machine.finish();
    assert_eq!(most, 3, "one block is asked for at a time");
    let (requests, blocks) = machine.platters.iter().fold((0, 0), |(requests, blocks), platter| {
        let runs = platter.borrow().runs.clone();
        (requests + runs.len(), blocks + runs.iter().sum::<usize>())
    });
    // Every fifth was never written, stripe units are of four, and each disk has a superblock or two read at the start.
    assert!((560..600).contains(&blocks) && requests < 320, "{blocks} blocks, {requests} requests");
    // What was read ahead and then written is read as it was written.
    for block in 100..108 {
        machine.ended.clear();
        assert_eq!(machine.one(Ask::Read(block), None).ok().flatten(), content(block).map(|data| data[0]));
    }
    let next = 111;
    assert!(machine.store.ahead.find(machine.web.id, next).is_some());
    assert_eq!(machine.one(Ask::Write(next), Some(7)), Err(Outcome::Done));
    assert_eq!(machine.store.ahead.find(machine.web.id, next), None);
    assert_eq!(machine.one(Ask::Read(next), None), Ok(Some(7)));
    // What is spoilt on the disk is an error of who asks for it, and of nobody else.
    let (member, at) = machine.at(201);
    machine.platters[member].borrow_mut().bad.push(at);
    for block in 112..210 {
        let read = machine.one(Ask::Read(block), None);
        assert_eq!(read == Err(Outcome::Failed), block == 201, "{block}: {read:?}");
    }
}

#[test]
fn a_flush_that_fails_lets_no_check_go_ahead_of_its_data() {
    let mut machine = Machine::new(3);
    // Checks, and the data of two blocks, on three disks.
    let (row, _) = place(&machine.stripes, machine.web.first);
    let on = |machine: &Machine, disk: usize| {
        (1..500).find(|&block| machine.at(block).0 == disk && !block.is_multiple_of(5))
    };
    let [one, other] = [1, 2].map(|step| on(&machine, (row + step) % 3).expect("there is one"));
    let (disk, _) = machine.at(one);
    assert_eq!(machine.one(Ask::Write(one), Some(101)), Err(Outcome::Done));
    assert_eq!(machine.one(Ask::Flush, None), Err(Outcome::Done));
    assert_eq!(machine.one(Ask::Write(one), Some(102)), Err(Outcome::Done));
    machine.platters[disk].borrow_mut().unflushable = true;
    assert_eq!(machine.one(Ask::Flush, None), Err(Outcome::Failed));
    // What it holds is looked at, and is not durable. The other one goes on, with the same block of checks.
    machine.ended.clear();
    machine.ask(1, Ask::Write(one), Some(&[103; BLOCK_BYTES])).expect("taken");
    machine.ask(2, Ask::Write(other), Some(&[104; BLOCK_BYTES])).expect("taken");
    machine.finish();
    machine.ended.sort_unstable_by_key(|ended| ended.0);
    assert_eq!(machine.ended.iter().map(|ended| ended.1).collect::<Vec<_>>(), [Outcome::Failed, Outcome::Done]);
    machine.platters.iter().for_each(|platter| platter.borrow_mut().cut(|| false));
    machine.platters[disk].borrow_mut().unflushable = false;
    machine.restart();
    machine.ended.clear();
    assert_eq!(machine.one(Ask::Read(one), None), Ok(Some(101)));
}

/// Blocks of the random histories: neighbours, some that were never written, and some on either side of the end of a block of checks.
const BLOCKS: [u64; 15] = [0, 1, 2, 505, 506, 507, 508, 509, 510, 511, 512, 513, 514, 515, WEB - 1];
/// Those of them that are read in a row, so that the ones behind are read ahead.
const ROW: core::ops::Range<u64> = 505..510;

#[derive(Clone, Debug)]
enum Act {
    Read(usize),
    /// Those of [`ROW`], one after the other.
    Scan,
    Write(usize, u8),
    Discard(usize),
    Flush,
    Steps(usize),
    /// A block of data, or of checks, cannot be read or written from now on.
    Spoil(usize),
    /// A disk cannot be flushed from now on.
    Stick(usize),
    /// All can again.
    Heal,
    /// The component is killed; its disks do some of what they were given.
    Kill(u64),
    /// The power fails; some of what is not durable is there.
    Cut(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let block = 0..BLOCKS.len();
    prop_oneof![
        3 => block.clone().prop_map(Act::Read),
        2 => Just(Act::Scan),
        6 => (block.clone(), 1_u8..255).prop_map(|(block, byte)| Act::Write(block, byte)),
        1 => block.prop_map(Act::Discard),
        2 => Just(Act::Flush),
        8 => (0_usize..12).prop_map(Act::Steps),
        1 => (0..BLOCKS.len() + 2).prop_map(Act::Spoil),
        1 => (0_usize..3).prop_map(Act::Stick),
        1 => Just(Act::Heal),
        1 => any::<u64>().prop_map(Act::Kill),
        1 => any::<u64>().prop_map(Act::Cut),
    ]
}

/// Bits of a number, again and again.
fn bits(mut seed: u64) -> impl FnMut() -> bool {
    move || {
        seed = seed.rotate_left(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        seed >> 63 != 0
    }
}

/// What was asked for and has not ended.
#[derive(Clone, Copy)]
struct Open {
    token: u64,
    ask: Ask,
    byte: u8,
}

/// A value that a block may have.
#[derive(Clone, Copy, Debug)]
struct Possible {
    /// When it was asked for.
    token: u64,
    /// Its bytes, `None` for zeros that were never written.
    value: Option<u8>,
    /// Whether the write was told to be done.
    done: bool,
}

/// What blocks may hold: what was flushed last, and what was asked for since, in order.
struct Model {
    may: BTreeMap<u64, Vec<Possible>>,
    open: Vec<Open>,
    last: u64,
    /// Some blocks could not be read or written.
    faults: bool,
}

impl Model {
    fn new() -> Model {
        let first = |block: u64| {
            let value = content(block).map(|data| data[0]);
            (block, vec![Possible { token: 0, value, done: true }])
        };
        Model { may: BLOCKS.into_iter().map(first).collect(), open: Vec::new(), last: 0, faults: false }
    }

    fn ended(&mut self, (token, outcome, data): (u64, Outcome, Option<Box<Block>>)) {
        let at = self.open.iter().position(|open| open.token == token).expect("asked for once, and ends once");
        let ask = self.open.remove(at).ask;
        if outcome == Outcome::Failed {
            assert!(self.faults, "{ask:?} failed");
            return;
        }
        match ask {
            Ask::Read(block) => {
                let found = data.map(|data| byte_of(&data));
                let values = &self.may[&block];
                let end = values.iter().position(|one| one.token > token).unwrap_or(values.len());
                let start = values[..end].iter().rposition(|one| one.done).unwrap_or(0);
                assert!(
                    matches!(outcome, Outcome::Data(_) | Outcome::Zeros)
                        && values[start..end].iter().any(|one| one.value == found),
                    "{ask:?}: {outcome:?} {found:?}, not one of {:?}",
                    &values[start..end]
                );
            }
            Ask::Write(block) | Ask::Discard(block) => {
                assert_eq!(outcome, Outcome::Done);
                let values = self.may.get_mut(&block).expect("one of them");
                values.iter_mut().filter(|one| one.token == token).for_each(|one| one.done = true);
            }
            Ask::Flush => {
                assert_eq!(outcome, Outcome::Done);
                for values in self.may.values_mut() {
                    let base = values.iter().rposition(|one| one.done && one.token <= token);
                    values.drain(..base.expect("there is a first one"));
                }
            }
        }
    }
}

fn ask(machine: &mut Machine, model: &mut Model, open: Open) {
    let data = [open.byte; BLOCK_BYTES];
    let data = matches!(open.ask, Ask::Write(_)).then_some(&data);
    while machine.ask(open.token, open.ask, data) == Err(Refused::Full) {
        steps(machine, model, 1);
    }
}

fn steps(machine: &mut Machine, model: &mut Model, count: usize) {
    for _ in 0..count {
        machine.step();
        for ended in std::mem::take(&mut machine.ended) {
            model.ended(ended);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whoever dies, whatever cannot be read or written, and whenever the power fails: what was flushed is there, what was written and not
    /// flushed is there or what was there before, no block is an error once it can be read, and a request that is given to a successor ends as if there had been no other one.
    #[test]
    fn nothing_that_was_flushed_is_lost(count in 1_u16..4, rows in 1_usize..4, run in 0_usize..4, acts in proptest::collection::vec(act(), 1..120)) {
        let mut machine = Machine::new(count);
        machine.keep_rows(rows);
        machine.platters.iter().for_each(|platter| platter.borrow_mut().run = run);
        let mut model = Model::new();
        for act in acts {
            let asked = match act {
                Act::Read(block) => Some((Ask::Read(BLOCKS[block]), 0)),
                Act::Write(block, byte) => Some((Ask::Write(BLOCKS[block]), byte)),
                Act::Discard(block) => Some((Ask::Discard(BLOCKS[block]), 0)),
                Act::Flush => Some((Ask::Flush, 0)),
                _ => None,
            };
            if let Some((what, byte)) = asked {
                model.last += 1;
                let open = Open { token: model.last, ask: what, byte };
                if let Some(values) = what.block().filter(|_| what.changes()).and_then(|block| model.may.get_mut(&block)) {
                    let value = matches!(what, Ask::Write(_)).then_some(byte);
                    values.push(Possible { token: open.token, value, done: false });
                }
                // As a guest does: it knows what it has asked for before anybody has taken it.
                model.open.push(open);
                ask(&mut machine, &mut model, open);
            }
            match act {
                Act::Scan => {
                    for block in ROW {
                        model.last += 1;
                        let open = Open { token: model.last, ask: Ask::Read(block), byte: 0 };
                        model.open.push(open);
                        ask(&mut machine, &mut model, open);
                    }
                }
                Act::Steps(count) => steps(&mut machine, &mut model, count),
                Act::Spoil(which) => {
                    let rows = which.checked_sub(BLOCKS.len()).and_then(|row| u64::try_from(row).ok());
                    let (member, block) = match rows {
                        Some(row) => place(&machine.stripes, machine.web.first + row),
                        None => machine.at(BLOCKS[which]),
                    };
                    machine.platters[member].borrow_mut().bad.push(block);
                    model.faults = true;
                }
                Act::Stick(member) => {
                    let count = machine.platters.len();
                    machine.platters[member % count].borrow_mut().unflushable = true;
                    model.faults = true;
                }
                Act::Heal => machine.platters.iter().for_each(|platter| {
                    platter.borrow_mut().bad.clear();
                    platter.borrow_mut().unflushable = false;
                }),
                Act::Kill(seed) => {
                    let (memory, mut some) = (machine.memory, bits(seed));
                    // A set of which no disk can be flushed is not opened.
                    machine.platters.iter().for_each(|platter| platter.borrow_mut().unflushable = false);
                    machine.platters.iter().for_each(|platter| platter.borrow_mut().abandon(memory, &mut some));
                    machine.restart();
                    for open in model.open.clone() {
                        ask(&mut machine, &mut model, open);
                    }
                }
                Act::Cut(seed) => {
                    let mut some = bits(seed);
                    for platter in &machine.platters {
                        platter.borrow_mut().bad.clear();
                        platter.borrow_mut().unflushable = false;
                        platter.borrow_mut().cut(&mut some);
                    }
                    machine.restart();
                    model.open.clear();
                    for block in BLOCKS {
                        let found = machine.one(Ask::Read(block), None);
                        let values = model.may.get_mut(&block).expect("one of them");
                        let found = found.unwrap_or_else(|error| panic!("block {block}: {error:?}"));
                        let possible = values.iter().any(|one| one.value == found);
                        prop_assert!(possible, "block {}: {:?}, not one of {:?}", block, found, values);
                        *values = vec![Possible { token: 0, value: found, done: true }];
                    }
                }
                _ => {}
            }
        }
        machine.finish();
        for ended in std::mem::take(&mut machine.ended) {
            model.ended(ended);
        }
        prop_assert!(model.open.is_empty());
    }
}

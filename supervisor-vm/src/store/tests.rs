//! The store on blocks in memory, with power cuts at every place.

use super::medium::Medium;
use super::record::{Kind, Record};
use super::refused::{Refused, Unkept};
use super::*;
use crate::chain::Audit;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) type Bytes = [u8; BLOCK_BYTES];

/// What was asked of a disk.
#[derive(Clone)]
pub(super) enum Order {
    Write(u64, Box<Bytes>),
    Flush,
}

/// Blocks in memory, and all that was asked for.
#[derive(Clone, Default)]
pub(super) struct Tape {
    pub(super) blocks: Rc<RefCell<Vec<Box<Bytes>>>>,
    pub(super) orders: Rc<RefCell<Vec<Order>>>,
    /// Writes and flushes that succeed before one fails.
    healthy: Rc<Cell<Option<usize>>>,
}

impl Tape {
    pub(super) fn new(blocks: usize) -> Tape {
        Tape::of(vec![Box::new([0; BLOCK_BYTES]); blocks])
    }

    pub(super) fn of(blocks: Vec<Box<Bytes>>) -> Tape {
        Tape { blocks: Rc::new(RefCell::new(blocks)), ..Tape::default() }
    }

    pub(super) fn copy(&self) -> Tape {
        Tape::of(self.blocks.borrow().clone())
    }

    fn fails(&self) -> bool {
        match self.healthy.get() {
            Some(0) => {
                self.healthy.set(None);
                true
            }
            left => {
                self.healthy.set(left.map(|left| left - 1));
                false
            }
        }
    }
}

impl Medium for Tape {
    fn blocks(&self) -> u64 {
        self.blocks.borrow().len() as u64
    }

    async fn read(&self, block: u64, into: &mut Bytes) -> Result<(), DiskError> {
        let at = usize::try_from(block).expect("small");
        *into = **self.blocks.borrow().get(at).ok_or(DiskError::OutOfRange)?;
        Ok(())
    }

    async fn write(&self, block: u64, from: &Bytes) -> Result<(), DiskError> {
        if self.fails() {
            return Err(DiskError::Failed);
        }
        let at = usize::try_from(block).expect("small");
        **self.blocks.borrow_mut().get_mut(at).ok_or(DiskError::OutOfRange)? = *from;
        self.orders.borrow_mut().push(Order::Write(block, Box::new(*from)));
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        if self.fails() {
            return Err(DiskError::Failed);
        }
        self.orders.borrow_mut().push(Order::Flush);
        Ok(())
    }
}

/// What a future that never waits gives.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

/// What is kept, beside the store that keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    records: BTreeMap<u8, Vec<u8>>,
    lines: u64,
}

struct Keeper {
    store: Store<Tape>,
    audit: Audit,
    model: Model,
}

fn record(key: u8, value: Option<&[u8]>) -> Vec<u8> {
    Record { kind: Kind::Vm, key: &[key], value }.to_bytes().expect("short")
}

fn open(tape: Tape) -> Result<(Keeper, Model), Refused> {
    let (store, records) = now(Store::open(tape, [3; 16])).map_err(|(_, why)| why)?;
    let records = records.into_iter().map(|((_, key), value)| (key[0], value)).collect();
    let model = Model { records, lines: store.history().next() - 1 };
    let mut audit = Audit::default();
    let mut all: Option<Lines> = None;
    for index in 0..store.history().blocks() {
        let more = now(store.lines(index))?;
        match &mut all {
            None => all = Some(more),
            Some(all) => {
                assert_eq!((all.next(), all.end()), (more.first, more.before));
                all.lines.extend(more.lines);
            }
        }
    }
    if let Some(all) = all {
        assert_eq!((all.first, all.next()), (store.history().oldest(), store.history().next()));
        audit.go_on_behind(all);
    }
    Ok((Keeper { store, audit, model: model.clone() }, model))
}

impl Keeper {
    /// Keeps values under keys, of which one of no bytes takes what is there away, and so many more lines.
    fn keep(&mut self, changes: &[(u8, usize)], lines: u64) -> Result<(), Unkept> {
        let mut changed = Vec::new();
        for (key, bytes) in changes {
            let value = vec![*key; *bytes];
            if value.is_empty() {
                self.model.records.remove(key);
            } else {
                self.model.records.insert(*key, value.clone());
            }
            changed.push(record(*key, (!value.is_empty()).then_some(&value)));
        }
        for _ in 0..lines {
            self.model.lines += 1;
            self.audit.add(self.model.lines, "somebody", &"x".repeat(250), &"y".repeat(250));
        }
        let records = &self.model.records;
        let all = || records.iter().map(|(key, value)| record(*key, Some(value))).collect();
        let next = self.store.history().next();
        let lines: Vec<Line<'_>> = self.audit.since(next).collect();
        now(self.store.commit(&changed, all, lines.into_iter()))
    }
}

/// Everything that a power cut behind these orders may leave, where `before` was there: any of the writes since the last flush.
pub(super) fn cuts(before: &[Box<Bytes>], orders: &[Order], mut each: impl FnMut(Vec<Box<Bytes>>)) {
    let flushed = orders.iter().rposition(|order| matches!(order, Order::Flush)).map_or(0, |at| at + 1);
    let apply = |blocks: &mut Vec<Box<Bytes>>, order: &Order| {
        if let Order::Write(block, bytes) = order {
            blocks[usize::try_from(*block).expect("small")].clone_from(bytes);
        }
    };
    let mut durable = before.to_vec();
    orders[..flushed].iter().for_each(|order| apply(&mut durable, order));
    let loose = &orders[flushed..];
    assert!(loose.len() < 12, "{} writes without a flush", loose.len());
    for chosen in 0..1_u32 << loose.len() {
        let mut blocks = durable.clone();
        let lives = |(at, _): &(usize, &Order)| chosen >> at & 1 == 1;
        loose.iter().enumerate().filter(lives).for_each(|(_, order)| apply(&mut blocks, order));
        each(blocks);
    }
}

/// Carries out a commit on a copy of a disk, and looks at whatever a power cut in the middle may leave. What is there then.
fn survive(tape: &Tape, changes: &[(u8, usize)], lines: u64) -> Option<Tape> {
    let (mut keeper, before) = open(tape.copy()).expect("it was kept");
    let lined = keeper.store.history().blocks();
    let here = tape.copy();
    let (mut other, _) = open(here.clone()).expect("it was kept");
    // One that was blank is begun by now.
    let base = here.copy();
    here.orders.borrow_mut().clear();
    let kept = other.keep(changes, lines);
    // Each state in between, from the first change to the last.
    let mut states = vec![before.records.clone()];
    for change in changes {
        keeper.keep(&[*change], 0).ok();
        states.push(keeper.model.records.clone());
    }
    let orders = here.orders.borrow().clone();
    for end in 0..=orders.len() {
        cuts(&base.blocks.borrow(), &orders[..end], |blocks| {
            let (after, found) = open(Tape::of(blocks)).unwrap_or_else(|why| panic!("cut behind {end} orders: {why}"));
            // No commit here begins more than two blocks of lines, each in the place of the oldest.
            let blocks = after.store.history().blocks();
            assert!(blocks + 2 >= lined, "cut behind {end} orders: of {lined} blocks of lines {blocks} are left");
            assert!(states.contains(&found.records), "cut behind {end} orders of {}: other records", orders.len());
            assert!((before.lines..=before.lines + lines).contains(&found.lines), "{} lines", found.lines);
            if end == orders.len() && kept.is_ok() {
                assert_eq!(found, other.model, "what was kept is not durable");
            }
        });
    }
    kept.is_ok().then_some(here)
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_at_every_write() {
    let mut tape = Tape::new(16);
    // Some of them fill blocks, some an area, some the history.
    for step in 0..40_u8 {
        let changes: &[(u8, usize)] = match step % 5 {
            0 => &[(step, 1500)],
            1 => &[(step, 1800), (step + 100, 1800), (step - 1, 0)],
            2 => &[(7, 10), (8, 2000), (7, 0)],
            3 => &[],
            _ => &[(step.wrapping_sub(3), 0), (step.wrapping_add(97), 0)],
        };
        tape = survive(&tape, changes, u64::from(step % 4) * 3).expect("there is room");
    }
    let (keeper, _) = open(tape).expect("it was kept");
    let (_, records, generation) = keeper.store.taken();
    assert!(records == 5 && generation > 3, "the areas took no turns: {generation}");
    assert!(keeper.store.history().oldest() > 1, "the circle was not closed");
}

#[test]
fn a_power_cut_while_a_disk_is_begun_leaves_one_that_can_be() {
    let tape = Tape::new(16);
    open(tape.clone()).expect("begun");
    let orders = tape.orders.borrow().clone();
    for end in 0..=orders.len() {
        cuts(&Tape::new(16).blocks.borrow(), &orders[..end], |blocks| {
            let (mut keeper, found) = open(Tape::of(blocks)).expect("blank or begun");
            assert_eq!(found, Model::default());
            keeper.keep(&[(1, 9)], 1).expect("kept");
        });
    }
}

/// A disk with some of everything, over two generations.
fn used() -> Tape {
    let tape = Tape::new(20);
    let (mut keeper, _) = open(tape.clone()).expect("begun");
    for step in 0..12 {
        keeper.keep(&[(step, 1900), (step.wrapping_sub(4), 0)], 9).expect("kept");
    }
    tape
}

#[test]
fn what_is_damaged_anywhere_is_refused_and_never_written() {
    let whole = used();
    let (_, wanted) = open(whole.copy()).expect("whole");
    let (mut refused, mut older) = (0, 0);
    for block in 0..20 {
        for damage in [1, 50, 60, 90, 4095] {
            let tape = whole.copy();
            tape.blocks.borrow_mut()[block][damage] ^= 1;
            match open(tape.clone()) {
                Err(why) => {
                    refused += 1;
                    assert!(matches!(why, Refused::Damaged(_)), "{block}: {why:?}");
                    assert!(tape.orders.borrow().is_empty(), "{block} was written");
                    now(clear(&tape)).expect("cleared");
                    let (_, found) = open(tape).expect("blank");
                    assert_eq!(found, Model::default());
                }
                Ok((_, found)) => {
                    older += 1;
                    assert_eq!(found, wanted, "{block}: something else is there");
                }
            }
        }
    }
    // One in the middle that is gone.
    let (keeper, _) = open(whole.copy()).expect("whole");
    let (taken, records, _) = keeper.store.taken();
    let number = |block: u32| match look(&whole.blocks.borrow()[block as usize]) {
        Seen::Sealed(head, _) => head.number,
        _ => 0,
    };
    let first = if number(1) > number(1 + records) { 1 } else { 1 + records };
    assert!(taken > 2, "nothing lies in the middle");
    for block in first + 1..first + taken - 1 {
        let tape = whole.copy();
        *tape.blocks.borrow_mut()[block as usize] = [0; BLOCK_BYTES];
        assert!(matches!(open(tape), Err(Refused::Damaged(_))), "{block}");
    }
    assert!(refused > 50, "{refused} of 100 were found, {older} were not in use");
}

#[test]
fn a_block_of_another_place_or_another_store_is_none() {
    let whole = used();
    for (from, to) in [(1, 2), (2, 1), (1, 9), (17, 18), (0, 1), (1, 0)] {
        let tape = whole.copy();
        let block = tape.blocks.borrow()[from].clone();
        tape.blocks.borrow_mut()[to] = block;
        assert!(matches!(open(tape), Err(Refused::Damaged(_))), "{from} at {to}");
    }
    let other = Tape::new(20);
    now(Store::open(other.clone(), [4; 16])).map_err(|(_, why)| why).expect("begun");
    let tape = whole.copy();
    tape.blocks.borrow_mut()[0].clone_from(&other.blocks.borrow()[0]);
    assert!(matches!(open(tape), Err(Refused::Damaged(_))));
}

#[test]
fn a_disk_of_somebody_else_is_refused_and_never_written() {
    for (block, bytes) in [(0, b"FKLOGREC"), (3, b"somebody"), (39, b"EFI PART")] {
        let tape = Tape::new(40);
        tape.blocks.borrow_mut()[block][..8].copy_from_slice(bytes);
        let why = open(tape.clone()).err().expect("refused");
        assert_eq!(why, Refused::Foreign(block as u64));
        assert!(why.can_be_begun_anew() && why.to_string().contains("give another disk"));
        assert!(tape.orders.borrow().is_empty());
        now(clear(&tape)).expect("cleared");
        open(tape).expect("blank");
    }
    assert_eq!(open(Tape::new(15)).err(), Some(Refused::Small(15)));
    let tape = used();
    tape.blocks.borrow_mut().truncate(18);
    assert_eq!(open(tape).err(), Some(Refused::Shrunk(18)));
}

#[test]
fn a_power_cut_while_a_disk_is_cleared_leaves_none_that_passes() {
    let before = used();
    let after = before.copy();
    now(clear(&after)).expect("cleared");
    let orders = after.orders.borrow().clone();
    for end in 1..=orders.len() {
        let flushed = orders[..end].iter().rposition(|order| matches!(order, Order::Flush)).map_or(0, |at| at + 1);
        // Of many writes without a flush, each alone is left out, and each alone is there.
        for chosen in flushed..end {
            for alone in [false, true] {
                let mut blocks = before.blocks.borrow().clone();
                for (at, order) in orders[..end].iter().enumerate() {
                    let is_there = at < flushed || (at == chosen) == alone;
                    if let (true, Order::Write(block, bytes)) = (is_there, order) {
                        blocks[usize::try_from(*block).expect("small")].clone_from(bytes);
                    }
                }
                if flushed > 0 {
                    let found = open(Tape::of(blocks)).map(|(_, found)| found);
                    assert!(found.as_ref().is_ok_and(|found| *found == Model::default()) || found.is_err(), "{end}");
                }
            }
        }
    }
}

#[test]
fn a_disk_that_fails_loses_nothing_that_was_kept() {
    for healthy in 0..12 {
        let tape = used();
        let (mut keeper, before) = open(tape.clone()).expect("whole");
        tape.healthy.set(Some(healthy));
        let kept = keeper.keep(&[(50, 1900), (51, 1900), (52, 1900)], 12);
        let (_, found) = open(tape.copy()).expect("whole");
        assert!(found.lines >= before.lines && found.records.len() >= before.records.len());
        match kept {
            Ok(()) => assert_eq!(found, keeper.model),
            Err(why) => assert_eq!(why, Unkept::Disk(DiskError::Failed), "{healthy}"),
        }
        tape.healthy.set(None);
        // And the power fails while it is made good.
        let broken = tape.copy();
        tape.orders.borrow_mut().clear();
        keeper.keep(&[], 0).expect("it is well again");
        let orders = tape.orders.borrow().clone();
        for end in 0..=orders.len() {
            cuts(&broken.blocks.borrow(), &orders[..end], |blocks| {
                let (_, found) = open(Tape::of(blocks)).unwrap_or_else(|why| panic!("{healthy}, {end}: {why}"));
                assert!(found.lines >= before.lines && found.records.len() >= before.records.len());
            });
        }
        keeper.keep(&[(53, 1)], 1).expect("it is well again");
        let (_, found) = open(tape).expect("whole");
        assert_eq!(found, keeper.model, "{healthy}");
    }
}

#[test]
fn what_takes_too_much_is_refused_and_lines_are_kept_all_the_same() {
    let tape = Tape::new(16);
    let (mut keeper, _) = open(tape.clone()).expect("begun");
    keeper.keep(&[(0, 9)], 1).expect("kept");
    let many: Vec<(u8, usize)> = (1..12).map(|key| (key, 2000)).collect();
    assert_eq!(keeper.keep(&many, 1), Err(Unkept::Full(5)));
    assert_eq!(keeper.keep(&[], 1), Err(Unkept::Full(5)));
    let (_, found) = open(tape.copy()).expect("whole");
    assert_eq!((found.records.len(), found.lines), (1, 3));
    let fewer: Vec<(u8, usize)> = (1..10).map(|key| (key, 0)).collect();
    keeper.keep(&fewer, 1).expect("there is room again");
    assert_eq!(open(tape).expect("whole").1, keeper.model);
}

#[test]
fn lines_that_were_lost_in_between_begin_anew() {
    let tape = Tape::new(16);
    let (mut keeper, _) = open(tape.clone()).expect("begun");
    keeper.keep(&[], 20).expect("kept");
    // More than is remembered came while the disk did not answer.
    let long: String = "z".repeat(255);
    for _ in 0..1000 {
        keeper.audit.add(1, &long, &long, &long);
    }
    keeper.model.lines += 1000;
    let oldest = keeper.audit.first();
    assert!(oldest > 21);
    keeper.keep(&[], 0).expect("kept");
    let (keeper, found) = open(tape).expect("whole");
    assert_eq!(found.lines, 1020);
    assert!(keeper.store.history().oldest() >= oldest);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_history_survives_power_cuts(
        blocks in 16..24_usize,
        steps in prop::collection::vec((prop::collection::vec((0..12_u8, 0..900_usize), 0..6), 0..4_u64), 1..12),
    ) {
        let mut tape = Tape::new(blocks);
        for (changes, lines) in steps {
            if let Some(next) = survive(&tape, &changes, lines) {
                tape = next;
            }
        }
    }

    #[test]
    fn no_disk_is_too_strange(seed in prop::collection::vec((0..20_usize, 0..BLOCK_BYTES, any::<u8>()), 0..20)) {
        let tape = used();
        for (block, at, byte) in seed {
            tape.blocks.borrow_mut()[block][at] = byte;
        }
        let _ = open(tape);
    }
}

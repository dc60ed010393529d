//! Reading a virtual disk from one end to the other, and judging each block by its check.

use crate::disks::{Disks, Host, PATIENCE};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;
use crate::store::Outcome;
use abi::disk::DiskReply;
use disk_format::{
    BLOCK_BYTES, Block, CHECKS_PER_BLOCK, Check, Checked, Entry, Kind, check_blocks, place_of_check, zeroed,
};

/// Blocks that are read at the same time.
pub const DEPTH: usize = 16;
/// DMA memory that it needs.
pub const BYTES: usize = DEPTH * BLOCK_BYTES;

/// A block that is being read.
#[derive(Clone, Copy)]
struct Reading {
    block: u64,
    disk: usize,
    tag: u16,
    since: u64,
}

/// One scrub.
pub struct Scrub {
    index: u16,
    entry: Entry,
    /// Where in the DMA memory its buffers lie.
    buffers: usize,
    /// The block that is started next.
    next: u64,
    /// The block of checks that is at hand: its number, and what it holds; `None` where it could not be read.
    row: u64,
    checks: Option<Block>,
    reading: [Option<Reading>; DEPTH],
    empty: u64,
    good: u64,
    bad: u64,
    first_bad: u64,
    /// When the last block ended.
    progress: u64,
    /// A block that seems bad. Somebody may have written it since its check was read, so the store is asked, which knows.
    doubt: Option<u64>,
    /// Further ones.
    doubts: heapless::Vec<u64, DEPTH>,
}

/// The number that stands for the block of checks among those that are read.
const CHECKS: u64 = u64::MAX;

impl Scrub {
    /// A scrub of this entry of the directory, which is a virtual disk; its buffers lie from `buffers` on. `None` when it is none.
    pub fn new(index: u16, sets: &Sets, buffers: usize, now: u64) -> Option<Scrub> {
        let entry = sets.entry(index).filter(|entry| matches!(entry.kind, Kind::Disk { .. }))?;
        Some(Scrub {
            index,
            entry,
            buffers,
            next: 0,
            row: u64::MAX,
            checks: None,
            reading: [None; DEPTH],
            empty: 0,
            good: 0,
            bad: 0,
            first_bad: u64::MAX,
            progress: now,
            doubt: None,
            doubts: heapless::Vec::new(),
        })
    }

    /// Starts what there is room for. The answer, when all is done.
    pub fn step<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) -> Option<DiskReply> {
        let now = disks.host().now();
        if self.is_busy() && now.saturating_sub(self.progress) > PATIENCE.saturating_mul(disks.host().hz()) {
            // Whatever comes later is for nobody.
            for (place, reading) in core::mem::take(&mut self.reading).into_iter().enumerate() {
                let Some(reading) = reading else { continue };
                disks.expire(reading.disk, &[self.buffer(place)]);
                self.ended(reading.block, None);
            }
            self.progress = now;
        }
        while self.start_next(sets, disks) {}
        let done = self.next >= self.entry.blocks && !self.is_busy() && self.doubts.is_empty() && self.doubt.is_none();
        let &mut Scrub { index, empty, good, bad, first_bad, .. } = self;
        done.then_some(DiskReply::Scrubbed { index, empty, good, bad, first_bad })
    }

    /// Whether it reads the virtual disk with this id.
    pub fn reads(&self, id: u32) -> bool {
        self.entry.id == id
    }

    fn buffer(&self, place: usize) -> usize {
        self.buffers + place * BLOCK_BYTES
    }

    fn is_busy(&self) -> bool {
        self.reading.iter().any(Option::is_some)
    }

    /// A block that the store is to be asked for, and its virtual disk; once.
    pub fn doubt(&mut self) -> Option<(Entry, u64)> {
        if self.doubt.is_some() {
            return None;
        }
        self.doubt = self.doubts.pop();
        Some((self.entry, self.doubt?))
    }

    /// The store has no room for the question now.
    pub fn doubt_later(&mut self) {
        self.doubts.extend(self.doubt.take());
    }

    /// What the store says of the block.
    pub fn resolve(&mut self, outcome: Outcome) {
        let Some(block) = self.doubt.take() else { return };
        match outcome {
            Outcome::Data(_) | Outcome::Done => self.good += 1,
            Outcome::Zeros => self.empty += 1,
            Outcome::Corrupt | Outcome::Failed => {
                self.bad += 1;
                self.first_bad = self.first_bad.min(block);
            }
        }
    }

    /// Starts the next block, or counts it. False when there is none now.
    fn start_next<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        // There must be room for the doubts about all that are being read.
        if self.next >= self.entry.blocks || !self.doubts.is_empty() {
            return false;
        }
        let (row, byte) = place_of_check(self.next);
        if row != self.row {
            // All of one block of checks first: then there is one at a time.
            if self.is_busy() || row >= check_blocks(self.entry.blocks) {
                return false;
            }
            return match self.read(CHECKS, self.entry.first + row, sets, disks) {
                Some(started) => {
                    (self.row, self.checks) = if started { (row, None) } else { (self.row, None) };
                    // Its end has to be seen before the blocks are.
                    false
                }
                None => {
                    (self.row, self.checks) = (row, None);
                    true
                }
            };
        }
        if self.reading.iter().flatten().any(|reading| reading.block == CHECKS) {
            return false;
        }
        let Some(checks) = &self.checks else {
            // Nobody knows what is good without its checks.
            self.ended(self.next, None);
            self.next += 1;
            return true;
        };
        let block = self.next;
        let check = Check::in_block(checks, byte);
        // What lies beneath is that one's own affair.
        if check == Check::UNWRITTEN || check == Check::INHERITED && self.entry.beneath.is_some() {
            self.empty += 1;
            self.next += 1;
            return true;
        }
        let Some(at) = self.entry.data(block) else { return false };
        match self.read(block, at, sets, disks) {
            Some(started) => {
                self.next += u64::from(started);
                started
            }
            None => {
                self.ended(block, None);
                self.next += 1;
                true
            }
        }
    }

    /// Starts reading block `at` of the set. Whether there was room; `None` when it cannot be read.
    fn read<C: Controller, H: Host>(
        &mut self,
        block: u64,
        at: u64,
        sets: &Sets,
        disks: &mut Disks<C, H>,
    ) -> Option<bool> {
        let places = self.reading.iter().enumerate().filter(|(_, reading)| reading.is_none());
        let Some(place) = places.map(|(place, _)| place).find(|&place| !disks.is_lost(self.buffer(place))) else {
            // With all of them lost there is nothing to wait for.
            return self.is_busy().then_some(false);
        };
        let piece = sets.stripes()?.pieces(at, 1).next()?;
        let disk = sets.disk_of(piece.member)?;
        let tag = disks.next_tag();
        let started = disks.start(tag, disk, Op::Read, piece.block, &[self.buffer(place)]).ok()?;
        if started {
            self.reading[place] = Some(Reading { block, disk, tag, since: disks.host().now() });
        }
        Some(started)
    }

    /// A request to a disk has ended. Those of others are left alone.
    pub fn take<C: Controller, H: Host>(&mut self, tag: u16, good: bool, disks: &mut Disks<C, H>) {
        let its = |reading: &Option<Reading>| reading.is_some_and(|reading| reading.tag == tag);
        let Some(place) = self.reading.iter().position(its) else { return };
        let Some(reading) = self.reading[place].take() else { return };
        self.progress = disks.host().now();
        disks.ended(reading.disk, reading.since, good);
        let mut data = zeroed();
        let copied = disks.memory().read(self.buffer(place), &mut data);
        self.ended(reading.block, copied.filter(|()| good).map(|()| data));
    }

    /// A block was read, or could not be.
    fn ended(&mut self, block: u64, data: Option<Block>) {
        if block == CHECKS {
            self.checks = data;
            return;
        }
        let check = self.checks.as_ref().map(|checks| Check::in_block(checks, place_of_check(block).1));
        let judged = check.zip(data).map(|(check, data)| check.judge(self.entry.id, block, &data));
        match judged {
            Some(Checked::Good) => self.good += 1,
            Some(Checked::Bad | Checked::Zeros) if self.doubts.push(block).is_ok() => {}
            _ => {
                self.bad += 1;
                self.first_bad = self.first_bad.min(block);
            }
        }
    }
}

const _: () = assert!((DEPTH as u64) < CHECKS_PER_BLOCK);

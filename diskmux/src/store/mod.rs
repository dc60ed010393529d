//! Virtual disks: their blocks are read, written, flushed and discarded, each checked, many at the same time.
//!
//! docs/disk-format.md says what has to be durable before what. Writes go to the disks in *batches*, one at a time, each in steps:
//!
//! 1. *Settle*: what was written before is flushed. From then on the checksum of what a block was last written with is the one that it has for
//!    certain. Flushes that were asked for end here. A batch without any, which changes nothing that the one before has changed, leaves this out: its second flush does it.
//! 2. *First*: the checks of blocks that have one are written, with both checksums; and the data of blocks that were never written. Flush.
//! 3. *Second*: the data of the blocks that have a check; the checks of those that had none, and of those that are discarded.
//!
//! Between two requests to the same block, and between a flush and writes to its disk, the order is that in which they came; else there is none.
//! A request that has not ended may be given again to a successor, over the same disks: it then is as if it had been given once.

mod ahead;
mod batch;
mod data;
mod job;
mod jobs;
mod moves;
mod rows;
mod unsettled;

use crate::disks::{Disks, Host, MAX_DISKS, TAGS};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;
use ahead::{AHEAD, Ahead, Found};
use component::Crc32c;
pub use data::Data;
use disk_format::{BLOCK_BYTES, Check, Checked, Entry, Kind, Sum, check_blocks, place_of_check};
pub use job::{Ask, Outcome, Refused};
use job::{Job, Stage};
use jobs::Jobs;
use moves::{Move, Target};
use rows::{Rows, State};
use unsettled::Unsettled;

/// Requests that there is room for.
pub const JOBS: usize = 16;
/// Blocks of checks that are kept.
pub const ROWS: usize = 8;
/// DMA memory that it needs: a block for each request, one to look at what a block holds that is written, the blocks of checks, and what is read ahead.
pub const BYTES: usize = (JOBS + 1 + ROWS + AHEAD) * BLOCK_BYTES;
/// How often a disk is asked before what it was asked has failed.
const TRIES: u8 = 3;
/// How long a disk may take, in seconds. It is not asked again then: it may still write to what it was given.
const PATIENCE: u64 = 10;
/// Requests to disks at the same time: one for each block of memory, and a flush of each disk.
const MOVES: usize = JOBS + 1 + ROWS + AHEAD + MAX_DISKS;

/// Where the batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    None,
    Settle,
    First,
    Middle,
    Second,
}

/// All requests to virtual disks.
pub struct Store {
    jobs: Jobs,
    /// Bit `i`: memory `i`, of a request or behind those, was given to a disk that never answered, and is not used any more.
    lost: u32,
    rows: Rows<ROWS>,
    /// What is read before anybody asks for it.
    ahead: Ahead,
    moves: heapless::Vec<Move, MOVES>,
    step: Step,
    /// Bit `i`: disk `i` could not be flushed in this step of the batch.
    unflushed: u32,
    /// Bit `i`: disk `i` has perhaps what is not durable. At the start all: what a predecessor has written.
    dirty: u32,
    /// Bit `i`: disk `i` did not answer, and is not asked any more.
    dead: u32,
    /// What the last batch has changed.
    unsettled: Unsettled,
    /// Nobody knows what is durable: the next batch settles. At the start: what a predecessor has written.
    unsure: bool,
    /// A request waits for a place for its block of checks, and unsettled blocks have all.
    pinched: bool,
    buffers: usize,
    last_tag: u16,
    /// Moves that no disk has yet, and those that were tried before.
    waiting: usize,
    retried: usize,
    /// Moves that the batch waits for.
    batched: usize,
    /// When it was last looked for disks that do not answer.
    looked: u64,
    /// Where the processor computes checksums.
    crc: Option<Crc32c>,
}

impl Store {
    /// Its memory lies from `buffers` on in the DMA memory, [`BYTES`] of it. `crc`: what computes checksums, where the processor does.
    pub fn new(buffers: usize, crc: Option<Crc32c>) -> Store {
        Store {
            jobs: Jobs::new(),
            lost: 0,
            rows: Rows::new(buffers + (JOBS + 1) * BLOCK_BYTES),
            ahead: Ahead::new(buffers + (JOBS + 1 + ROWS) * BLOCK_BYTES),
            moves: heapless::Vec::new(),
            step: Step::None,
            unflushed: 0,
            dirty: u32::MAX,
            dead: 0,
            unsettled: Unsettled::new(),
            unsure: true,
            pinched: false,
            buffers,
            last_tag: 0,
            waiting: 0,
            retried: 0,
            batched: 0,
            looked: 0,
            crc,
        }
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.moves.is_empty()
    }

    /// A virtual disk is no more, and nothing is being done with any: others may get its blocks.
    pub fn forget(&mut self, gone: &Entry) {
        self.rows.forget_all(&(gone.first..gone.first + check_blocks(gone.blocks)));
        self.ahead.forget_disk(gone.id);
    }

    /// Whether it takes a request now, or never will again, which it then says to each.
    pub fn has_room(&self) -> bool {
        self.jobs.free(self.lost).is_some() || self.is_lost()
    }

    /// Whether disks that did not answer have all of its memory.
    fn is_lost(&self) -> bool {
        let all = (1 << JOBS) - 1;
        self.lost & all == all
    }

    /// Takes a request to this virtual disk, whose end is told with `token`; `data` is what a write writes.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn ask<C: Controller, H: Host>(
        &mut self,
        (token, entry, ask): (u64, &Entry, Ask),
        data: Option<&impl Data>,
        sets: &Sets,
        disks: &Disks<C, H>,
    ) -> Result<(), Refused> {
        let Kind::Disk { read_only } = entry.kind else { return Err(Refused::Nonsense) };
        let inside = ask.block().is_none_or(|block| block < entry.blocks);
        if !inside || ask.changes() && (read_only || !sets.is_writable()) {
            return Err(Refused::Nonsense);
        }
        let place = self.jobs.free(self.lost).ok_or(if self.is_lost() { Refused::Gone } else { Refused::Full })?;
        let after = match ask {
            Ask::Write(block) => {
                let data = data.ok_or(Refused::Nonsense)?;
                let (memory, at) = (disks.memory(), self.buffer(place));
                data.put(&memory, at).ok_or(Refused::Nonsense)?;
                Check::of_sum(self.sum((entry.id, block), &memory, at).ok_or(Refused::Nonsense)?)
            }
            _ => Check::UNWRITTEN,
        };
        match ask {
            Ask::Read(block) => self.ahead.hear(entry, block),
            Ask::Write(block) | Ask::Discard(block) => self.ahead.forget(entry.id, block),
            Ask::Flush => {}
        }
        self.jobs.insert(place, Job { token, entry: *entry, ask, stage: Stage::Waits, after, seen: None, check: None });
        Ok(())
    }

    /// Does what can be done now, and tells of what has ended: token, and how. True when there is more to do at once, and it stops so that others
    /// come to their turn.
    pub fn step<C: Controller, H: Host>(
        &mut self,
        sets: &Sets,
        disks: &mut Disks<C, H>,
        mut tell: impl FnMut(u64, Outcome),
    ) -> bool {
        self.give_up(disks);
        // What one change makes possible another one may need.
        for _ in 0..JOBS {
            let mut changed = self.begin(sets, disks);
            changed |= self.advance(sets, disks);
            if self.jobs.any_ended() {
                for place in self.jobs.ended() {
                    let Some(&Job { token, stage: Stage::Ended(outcome), .. }) = self.jobs.get(place) else { continue };
                    self.jobs.remove(place);
                    tell(token, outcome);
                }
                changed = true;
            }
            // Behind what was told: that has lain where others may come to lie now.
            self.read_ahead(sets, disks);
            changed |= self.start(disks);
            if !changed || self.waits_for_disks() {
                return false;
            }
        }
        true
    }

    /// Whether nothing goes on before a disk has done something, so that another round would change nothing.
    fn waits_for_disks(&self) -> bool {
        !self.jobs.any_waits() && !self.jobs.any_ended() && !self.ahead.is_wanted() && !self.can_advance()
    }

    /// Where memory `place` lies.
    fn buffer(&self, place: usize) -> usize {
        self.buffers + place * BLOCK_BYTES
    }

    fn end(&mut self, place: usize, outcome: Outcome) {
        self.jobs.set(place, Stage::Ended(outcome));
    }

    /// Takes requests that wait as far as they can go. Whether any has gone on.
    fn begin<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        let (mut changed, mut from) = (false, 0);
        while self.jobs.any_waits()
            && let Some((number, place)) = self.jobs.next_waiting(from)
        {
            // Its block of checks is mostly at hand: then it goes on at once.
            while self.jobs.waits(place) && self.go_on(place, sets, disks) {
                changed = true;
            }
            from = number + 1;
        }
        changed
    }

    /// A request for which no other one stands in the way goes on. Whether it could.
    fn go_on<C: Controller, H: Host>(&mut self, place: usize, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        let Some(job) = self.jobs.get(place) else { return false };
        let Some(block) = job.ask.block() else {
            self.jobs.set(place, Stage::Ready);
            return true;
        };
        let (entry, ask, check) = (job.entry, job.ask, job.check);
        let Some((row, byte)) = check else { return self.find_row(place, &entry, block, sets) };
        let check = match self.rows.state(row) {
            State::Read => self.check(row, byte, disks),
            State::Lost => {
                self.end(place, Outcome::Failed);
                return true;
            }
            State::Stale => return self.find_row(place, &entry, block, sets),
            State::Free | State::Coming => return false,
        };
        match ask {
            Ask::Read(_) if check == Check::UNWRITTEN => self.end(place, Outcome::Zeros),
            Ask::Read(_) if check == Check::INHERITED => match sets.beneath(&entry) {
                Some(beneath) => {
                    // That one is never written, so whoever writes the block after this request does not change what it reads.
                    self.jobs.sink(place, beneath);
                    return self.find_row(place, &beneath, block, sets);
                }
                None => self.end(place, Outcome::Corrupt),
            },
            Ask::Read(_) => match self.ahead.find(entry.id, block) {
                Some(Found::Coming) => return false,
                Some(Found::Here(at)) => self.take_ahead(place, at, check, disks),
                None => {
                    self.jobs.set(place, Stage::Reads);
                    self.push(Target::Job(place), Op::Read, entry.data(block), self.buffer(place), sets);
                }
            },
            Ask::Write(_) if !check.is_certain() => {
                if self.lost >> JOBS & 1 != 0 {
                    self.end(place, Outcome::Failed);
                    return true;
                }
                // One at a time: there is one block of memory for it.
                if self.moves.iter().any(|one| matches!(one.target, Target::Look(_))) {
                    return false;
                }
                self.jobs.set(place, Stage::Looks);
                self.push(Target::Look(place), Op::Read, entry.data(block), self.buffer(JOBS), sets);
            }
            _ => self.jobs.set(place, Stage::Ready),
        }
        true
    }

    /// The block of a read was read ahead, and lies in this place: if it is good, the request has ended; else it is read again.
    fn take_ahead<C: Controller, H: Host>(&mut self, place: usize, at: usize, check: Check, disks: &Disks<C, H>) {
        let buffer = self.ahead.buffer(at);
        self.ahead.release(at);
        let of = self.jobs.get(place).map(|job| (job.entry.id, job.block()));
        let sum = of.and_then(|of| self.sum(of, &disks.memory(), buffer));
        if sum.is_some_and(|sum| matches!(check.judge_sum(sum), Checked::Good)) {
            self.end(place, Outcome::Data(buffer));
        }
    }

    /// Reads ahead for who reads in a row. What was never written is left out, and what is being written.
    fn read_ahead<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &Disks<C, H>) {
        while let Some((reader, entry, blocks)) = self.ahead.wanted() {
            let mut end = blocks.start;
            for block in blocks {
                let (number, byte) = place_of_check(block);
                // Whoever reads on has it read.
                let Some(row) = self.rows.at_hand(entry.first + number) else { break };
                let is_there = self.check(row, byte, disks).has_sums();
                let is_known = self.ahead.find(entry.id, block).is_some() || self.jobs.change(entry.id, block);
                if is_there && !is_known {
                    let Some(place) = self.ahead.take(entry.id, block) else { break };
                    self.push(Target::Ahead(place), Op::Read, entry.data(block), self.ahead.buffer(place), sets);
                }
                end = block + 1;
            }
            self.ahead.went(reader, end);
        }
    }

    /// The check of a block, as whoever reads or writes it now has to take it.
    fn check<C: Controller, H: Host>(&self, row: usize, byte: usize, disks: &Disks<C, H>) -> Check {
        self.unsettled.check((row, byte)).unwrap_or_else(|| self.rows.check(row, byte, disks.memory()))
    }

    /// Finds the block of checks of a request, or begins to read it. Whether there is one.
    fn find_row(&mut self, place: usize, entry: &Entry, block: u64, sets: &Sets) -> bool {
        let (number, byte) = place_of_check(block);
        let at = entry.first + number;
        let used = |row: usize| {
            self.unsettled.uses(row) || self.jobs.all().any(|job| job.check.is_some_and(|(own, _)| own == row))
        };
        let Some((row, is_new)) = self.rows.find(at, used) else {
            if self.rows.are_gone() {
                self.end(place, Outcome::Failed);
                return true;
            }
            self.pinched = !self.unsettled.is_empty();
            return false;
        };
        self.jobs.set_check(place, (row, byte));
        if is_new {
            self.push(Target::Row(row), Op::Read, Some(at), self.rows.buffer(row), sets);
        }
        true
    }

    /// What the block of a write holds is known. Its check is made certain in the batch, when that is durable: before, the block's row must not say so, since it may go to a disk for other
    /// blocks. Where it holds neither, it is written all the same. Where nobody can read it, it is not: it may hold either, so that none of the two checksums can be given up. Who
    /// discards it first may write it.
    fn looked(&mut self, place: usize, sum: Option<Sum>) {
        let Some(sum) = sum else { return self.end(place, Outcome::Failed) };
        self.jobs.set_seen(place, sum);
        self.jobs.set(place, Stage::Ready);
    }
}

const _: () = {
    assert!(JOBS < 32 && ROWS <= 32 && MAX_DISKS <= 32);
    assert!(TAGS <= 1 << 14);
};

#[cfg(test)]
mod tests;

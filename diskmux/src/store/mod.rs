//! Virtual disks: their blocks are read, written, flushed and discarded, each checked, many at the same time.
//!
//! docs/disk-format.md says what has to be durable before what. Writes go to the disks in *batches*, one at a time, each in steps:
//!
//! 1. *Settle*: what was written before is flushed. From then on the checksum of what a block was last written with is the one that it has for
//!    certain. Flushes that were asked for end here.
//! 2. *First*: the checks of blocks that have one are written, with both checksums; and the data of blocks that were never written. Flush.
//! 3. *Second*: the data of the blocks that have a check; the checks of those that had none, and of those that are discarded.
//!
//! Between two requests to the same block, and between a flush and writes to its disk, the order is that in which they came; else there is none.
//! A request that has not ended may be given again to a successor, over the same disks: it then is as if it had been given once.

mod batch;
mod job;
mod moves;
mod rows;

use crate::disks::{Disks, Host, MAX_DISKS, TAGS};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;
use disk_format::{BLOCK_BYTES, Block, Check, Entry, Kind, place_of_check};
pub use job::{Ask, Outcome, Refused};
use job::{Job, Stage};
use moves::{Move, Target};
use rows::{Rows, State};

/// Requests that there is room for.
pub const JOBS: usize = 16;
/// Blocks of checks that are kept.
pub const ROWS: usize = 8;
/// DMA memory that it needs: a block for each request, one to look at what a block holds that is written, and the blocks of checks.
pub const BYTES: usize = (JOBS + 1 + ROWS) * BLOCK_BYTES;
/// How often a disk is asked before what it was asked has failed.
const TRIES: u8 = 3;
/// How long a disk may take, in seconds. It is not asked again then: it may still write to what it was given.
const PATIENCE: u64 = 10;
/// Requests to disks at the same time: one for each block of memory, and a flush of each disk.
const MOVES: usize = JOBS + 1 + ROWS + MAX_DISKS;

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
    jobs: [Option<Job>; JOBS],
    /// Bit `i`: memory `i`, of a request or behind those, was given to a disk that never answered, and is not used any more.
    lost: u32,
    rows: Rows<ROWS>,
    moves: heapless::Vec<Move, MOVES>,
    step: Step,
    /// Bit `i`: disk `i` could not be flushed in this step of the batch.
    unflushed: u32,
    /// Bit `i`: disk `i` has perhaps what is not durable. At the start all: what a predecessor has written.
    dirty: u32,
    /// Bit `i`: disk `i` did not answer, and is not asked any more.
    dead: u32,
    /// Requests that were taken.
    order: u64,
    buffers: usize,
    last_tag: u16,
}

impl Store {
    /// Its memory lies from `buffers` on in the DMA memory, [`BYTES`] of it.
    pub fn new(buffers: usize) -> Store {
        Store {
            jobs: [const { None }; JOBS],
            lost: 0,
            rows: Rows::new(buffers + (JOBS + 1) * BLOCK_BYTES),
            moves: heapless::Vec::new(),
            step: Step::None,
            unflushed: 0,
            dirty: u32::MAX,
            dead: 0,
            order: 0,
            buffers,
            last_tag: 0,
        }
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.jobs.iter().all(Option::is_none)
    }

    /// Whether it takes a request now, or never will again, which it then says to each.
    pub fn has_room(&self) -> bool {
        let all = (1 << JOBS) - 1;
        (0..JOBS).any(|place| self.jobs[place].is_none() && self.lost >> place & 1 == 0) || self.lost & all == all
    }

    /// Takes a request to this virtual disk, whose end is told with `token`; `data` is what a write writes.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn ask<C: Controller, H: Host>(
        &mut self,
        (token, entry, ask): (u64, Entry, Ask),
        data: Option<&Block>,
        sets: &Sets,
        disks: &Disks<C, H>,
    ) -> Result<(), Refused> {
        let Kind::Disk { read_only } = entry.kind else { return Err(Refused::Nonsense) };
        let inside = ask.block().is_none_or(|block| block < entry.blocks);
        if !inside || ask.changes() && (read_only || !sets.is_writable()) {
            return Err(Refused::Nonsense);
        }
        let free = |place: &usize| self.jobs[*place].is_none() && self.lost >> place & 1 == 0;
        let all = (1 << JOBS) - 1;
        let place = (0..JOBS).find(free).ok_or(if self.lost & all == all { Refused::Gone } else { Refused::Full })?;
        let after = match ask {
            Ask::Write(block) => {
                let data = data.ok_or(Refused::Nonsense)?;
                disks.memory().write(self.buffer(place), data).ok_or(Refused::Nonsense)?;
                Check::of(entry.id, block, data)
            }
            _ => Check::UNWRITTEN,
        };
        self.order += 1;
        self.jobs[place] = Some(Job { token, entry, ask, order: self.order, stage: Stage::Waits, after, check: None });
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
            for place in 0..JOBS {
                let Some(Job { token, stage: Stage::Ended(outcome), .. }) = self.jobs[place] else { continue };
                self.jobs[place] = None;
                tell(token, outcome);
                changed = true;
            }
            changed |= self.start(disks);
            if !changed {
                return false;
            }
        }
        true
    }

    /// Where memory `place` lies.
    fn buffer(&self, place: usize) -> usize {
        self.buffers + place * BLOCK_BYTES
    }

    fn end(&mut self, place: usize, outcome: Outcome) {
        if let Some(job) = &mut self.jobs[place] {
            job.stage = Stage::Ended(outcome);
        }
    }

    /// Requests by when they came: their places.
    fn in_order(&self) -> heapless::Vec<usize, JOBS> {
        let mut places: heapless::Vec<usize, JOBS> = (0..JOBS).filter(|&place| self.jobs[place].is_some()).collect();
        places.sort_unstable_by_key(|&place| self.jobs[place].as_ref().map_or(0, |job| job.order));
        places
    }

    /// Takes requests that wait as far as they can go. Whether any has gone on.
    fn begin<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        let mut changed = false;
        let places = self.in_order();
        for (index, &place) in places.iter().enumerate() {
            let Some(job) = self.jobs[place].as_ref().filter(|job| job.stage == Stage::Waits) else { continue };
            let earlier = places[..index].iter().filter_map(|&other| self.jobs[other].as_ref());
            if earlier.into_iter().any(|other| job.waits_for(other)) {
                continue;
            }
            changed |= self.go_on(place, sets, disks);
        }
        changed
    }

    /// A request for which no other one stands in the way goes on. Whether it could.
    fn go_on<C: Controller, H: Host>(&mut self, place: usize, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        let Some(job) = &self.jobs[place] else { return false };
        let Some(block) = job.ask.block() else {
            self.set(place, Stage::Ready);
            return true;
        };
        let (entry, ask, check) = (job.entry, job.ask, job.check);
        let Some((row, byte)) = check else { return self.find_row(place, &entry, block, sets) };
        let check = match self.rows.state(row) {
            State::Read => self.rows.check(row, byte, disks.memory()),
            State::Lost => {
                self.end(place, Outcome::Failed);
                return true;
            }
            State::Stale => return self.find_row(place, &entry, block, sets),
            State::Free | State::Coming => return false,
        };
        match ask {
            Ask::Read(_) if check == Check::UNWRITTEN => self.end(place, Outcome::Zeros),
            Ask::Read(_) => {
                self.set(place, Stage::Reads);
                self.push(Target::Job(place), Op::Read, entry.data(block), self.buffer(place), sets);
            }
            Ask::Write(_) if !check.is_certain() => {
                if self.lost >> JOBS & 1 != 0 {
                    self.end(place, Outcome::Failed);
                    return true;
                }
                // One at a time: there is one block of memory for it.
                if self.moves.iter().any(|one| matches!(one.target, Target::Look(_))) {
                    return false;
                }
                self.set(place, Stage::Looks);
                self.push(Target::Look(place), Op::Read, entry.data(block), self.buffer(JOBS), sets);
            }
            _ => self.set(place, Stage::Ready),
        }
        true
    }

    /// Finds the block of checks of a request, or begins to read it. Whether there is one.
    fn find_row(&mut self, place: usize, entry: &Entry, block: u64, sets: &Sets) -> bool {
        let (number, byte) = place_of_check(block);
        let at = entry.first + number;
        let used = |row: usize| self.jobs.iter().flatten().any(|job| job.check.is_some_and(|(own, _)| own == row));
        if self.rows.are_gone() {
            self.end(place, Outcome::Failed);
            return true;
        }
        let Some((row, is_new)) = self.rows.find(at, used) else { return false };
        if let Some(job) = &mut self.jobs[place] {
            job.check = Some((row, byte));
        }
        if is_new {
            self.push(Target::Row(row), Op::Read, Some(at), self.rows.buffer(row), sets);
        }
        true
    }

    fn set(&mut self, place: usize, stage: Stage) {
        if let Some(job) = &mut self.jobs[place] {
            job.stage = stage;
        }
    }

    /// What the block of a write holds is known: its check is made certain. Where it holds neither, it is written all the same. Where nobody can read
    /// it, it is not: it may hold either, so that none of the two checksums can be given up. Who discards it first may write it.
    fn looked<C: Controller, H: Host>(&mut self, place: usize, data: Option<&Block>, disks: &mut Disks<C, H>) {
        let Some(job) = &self.jobs[place] else { return };
        let (Some(data), Some((row, byte))) = (data, job.check) else { return self.end(place, Outcome::Failed) };
        let check = self.rows.check(row, byte, disks.memory());
        if let Some(certain) = check.certain(job.entry.id, job.block(), data) {
            self.rows.set(row, byte, certain, disks.memory());
        }
        self.set(place, Stage::Ready);
    }
}

const _: () = {
    assert!(JOBS < 32 && ROWS <= 32 && MAX_DISKS <= 32);
    assert!(TAGS <= 1 << 14);
};

#[cfg(test)]
mod tests;

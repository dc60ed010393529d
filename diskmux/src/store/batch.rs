//! The batch: writes that go to the disks together, in an order of which every part can be the last one.

use super::job::{Ask, Job, Outcome, Stage};
use super::moves::{Target, bit};
use super::unsettled::Changed;
use super::{JOBS, ROWS, Step, Store};
use crate::disks::{Disks, Host, MAX_DISKS};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;

/// The disks on which so many blocks of the set lie.
fn disks_of(first: u64, blocks: u64, sets: &Sets) -> u32 {
    let members = usize::from(sets.members());
    let pieces = sets.stripes().into_iter().flat_map(|stripes| stripes.pieces(first, blocks));
    // They go round: one for each member, and the first one's other part.
    pieces.take(members + 1).filter_map(|piece| sets.disk_of(piece.member)).fold(0, |all, disk| all | bit(disk))
}

/// The disk on which a block of the set lies; what is none where there is no such block.
fn disk_of(at: u64, sets: &Sets) -> usize {
    let place = sets.stripes().and_then(|stripes| stripes.place(at));
    place.and_then(|(member, _)| sets.disk_of(member)).unwrap_or(MAX_DISKS)
}

impl Store {
    /// Whether there is something for a batch to do that need not wait for disks.
    pub(super) fn can_advance(&self) -> bool {
        self.batched == 0 && (self.step != Step::None || self.jobs.any_ready() || self.pinched)
    }

    /// Takes the batch as far as it goes. Whether it has gone on.
    pub(super) fn advance<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        if !self.can_advance() {
            return false;
        }
        match self.step {
            Step::None => {
                let settles = self.has_to_settle();
                for place in self.jobs.ready() {
                    self.jobs.set(place, Stage::Batched { fresh: false, failed: false });
                }
                if settles {
                    self.step = Step::Settle;
                    self.flush(sets);
                } else {
                    self.unflushed = 0;
                    self.first(sets, disks);
                }
            }
            Step::Settle => {
                self.pinched = false;
                self.unsure = self.unflushed != 0;
                self.unsettled.settle(self.unflushed, &mut self.rows, disks.memory());
                self.first(sets, disks);
            }
            Step::First => {
                self.step = Step::Middle;
                self.flush(sets);
            }
            Step::Middle => {
                self.unsure |= !self.unsettled.settle(self.unflushed, &mut self.rows, disks.memory());
                self.second(sets, disks);
            }
            Step::Second => self.close(sets),
        }
        true
    }

    /// Flushes what is not durable.
    fn flush(&mut self, sets: &Sets) {
        self.unflushed = 0;
        for member in 0..sets.members() {
            let Some(disk) = sets.disk_of(member).filter(|disk| self.dirty >> disk & 1 != 0) else { continue };
            self.add(Target::Flush, Op::Flush, (disk, 0), 0);
        }
    }

    /// Places of the requests of the batch that have not failed.
    fn batch(&self) -> impl Iterator<Item = usize> + use<> {
        let in_it = |job: &Job| matches!(job.stage, Stage::Batched { failed: false, .. });
        let places = self.jobs.batched().filter(|&place| self.jobs.get(place).is_some_and(in_it));
        places.collect::<heapless::Vec<usize, JOBS>>().into_iter()
    }

    /// Requests of the batch that need a disk which could not be flushed have failed; the others go on.
    fn fail_unflushed(&mut self, sets: &Sets) {
        if self.unflushed == 0 {
            return;
        }
        for place in self.batch() {
            let Some(job) = self.jobs.get(place) else { continue };
            let row = job.check.map(|(row, _)| self.rows.at(row));
            let needs = match job.ask.block() {
                Some(block) => {
                    [job.entry.data(block), row].into_iter().flatten().fold(0, |all, at| all | disks_of(at, 1, sets))
                }
                None => disks_of(job.entry.first, job.entry.extent(), sets),
            };
            if needs & self.unflushed != 0
                && let Stage::Batched { fresh, .. } = job.stage
            {
                self.jobs.set(place, Stage::Batched { fresh, failed: true });
            }
        }
    }

    /// Whether what was written before has to be durable before the batch that begins now writes anything: it was asked for, or the batch writes what the one before has changed.
    fn has_to_settle(&self) -> bool {
        let has_to = |place| {
            let Some(job) = self.jobs.get(place) else { return false };
            let is_unsettled = || job.check.is_some_and(|check| self.unsettled.check(check).is_some());
            job.ask == Ask::Flush || matches!(job.ask, Ask::Write(_)) && is_unsettled()
        };
        self.unsure || self.pinched || self.jobs.ready().any(has_to)
    }

    /// What has to be durable before is: flushes end, and the first writes begin.
    fn first<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) {
        self.fail_unflushed(sets);
        let mut rows = 0_u32;
        for place in self.batch() {
            let Some(&Job { ask, entry, after, seen, check, .. }) = self.jobs.get(place) else { continue };
            let (Some(block), Some((row, byte))) = (ask.block(), check) else {
                self.end(place, Outcome::Done);
                continue;
            };
            let before = self.rows.check(row, byte, disks.memory());
            // What was seen there is durable now: its disk was flushed, or has had nothing since it was.
            let before = seen.and_then(|sum| before.certain_by(sum)).unwrap_or(before);
            if matches!(ask, Ask::Discard(_)) {
                continue;
            }
            match before.then(after) {
                Some(both) => {
                    self.rows.set(row, byte, both, disks.memory());
                    rows |= 1 << row;
                }
                None => {
                    self.jobs.set(place, Stage::Batched { fresh: true, failed: false });
                    self.push(Target::Job(place), Op::Write, entry.data(block), self.buffer(place), sets);
                }
            }
        }
        self.write_rows(rows, sets);
        self.step = Step::First;
    }

    fn write_rows(&mut self, rows: u32, sets: &Sets) {
        for row in (0..ROWS).filter(|row| rows >> row & 1 != 0) {
            self.push(Target::Row(row), Op::Write, Some(self.rows.at(row)), self.rows.buffer(row), sets);
        }
    }

    /// What had to be durable first is: the others are written.
    fn second<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) {
        self.fail_unflushed(sets);
        let mut rows = 0_u32;
        for place in self.batch() {
            let Some(&Job { ask, entry, after, check: Some((row, byte)), stage: Stage::Batched { fresh, .. }, .. }) =
                self.jobs.get(place)
            else {
                continue;
            };
            if fresh || matches!(ask, Ask::Discard(_)) {
                self.rows.set(row, byte, after, disks.memory());
                rows |= 1 << row;
            } else {
                let at = ask.block().and_then(|block| entry.data(block));
                self.push(Target::Job(place), Op::Write, at, self.buffer(place), sets);
            }
        }
        self.write_rows(rows, sets);
        self.step = Step::Second;
    }

    /// All was written. After the next flush it is durable, so that checks may count on it.
    fn close(&mut self, sets: &Sets) {
        for place in self.jobs.batched() {
            let Some(&Job { ask, entry, after, check, stage: Stage::Batched { fresh, failed }, .. }) =
                self.jobs.get(place)
            else {
                continue;
            };
            self.end(place, if failed { Outcome::Failed } else { Outcome::Done });
            self.unsure |= failed;
            // The check of a fresh one came behind its data.
            if let Some((row, byte)) = check.filter(|_| !failed && !fresh) {
                let written = if matches!(ask, Ask::Write(_)) {
                    entry.data(ask.block().unwrap_or(0))
                } else {
                    Some(self.rows.at(row))
                };
                let disk = written.map_or(MAX_DISKS, |at| disk_of(at, sets));
                self.unsettled.push(Changed { row, byte, after, disk });
            }
        }
        self.step = Step::None;
    }
}

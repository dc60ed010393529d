//! The batch: writes that go to the disks together, in an order of which every part can be the last one.

use super::job::{Ask, Job, Outcome, Stage};
use super::moves::{Move, Target, bit};
use super::{JOBS, ROWS, Step, Store};
use crate::disks::{Disks, Host};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;

/// The disks on which so many blocks of the set lie.
fn disks_of(first: u64, blocks: u64, sets: &Sets) -> u32 {
    let members = usize::from(sets.members());
    let pieces = sets.stripes().into_iter().flat_map(|stripes| stripes.pieces(first, blocks));
    // They go round: one for each member, and the first one's other part.
    pieces.take(members + 1).filter_map(|piece| sets.disk_of(piece.member)).fold(0, |all, disk| all | bit(disk))
}

impl Store {
    /// Takes the batch as far as it goes. Whether it has gone on.
    pub(super) fn advance<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        let is_its = |one: &Move| match one.target {
            Target::Flush => true,
            Target::Job(_) | Target::Row(_) => one.op == Op::Write,
            Target::Look(_) => false,
        };
        if self.moves.iter().any(is_its) {
            return false;
        }
        match self.step {
            Step::None => {
                let ready = |job: &&mut Job| job.stage == Stage::Ready;
                let mut any = false;
                for job in self.jobs.iter_mut().flatten().filter(ready) {
                    job.stage = Stage::Batched { fresh: false, failed: false };
                    any = true;
                }
                if !any {
                    return false;
                }
                self.step = Step::Settle;
                self.flush(sets);
            }
            Step::Settle => self.settled(sets, disks),
            Step::First => {
                self.step = Step::Middle;
                self.flush(sets);
            }
            Step::Middle => self.second(sets, disks),
            Step::Second => self.close(disks),
        }
        true
    }

    /// Flushes what is not durable.
    fn flush(&mut self, sets: &Sets) {
        self.unflushed = 0;
        for member in 0..sets.members() {
            let Some(disk) = sets.disk_of(member).filter(|disk| self.dirty >> disk & 1 != 0) else { continue };
            let (target, op) = (Target::Flush, Op::Flush);
            let _ = self.moves.push(Move { target, op, disk, block: 0, buffer: 0, tag: None, since: 0, tries: 0 });
        }
    }

    /// Places of the requests of the batch that have not failed.
    fn batch(&self) -> impl Iterator<Item = usize> + use<> {
        let in_it = |job: &Job| matches!(job.stage, Stage::Batched { failed: false, .. });
        let mut places = 0_u32;
        for (place, job) in self.jobs.iter().enumerate() {
            places |= u32::from(job.as_ref().is_some_and(in_it)) << place;
        }
        (0..JOBS).filter(move |place| places >> place & 1 != 0)
    }

    /// Requests of the batch that need a disk which could not be flushed have failed; the others go on.
    fn fail_unflushed(&mut self, sets: &Sets) {
        if self.unflushed == 0 {
            return;
        }
        for place in self.batch() {
            let Some(job) = &self.jobs[place] else { continue };
            let row = job.check.map(|(row, _)| self.rows.at(row));
            let needs = match job.ask.block() {
                Some(block) => {
                    [job.entry.data(block), row].into_iter().flatten().fold(0, |all, at| all | disks_of(at, 1, sets))
                }
                None => disks_of(job.entry.first, job.entry.extent(), sets),
            };
            if needs & self.unflushed != 0
                && let Some(Job { stage: Stage::Batched { failed, .. }, .. }) = &mut self.jobs[place]
            {
                *failed = true;
            }
        }
    }

    /// All requests of the batch end in this way.
    fn end_batch(&mut self, outcome: Outcome) {
        for job in self.jobs.iter_mut().flatten() {
            if matches!(job.stage, Stage::Batched { .. }) {
                job.stage = Stage::Ended(outcome);
            }
        }
        self.step = Step::None;
    }

    /// What was written before is durable: flushes end, and the first writes begin.
    fn settled<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &mut Disks<C, H>) {
        self.fail_unflushed(sets);
        let mut rows = 0_u32;
        for place in self.batch() {
            let Some(Job { ask, entry, after, check, .. }) = self.jobs[place] else { continue };
            let (Some(block), Some((row, byte))) = (ask.block(), check) else {
                self.end(place, Outcome::Done);
                continue;
            };
            let before = self.rows.check(row, byte, disks.memory());
            if matches!(ask, Ask::Discard(_)) {
                continue;
            }
            match before.then(after) {
                Some(both) => {
                    self.rows.set(row, byte, both, disks.memory());
                    rows |= 1 << row;
                }
                None => {
                    self.set(place, Stage::Batched { fresh: true, failed: false });
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
            let Some(Job { ask, entry, after, check: Some((row, byte)), stage: Stage::Batched { fresh, .. }, .. }) =
                self.jobs[place]
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

    /// All was written. From the next batch's first step on it is durable, so that from now on checks may count on it.
    fn close<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) {
        for place in self.batch() {
            if let Some(Job { after, check: Some((row, byte)), .. }) = self.jobs[place] {
                self.rows.set(row, byte, after, disks.memory());
            }
            self.end(place, Outcome::Done);
        }
        self.end_batch(Outcome::Failed);
    }
}

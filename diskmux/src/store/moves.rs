//! Requests to disks: given to them, tried again, given up, and what follows from their end.

use super::job::{Ask, Job, Outcome, Stage};
use super::{JOBS, PATIENCE, Step, Store, TRIES};
use crate::disks::{Disks, Host, MAX_DISKS, TAGS};
use crate::drivers::{Controller, Op};
use crate::sets::Sets;
use disk_format::{Checked, zeroed};

/// What a request to a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The block of a request, by its place.
    Job(usize),
    /// What the block of a write holds.
    Look(usize),
    /// A block of checks.
    Row(usize),
    /// All that a disk was given.
    Flush,
}

/// A request to a disk.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub target: Target,
    pub op: Op,
    pub disk: usize,
    pub block: u64,
    pub buffer: usize,
    /// Once the disk has it: its tag, and when that was.
    pub tag: Option<u16>,
    pub since: u64,
    pub tries: u8,
}

/// The bit of a disk.
pub(super) const fn bit(disk: usize) -> u32 {
    // What is no disk has a bit of its own.
    1 << if disk < MAX_DISKS { disk } else { MAX_DISKS }
}

impl Store {
    /// A request to a disk has ended. False when it is not one of these.
    pub fn ended<C: Controller, H: Host>(&mut self, tag: u16, good: bool, disks: &mut Disks<C, H>) -> bool {
        if !(TAGS..2 * TAGS).contains(&tag) {
            return false;
        }
        let Some(at) = self.moves.iter().position(|one| one.tag == Some(tag)) else { return true };
        let one = &mut self.moves[at];
        if !good {
            disks.failed(one.disk);
            one.tries += 1;
            if one.tries < TRIES {
                one.tag = None;
                return true;
            }
        }
        let one = self.moves.swap_remove(at);
        self.moved(&one, good, disks);
        true
    }

    /// A request about block `at` of the set, for its disk.
    pub(super) fn push(&mut self, target: Target, op: Op, at: Option<u64>, buffer: usize, sets: &Sets) {
        let found = at.and_then(|at| sets.stripes()?.pieces(at, 1).next());
        let found = found.and_then(|piece| Some((sets.disk_of(piece.member)?, piece.block)));
        // Without a place it fails when it is started: there is no such disk.
        let (disk, block) = found.unwrap_or((MAX_DISKS, 0));
        let _ = self.moves.push(Move { target, op, disk, block, buffer, tag: None, since: 0, tries: 0 });
    }

    /// Whether a request has to wait for others of its disk: one that is tried again goes alone. A disk may do neighbours together, and fail all of
    /// them for what is wrong with one.
    fn waits(&self, one: &Move) -> bool {
        let mut others = self.moves.iter().filter(|other| other.disk == one.disk);
        if one.tries > 0 { others.any(|other| other.tag.is_some()) } else { others.any(|other| other.tries > 0) }
    }

    /// Gives requests to disks. Whether any has failed at once.
    pub(super) fn start<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) -> bool {
        let (mut full, mut changed, mut at) = (0_u32, false, 0);
        let now = disks.host().now();
        while let Some(&one) = self.moves.get(at) {
            let bit = bit(one.disk);
            let is_dead = self.dead & bit != 0;
            if one.tag.is_some() || full & bit != 0 || !is_dead && self.waits(&one) {
                at += 1;
                continue;
            }
            self.last_tag = (self.last_tag + 1) % TAGS;
            let tag = TAGS + self.last_tag;
            let started = if is_dead { None } else { disks.start(tag, one.disk, one.op, one.block, one.buffer).ok() };
            match started {
                Some(true) => {
                    (self.moves[at].tag, self.moves[at].since) = (Some(tag), now);
                    self.dirty |= if one.op == Op::Write { bit } else { 0 };
                    at += 1;
                }
                Some(false) => {
                    full |= bit;
                    at += 1;
                }
                None => {
                    let one = self.moves.remove(at);
                    self.moved(&one, false, disks);
                    changed = true;
                }
            }
        }
        changed
    }

    /// Disks that have not answered for too long are not asked any more, and what they were asked has failed.
    pub(super) fn give_up<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) {
        let (now, patience) = (disks.host().now(), PATIENCE.saturating_mul(disks.host().hz()));
        let is_late = |one: &Move| one.tag.is_some() && now.saturating_sub(one.since) > patience;
        while let Some(at) = self.moves.iter().position(is_late) {
            let one = self.moves.swap_remove(at);
            disks.failed(one.disk);
            self.dead |= bit(one.disk);
            match one.target {
                Target::Job(place) => self.lost |= 1 << place,
                Target::Look(_) => self.lost |= 1 << JOBS,
                Target::Row(row) => self.rows.lose(row),
                Target::Flush => {}
            }
            self.moved(&one, false, disks);
        }
    }

    /// A request to a disk has ended for good. (Its blocks are not to lie on the stack of whoever does the next step.)
    #[inline(never)]
    fn moved<C: Controller, H: Host>(&mut self, one: &Move, good: bool, disks: &mut Disks<C, H>) {
        match one.target {
            Target::Flush if good => self.dirty &= !bit(one.disk),
            Target::Flush => self.unflushed |= bit(one.disk),
            Target::Row(row) if one.op == Op::Read => self.rows.came(row, good),
            Target::Row(row) if !good => {
                // Nobody knows whether the disk has what has just been noted there: it is read again.
                if self.step == Step::Second {
                    self.rows.forget(row);
                }
                let of_row = |job: &&mut Job| job.check.is_some_and(|(own, _)| own == row);
                let step = self.step;
                for job in self.jobs.iter_mut().flatten().filter(of_row) {
                    let is_discard = matches!(job.ask, Ask::Discard(_));
                    if let Stage::Batched { fresh, failed } = &mut job.stage {
                        // The row was written for these only.
                        let is_first = !*fresh && !is_discard;
                        *failed |= is_first == (step == Step::First);
                    }
                }
            }
            Target::Row(_) => {}
            Target::Look(place) => {
                let mut data = zeroed();
                let read = disks.memory().read(one.buffer, &mut data).filter(|()| good);
                self.looked(place, read.map(|()| data).as_ref(), disks);
            }
            Target::Job(place) => self.job_moved(place, one, good, disks),
        }
    }

    /// The block of a request was read or written, or could not be.
    #[inline(never)]
    fn job_moved<C: Controller, H: Host>(&mut self, place: usize, one: &Move, good: bool, disks: &mut Disks<C, H>) {
        let Some(job) = &mut self.jobs[place] else { return };
        if let Stage::Batched { failed, .. } = &mut job.stage {
            *failed |= !good;
            return;
        }
        let mut data = zeroed();
        let read = disks.memory().read(one.buffer, &mut data).filter(|()| good);
        let check = job.check.map(|(row, byte)| self.rows.check(row, byte, disks.memory()));
        let (id, block) = (job.entry.id, job.block());
        let outcome = match (read, check.map(|check| check.judge(id, block, &data))) {
            (Some(()), Some(Checked::Good)) => Outcome::Data(one.buffer),
            (Some(()), Some(Checked::Zeros)) => Outcome::Zeros,
            (Some(()), Some(Checked::Bad)) => Outcome::Corrupt,
            _ => Outcome::Failed,
        };
        self.end(place, outcome);
    }
}

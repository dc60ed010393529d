//! What disks are asked for: given to them, neighbours in one request; tried again, given up, and what follows from its end.

use super::job::{Ask, Outcome, Stage};
use super::{JOBS, PATIENCE, Step, Store, TRIES};
use crate::disks::{Disks, Host, MAX_DISKS, TAGS};
use crate::drivers::{Controller, MAX_RUN, Op};
use crate::sets::Sets;
use disk_format::Checked;

/// How often a second it is looked for disks that do not answer.
const LOOKS: u64 = 10;

/// What a request to a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The block of a request, by its place.
    Job(usize),
    /// What the block of a write holds.
    Look(usize),
    /// A block of checks.
    Row(usize),
    /// What is read before anybody asks for it, by its place.
    Ahead(usize),
    /// All that a disk was given.
    Flush,
}

/// A block of a request to a disk, or a flush.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub target: Target,
    pub op: Op,
    pub disk: usize,
    pub block: u64,
    pub buffer: usize,
    /// Once the disk has it: the tag of the request that it is in, how many are, and when that was.
    pub tag: Option<u16>,
    pub of: u8,
    pub since: u64,
    pub tries: u8,
}

impl Move {
    /// Whether the batch waits for it: a flush, or what is written.
    fn is_batched(&self) -> bool {
        self.op != Op::Read
    }
}

/// The bit of a disk.
pub(super) const fn bit(disk: usize) -> u32 {
    // What is no disk has a bit of its own.
    1 << if disk < MAX_DISKS { disk } else { MAX_DISKS }
}

/// Whether a block may lie beside one of those of a [sketch](Store::sketch).
fn has_neighbour(sketch: u64, block: u64) -> bool {
    let beside = 0b101_u64.rotate_left(u32::try_from(block.wrapping_sub(1) % 64).unwrap_or(0));
    sketch & beside != 0
}

impl Store {
    /// A request to a disk has ended. False when it is not one of these.
    pub fn ended<C: Controller, H: Host>(&mut self, tag: u16, good: bool, disks: &mut Disks<C, H>) -> bool {
        if !(TAGS..2 * TAGS).contains(&tag) {
            return false;
        }
        let is_its = |one: &Move| one.tag == Some(tag);
        let Some(mut at) = self.moves.iter().position(is_its) else { return true };
        let Move { disk, since, mut of, .. } = self.moves[at];
        disks.ended(disk, since, good);
        // Others may lie between those of a request.
        while let Some(one) = self.moves.get_mut(at).filter(|_| of > 0) {
            if !is_its(one) {
                at += 1;
                continue;
            }
            of -= 1;
            if !good {
                one.tries += 1;
                self.retried += usize::from(one.tries == 1);
                // Whoever asks for what was read ahead asks for it again.
                if one.tries < TRIES && !matches!(one.target, Target::Ahead(_)) {
                    one.tag = None;
                    self.waiting += 1;
                    continue;
                }
            }
            let one = self.take_out(at);
            self.moved(&one, good, disks);
        }
        true
    }

    /// A request to a disk is none any more.
    fn take_out(&mut self, at: usize) -> Move {
        let one = self.moves.remove(at);
        self.waiting -= usize::from(one.tag.is_none());
        self.retried -= usize::from(one.tries > 0);
        self.batched -= usize::from(one.is_batched());
        one
    }

    /// One more request to a disk.
    pub(super) fn add(&mut self, target: Target, op: Op, (disk, block): (usize, u64), buffer: usize) {
        let one = Move { target, op, disk, block, buffer, tag: None, of: 1, since: 0, tries: 0 };
        // There is room for all that can be under way.
        if self.moves.push(one).is_ok() {
            self.waiting += 1;
            self.batched += usize::from(one.is_batched());
        }
    }

    /// A request about block `at` of the set, for its disk.
    pub(super) fn push(&mut self, target: Target, op: Op, at: Option<u64>, buffer: usize, sets: &Sets) {
        let found = at.and_then(|at| sets.stripes()?.place(at));
        let found = found.and_then(|(member, block)| Some((sets.disk_of(member)?, block)));
        // Without a place it fails when it is started: there is no such disk.
        self.add(target, op, found.unwrap_or((MAX_DISKS, 0)), buffer);
    }

    /// Whether a block has to wait for others of its disk: one that is tried again goes alone, so that of a request of several, which fail together for what is wrong with one,
    /// no other one fails for good. A disk may do neighbours together, too, and fail all of them.
    fn waits(&self, one: &Move) -> bool {
        if self.retried == 0 {
            return false;
        }
        let mut others = self.moves.iter().filter(|other| other.disk == one.disk);
        if one.tries > 0 { others.any(|other| other.tag.is_some()) } else { others.any(|other| other.tries > 0) }
    }

    /// Which blocks wait to be given to disks, as bits by their numbers modulo 64.
    fn sketch(&self) -> u64 {
        let waiting = self.moves.iter().filter(|one| one.tag.is_none());
        waiting.fold(0, |all, one| all | 1 << (one.block % 64))
    }

    /// The move at this place and those behind it that lie beside it on its disk and want the same, as they lie there: as many as a request may have.
    fn gather(&self, at: usize, most: usize) -> heapless::Vec<usize, MAX_RUN> {
        let first = &self.moves[at];
        let (mut start, mut end) = (first.block, first.block.saturating_add(1));
        let mut run = heapless::Vec::new();
        let _ = run.push(at);
        // In order they mostly are: then the second round finds nothing.
        loop {
            let before = run.len();
            for (other, one) in self.moves.iter().enumerate().skip(at + 1) {
                if run.len() == most {
                    return run;
                }
                let is_like = one.tag.is_none() && one.tries == 0 && (one.disk, one.op) == (first.disk, first.op);
                if is_like && one.block == end {
                    // There is room: no more than `most`.
                    let _ = run.push(other);
                    end += 1;
                } else if is_like && one.block.checked_add(1) == Some(start) {
                    let _ = run.insert(0, other);
                    start -= 1;
                }
            }
            if run.len() == before {
                return run;
            }
        }
    }

    /// Gives the disk of the move at this place all that lies beside it, as one request. How many these are, 0 where there is no room now; `None` where nothing lies there, or something of it
    /// will never be taken.
    fn give_joined<C: Controller, H: Host>(
        &mut self,
        tag: u16,
        at: usize,
        most: usize,
        now: u64,
        disks: &mut Disks<C, H>,
    ) -> Option<usize> {
        let run = self.gather(at, most);
        let &Move { op, disk, block, .. } =
            run.first().filter(|_| run.len() > 1).and_then(|&one| self.moves.get(one))?;
        let buffers: heapless::Vec<usize, MAX_RUN> = run.iter().map(|&one| self.moves[one].buffer).collect();
        if !disks.start(tag, disk, op, block, &buffers).ok()? {
            return Some(0);
        }
        for &its in &run {
            let one = &mut self.moves[its];
            // No more than a run has.
            (one.tag, one.of, one.since) = (Some(tag), u8::try_from(run.len()).unwrap_or(1), now);
        }
        Some(run.len())
    }

    /// Gives requests to disks. Whether any has failed at once.
    pub(super) fn start<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) -> bool {
        if self.waiting == 0 {
            return false;
        }
        let (mut full, mut changed, mut at) = (0_u32, false, 0);
        let now = disks.host().now();
        let near = if self.waiting > 1 { self.sketch() } else { 0 };
        // Behind the last one that waits nobody does.
        let mut left = self.waiting;
        while left > 0
            && let Some(&one) = self.moves.get(at)
        {
            left -= usize::from(one.tag.is_none());
            let bit = bit(one.disk);
            let is_dead = self.dead & bit != 0;
            if one.tag.is_some() || full & bit != 0 || !is_dead && self.waits(&one) {
                at += 1;
                continue;
            }
            self.last_tag = (self.last_tag + 1) % TAGS;
            let tag = TAGS + self.last_tag;
            let is_alone = one.op == Op::Flush || one.tries > 0 || !has_neighbour(near, one.block);
            let most = if is_alone || is_dead { 1 } else { disks.run(one.disk).min(MAX_RUN) };
            let joined = if most > 1 { self.give_joined(tag, at, most, now, disks) } else { None };
            let started = if joined.is_some() {
                joined
            } else if is_dead {
                None
            } else {
                let buffers = if one.op == Op::Flush { &[][..] } else { &[one.buffer] };
                disks.start(tag, one.disk, one.op, one.block, buffers).ok().map(usize::from)
            };
            match started {
                Some(count @ 1..) => {
                    if count == 1 {
                        let one = &mut self.moves[at];
                        (one.tag, one.of, one.since) = (Some(tag), 1, now);
                    }
                    self.waiting -= count;
                    self.dirty |= if one.op == Op::Write { bit } else { 0 };
                    at += 1;
                }
                Some(0) => {
                    full |= bit;
                    at += 1;
                }
                None => {
                    let one = self.take_out(at);
                    self.moved(&one, false, disks);
                    changed = true;
                }
            }
        }
        changed
    }

    /// Disks that have not answered for too long are not asked any more, and what they were asked has failed.
    pub(super) fn give_up<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) {
        let (now, hz) = (disks.host().now(), disks.host().hz());
        if now.saturating_sub(self.looked) < hz / LOOKS {
            return;
        }
        self.looked = now;
        let patience = PATIENCE.saturating_mul(hz);
        let is_late = |one: &Move| one.tag.is_some() && now.saturating_sub(one.since) > patience;
        while let Some(at) = self.moves.iter().position(is_late) {
            let one = self.take_out(at);
            // Once a request.
            if !self.moves.iter().any(|other| other.tag == one.tag) {
                disks.given_up(one.disk);
            }
            self.dead |= bit(one.disk);
            match one.target {
                Target::Job(place) => self.lost |= 1 << place,
                Target::Look(_) => self.lost |= 1 << JOBS,
                Target::Row(row) => self.rows.lose(row),
                Target::Ahead(place) => self.ahead.lose(place),
                Target::Flush => {}
            }
            self.moved(&one, false, disks);
        }
    }

    /// A request to a disk has ended for good.
    fn moved<C: Controller, H: Host>(&mut self, one: &Move, good: bool, disks: &mut Disks<C, H>) {
        match one.target {
            Target::Flush if good => self.dirty &= !bit(one.disk),
            Target::Flush => self.unflushed |= bit(one.disk),
            Target::Row(row) if one.op == Op::Read => self.rows.came(row, good),
            Target::Row(row) if !good => {
                self.unsure = true;
                // Nobody knows whether the disk has what has just been noted there: it is read again.
                if self.step == Step::Second {
                    self.rows.forget(row);
                }
                for place in self.jobs.batched() {
                    let Some(job) = self.jobs.get(place) else { continue };
                    let is_discard = matches!(job.ask, Ask::Discard(_));
                    if let Stage::Batched { fresh, .. } = job.stage
                        && job.check.is_some_and(|(own, _)| own == row)
                    {
                        // The row was written for these only.
                        let is_first = !fresh && !is_discard;
                        if is_first == (self.step == Step::First) {
                            self.jobs.set(place, Stage::Batched { fresh, failed: true });
                        }
                    }
                }
            }
            Target::Row(_) => {}
            Target::Ahead(place) => self.ahead.came(place, good),
            Target::Look(place) => {
                let of = self.jobs.get(place).filter(|_| good).map(|job| (job.entry.id, job.block()));
                let sum = of.and_then(|of| self.sum(of, &disks.memory(), one.buffer));
                self.looked(place, sum);
            }
            Target::Job(place) => self.job_moved(place, one, good, disks),
        }
    }

    /// The block of a request was read or written, or could not be.
    fn job_moved<C: Controller, H: Host>(&mut self, place: usize, one: &Move, good: bool, disks: &mut Disks<C, H>) {
        let Some(job) = self.jobs.get(place) else { return };
        if let Stage::Batched { fresh, failed } = job.stage {
            return self.jobs.set(place, Stage::Batched { fresh, failed: failed || !good });
        }
        let memory = disks.memory();
        let check = job.check.map(|(row, byte)| self.check(row, byte, disks));
        let sum = self.sum((job.entry.id, job.block()), &memory, one.buffer).filter(|_| good);
        let outcome = match check.zip(sum).map(|(check, sum)| check.judge_sum(sum)) {
            Some(Checked::Good) => Outcome::Data(one.buffer),
            Some(Checked::Zeros) => Outcome::Zeros,
            Some(Checked::Bad) => Outcome::Corrupt,
            None => Outcome::Failed,
        };
        self.end(place, outcome);
    }
}

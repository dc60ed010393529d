//! Taking a snapshot of a virtual disk, making one and removing one (docs/disk-format.md, "Snapshots"): one write or flush after the other, beside what others do.
//!
//! First the checks of the virtual disk that comes are written, where nobody has anything: that its blocks are what lies beneath, or were never written. Then no request of VMs is begun until those
//! that were have ended, and the set goes to its next state; so a snapshot has all that was done before, and nothing that was not. A disk that cannot do it ends it, and
//! nothing has changed. But once the first superblock was to say that the new state is the present one, nobody knows which of the two is: then the component ends, and its successor looks.

use crate::disks::{Disks, Host, PATIENCE};
use crate::drivers::{Controller, MAX_RUN, Op};
use crate::sets::{Planned, Sets};
use disk_format::{BLOCK_BYTES, Block, Check, STEPS, State, Step, check_blocks};

/// DMA memory that it needs.
pub const BYTES: usize = BLOCK_BYTES;
/// How often a disk is asked.
const TRIES: u8 = 3;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The checks from this block of them on are to be written.
    Checks(u64),
    /// Others have to end.
    Drain,
    /// The set's change: this step of it, for this member, and of the directory this block.
    Change {
        step: usize,
        member: u16,
        index: u32,
    },
    Done,
}

/// What a disk is asked for.
struct Work {
    disk: usize,
    op: Op,
    block: u64,
    blocks: usize,
}

/// What is under way.
#[derive(Clone, Copy)]
struct Away {
    tag: u16,
    disk: usize,
    since: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is done.
    Done,
    /// A disk could not do what was needed, and nothing has changed.
    Failed,
}

/// One snapshot, or a virtual disk that comes or goes.
pub struct Alteration {
    pub planned: Planned,
    stage: Stage,
    /// Where in the DMA memory its block lies.
    buffer: usize,
    away: Option<Away>,
    /// What was asked last was not done, so often.
    tries: u8,
    /// What is asked next was never asked.
    is_new: bool,
}

impl Alteration {
    /// One that nothing was done of yet. Its block lies at `buffer` in the DMA memory.
    pub fn new(planned: Planned, buffer: usize) -> Self {
        let stage = if planned.comes.is_some() { Stage::Checks(0) } else { Stage::Drain };
        Alteration { planned, stage, buffer, away: None, tries: 0, is_new: true }
    }

    /// Whether nobody may begin anything with virtual disks.
    pub fn holds(&self) -> bool {
        // Until VMs have the virtual disk above, too.
        !matches!(self.stage, Stage::Checks(_))
    }

    /// Whether another step would do something now.
    pub fn can_go_on(&self, idle: bool) -> bool {
        self.away.is_none() && (idle || self.stage != Stage::Drain)
    }

    /// Goes on as far as it can. `idle`: nothing is being done with virtual disks. How it ended, when it has; then `sets` is as the disks are.
    ///
    /// # Panics
    /// When nobody knows which state the set is in.
    pub fn step<C: Controller, H: Host>(
        &mut self,
        idle: bool,
        sets: &mut Sets,
        disks: &mut Disks<C, H>,
    ) -> Option<Ended> {
        let now = disks.host().now();
        if let Some(away) = self.away {
            if now.saturating_sub(away.since) <= PATIENCE.saturating_mul(disks.host().hz()) {
                return None;
            }
            // The disk may still do it: the block is not used again.
            disks.expire(away.disk, &[self.buffer]);
            (self.away, self.tries) = (None, TRIES);
        }
        if self.tries >= TRIES || disks.is_lost(self.buffer) {
            return self.failed(sets);
        }
        if self.stage == Stage::Drain && idle {
            sets.proposed(self.planned.change.generation);
            self.stage = Stage::Change { step: 0, member: 0, index: 0 };
        }
        if self.stage == Stage::Done {
            sets.changed(&self.planned);
            return Some(Ended::Done);
        }
        let (work, block) = self.next(sets, disks)?;
        if let Some(block) = block.filter(|_| core::mem::take(&mut self.is_new)) {
            // It fits.
            let _ = disks.memory().write(self.buffer, &block);
        }
        let tag = disks.next_tag();
        let buffers = [self.buffer; MAX_RUN];
        match disks.start(tag, work.disk, work.op, work.block, buffers.get(..work.blocks)?) {
            Ok(true) => self.away = Some(Away { tag, disk: work.disk, since: now }),
            // It has no room now.
            Ok(false) => {}
            Err(_) => return self.failed(sets),
        }
        None
    }

    /// A request to a disk has ended. Those of others are left alone: false.
    pub fn take<C: Controller, H: Host>(&mut self, tag: u16, good: bool, sets: &Sets, disks: &mut Disks<C, H>) -> bool {
        let Some(away) = self.away.filter(|away| away.tag == tag) else { return false };
        self.away = None;
        disks.ended(away.disk, away.since, good);
        if good {
            self.tries = 0;
            self.go_on(sets, disks);
        } else {
            // What a flush could not make durable nobody knows afterwards, so that is not tried again.
            let is_flush = matches!(self.stage, Stage::Change { step, .. } if STEPS.get(step) == Some(&Step::Flush));
            self.tries = if is_flush { TRIES } else { self.tries + 1 };
        }
        true
    }

    fn failed(&mut self, sets: &mut Sets) -> Option<Ended> {
        let Stage::Change { step, .. } = self.stage else { return Some(Ended::Failed) };
        let commits = |step: &Step| matches!(step, Step::Superblock { state: State::Committed, .. });
        let first = STEPS.iter().position(commits).unwrap_or(0);
        let durable = STEPS.iter().skip(first).position(|step| *step == Step::Flush).unwrap_or(0) + first;
        if step < first {
            return Some(Ended::Failed);
        }
        assert!(
            step > durable,
            "a disk failed while the set went to generation {}: it is looked at again",
            self.planned.change.generation
        );
        // Only second copies are missing: the next change but one writes them anew.
        sets.changed(&self.planned);
        Some(Ended::Done)
    }

    /// What is asked next, and what the block holds for it.
    fn next<C: Controller, H: Host>(&self, sets: &Sets, disks: &Disks<C, H>) -> Option<(Work, Option<Block>)> {
        match self.stage {
            Stage::Checks(row) => {
                let (disk, block, blocks) = self.piece(row, sets, disks)?;
                let mut checks = disk_format::zeroed();
                let lies = self.planned.comes.is_some_and(|new| new.beneath.is_some());
                let first = if lies { Check::INHERITED } else { Check::UNWRITTEN };
                checks.as_chunks_mut::<8>().0.iter_mut().for_each(|check| *check = first.to_bytes());
                Some((Work { disk, op: Op::Write, block, blocks }, Some(checks)))
            }
            Stage::Change { step, member, index } => {
                let own = sets.superblocks().nth(usize::from(member))?;
                let disk = sets.disk_of(member)?;
                let change = &self.planned.change;
                let (block, data) = match *STEPS.get(step)? {
                    Step::Flush => return Some((Work { disk, op: Op::Flush, block: 0, blocks: 0 }, None)),
                    Step::Directory => (change.directory_block(own, index)?, sets.block_after(&self.planned, index)),
                    Step::Superblock { state, end } => change.superblock(own, state, end),
                };
                Some((Work { disk, op: Op::Write, block, blocks: 1 }, Some(data)))
            }
            Stage::Drain | Stage::Done => None,
        }
    }

    /// Where checks from this block of them on lie: the disk, its block, and how many at once.
    fn piece<C: Controller, H: Host>(&self, row: u64, sets: &Sets, disks: &Disks<C, H>) -> Option<(usize, u64, usize)> {
        let new = self.planned.comes.as_ref()?;
        let left = check_blocks(new.blocks).checked_sub(row)?;
        let piece = sets.stripes()?.pieces(new.first + row, left).next()?;
        let disk = sets.disk_of(piece.member)?;
        let blocks = usize::try_from(piece.blocks).unwrap_or(MAX_RUN).min(MAX_RUN).min(disks.run(disk).max(1));
        Some((disk, piece.block, blocks))
    }

    /// What was asked was done.
    fn go_on<C: Controller, H: Host>(&mut self, sets: &Sets, disks: &Disks<C, H>) {
        let is_same = |stage: Stage, before: Stage| match (stage, before) {
            // All of these blocks are the same.
            (Stage::Checks(_), Stage::Checks(_)) => true,
            _ => false,
        };
        let before = self.stage;
        self.stage = match before {
            Stage::Checks(row) => {
                let done = self.piece(row, sets, disks).map_or(1, |(_, _, blocks)| blocks as u64);
                let next = row + done;
                let rows = self.planned.comes.map_or(0, |new| check_blocks(new.blocks));
                if next < rows { Stage::Checks(next) } else { Stage::Drain }
            }
            Stage::Change { step, member, index } => {
                let own = sets.superblocks().nth(usize::from(member));
                let more = STEPS.get(step) == Some(&Step::Directory)
                    && own.is_some_and(|own| self.planned.change.directory_block(own, index + 1).is_some());
                match (more, member + 1 < sets.members()) {
                    (true, _) => Stage::Change { step, member, index: index + 1 },
                    (false, true) => Stage::Change { step, member: member + 1, index: 0 },
                    (false, false) if step + 1 < STEPS.len() => Stage::Change { step: step + 1, member: 0, index: 0 },
                    (false, false) => Stage::Done,
                }
            }
            other => other,
        };
        self.is_new = !is_same(self.stage, before);
    }
}

#[cfg(test)]
#[path = "alteration_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "alteration_history_tests.rs"]
mod history_tests;

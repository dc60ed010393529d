//! What is done with the disks of the set in use: the requests of VMs, and a scrub, side by side.

use crate::alteration::{Alteration, Ended};
use crate::disks::{Disks, Host};
use crate::drivers::Controller;
use crate::guests::{Guests, Machine, ROUNDS, Served};
use crate::peek::Peek;
use crate::policy::Discipline;
use crate::question::Question;
use crate::scrub::Scrub;
use crate::sets::{Planned, Sets, Unplanned};
use crate::store::{Ask, Outcome, Refused, Store};
use crate::swap::SwapRegions;
use abi::disk::{DiskReply, snapshot};
use abi::limits::Name;
use disk_format::Block;

/// Stands for a block that a scrub has doubts about, among requests of VMs.
const DOUBT: u64 = u64::MAX;
/// Likewise for one that who controls the machine reads.
const PEEK: u64 = u64::MAX - 1;

/// All of it.
pub struct Service<D> {
    pub sets: Sets,
    pub store: Store,
    pub guests: Guests<D>,
    pub swap: SwapRegions,
    /// The scrub that is under way, and the question for it.
    scrub: Option<(Question, Scrub)>,
    /// Where its buffers lie.
    scrubs: usize,
    /// The change of the directory that is being made, and the question for it.
    alteration: Option<(Question, Alteration)>,
    /// Where its block lies.
    alterations: usize,
    peek: Peek,
}

impl<D: Discipline> Service<D> {
    /// Nothing is under way. A scrub has its buffers from the first of `buffers` on in the DMA memory, and a change of the directory its block at the second.
    pub fn new(
        sets: Sets,
        store: Store,
        guests: Guests<D>,
        swap: SwapRegions,
        [scrubs, alterations]: [usize; 2],
        peek: Peek,
    ) -> Self {
        Service { sets, store, guests, swap, scrub: None, scrubs, alteration: None, alterations, peek }
    }

    /// Begins to read a part of a block of the virtual disk `name`. The answer, when there is one at once. Who may read which is the core's to know, so
    /// what it has not passed on is answered with nothing.
    pub fn begin_read(&mut self, question: Question, name: Name, block: u64, part: u16) -> Option<DiskReply> {
        if !question.of_core {
            return Some(DiskReply::None);
        }
        self.peek.begin(question, (name, block, part), &self.sets, &self.guests)
    }

    /// Begins a snapshot of the virtual disk `name`, called `new`. The answer, when there is one at once.
    pub fn begin_snapshot(&mut self, question: Question, name: Name, new: Name) -> Option<DiskReply> {
        self.begin(question, |sets| sets.plan_snapshot(name, new))
    }

    /// Begins to make a virtual disk `name` of so many blocks. The answer, when there is one at once.
    pub fn begin_creation(&mut self, question: Question, name: Name, blocks: u64) -> Option<DiskReply> {
        self.begin(question, |sets| sets.plan_creation(name, blocks))
    }

    /// Begins to remove the virtual disk `name`. The answer, when there is one at once.
    pub fn begin_removal(&mut self, question: Question, name: Name) -> Option<DiskReply> {
        self.begin(question, |sets| sets.plan_removal(name))
    }

    fn begin(
        &mut self,
        question: Question,
        plan: impl FnOnce(&Sets) -> Result<Planned, Unplanned>,
    ) -> Option<DiskReply> {
        let refused = |Unplanned { why, needed, free }| Some(DiskReply::Snapped { why, needed, free });
        if self.alteration.is_some() {
            return refused(Unplanned::of(snapshot::BUSY));
        }
        let planned = match plan(&self.sets) {
            Ok(planned) => planned,
            Err(why) => return refused(why),
        };
        if let Some((place, entry)) = planned.goes {
            if self.scrub.as_ref().is_some_and(|(_, scrub)| scrub.reads(entry.id)) {
                return refused(Unplanned::of(snapshot::BUSY));
            }
            // From now on nobody gets it.
            if !self.guests.lock(place) {
                return refused(Unplanned::of(snapshot::IN_USE));
            }
        }
        self.alteration = Some((question, Alteration::new(planned, self.alterations)));
        None
    }

    /// Begins a scrub of this entry of the directory. False when it is no virtual disk, or another one is being scrubbed: whoever asked for that
    /// does not wait any more.
    #[must_use]
    pub fn begin_scrub(&mut self, question: Question, index: u16, now: u64) -> bool {
        let goes = self.alteration.as_ref().and_then(|(_, current)| current.planned.goes);
        let may = self.scrub.is_none() && goes.is_none_or(|(place, _)| place != index);
        let new = Scrub::new(index, &self.sets, self.scrubs, now).filter(|_| may);
        self.scrub = self.scrub.take().or(new.map(|new| (question, new)));
        self.scrub.as_ref().is_some_and(|(of, _)| *of == question)
    }

    /// Whether it waits for disks.
    pub fn is_busy(&self) -> bool {
        self.scrub.is_some()
            || self.alteration.is_some()
            || self.peek.is_busy()
            || !self.store.is_idle()
            || self.swap.is_busy()
    }

    /// Does what can be done now. True when there is more to do at once. `answer` gets the answers to a scrub and a change of the directory that are done.
    pub fn step<C: Controller, H: Host>(
        &mut self,
        disks: &mut Disks<C, H>,
        machine: &mut impl Machine,
        mut answer: impl FnMut(Question, DiskReply),
    ) -> bool {
        if self.alteration.is_some()
            && let Some((question, reply)) = self.step_alteration(disks)
        {
            answer(question, reply);
        }
        let Service { sets, store, guests, swap, scrub, alteration, peek, .. } = self;
        while let Some((tag, good)) = disks.done() {
            if !store.ended(tag, good, disks)
                && !swap.ended(tag, good, disks)
                && !alteration.as_mut().is_some_and(|(_, current)| current.take(tag, good, sets, disks))
                && let Some((_, scrub)) = scrub
            {
                scrub.take(tag, good, disks);
            }
        }
        if let Some((_, scrub)) = scrub
            && let Some((entry, block)) = scrub.doubt()
            && store.ask((DOUBT, &entry, Ask::Read(block)), None::<&Block>, sets, disks).is_err()
        {
            scrub.doubt_later();
        }
        swap.step(sets, disks);
        let holds = alteration.as_ref().is_some_and(|(_, current)| current.holds());
        let memory = disks.memory();
        if let Some((entry, block)) = peek.wants().filter(|_| !holds) {
            match store.ask((PEEK, &entry, Ask::Read(block)), None::<&Block>, sets, disks) {
                Ok(()) => peek.was_asked(),
                // Later.
                Err(Refused::Full) => {}
                Err(Refused::Nonsense | Refused::Gone) => {
                    if let Some((question, reply)) = peek.ended(Outcome::Failed, &memory) {
                        answer(question, reply);
                    }
                }
            }
        }
        let time = (disks.host().now(), disks.host().hz());
        let mut more = false;
        for round in 0..=ROUNDS {
            let served = if holds { Served::default() } else { guests.serve(store, sets, disks, time) };
            more |= served.more || served.began && round == ROUNDS;
            if round == ROUNDS || round > 0 && !served.began {
                break;
            }
            let mut ended = false;
            more |= store.step(sets, disks, |token, outcome| {
                ended = true;
                match scrub {
                    Some((_, scrub)) if token == DOUBT => scrub.resolve(outcome),
                    _ if token == PEEK => {
                        if let Some((question, reply)) = peek.ended(outcome, &memory) {
                            answer(question, reply);
                        }
                    }
                    _ => guests.ended((token, outcome), &memory, time),
                }
            });
            // What has ended has made room for others, which are begun, too.
            if !ended {
                break;
            }
        }
        if let Some((question, current)) = scrub
            && let Some(reply) = current.step(sets, disks)
        {
            answer(*question, reply);
            *scrub = None;
        }
        guests.ring_all(machine);
        guests.tell_accounts(time.0, machine);
        // What was done for a change makes its next step possible, and the end of others does.
        more | self.alteration.as_ref().is_some_and(|(_, current)| current.can_go_on(self.store.is_idle()))
    }

    /// Goes on with a change of the directory. The answer, when it is done.
    fn step_alteration<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) -> Option<(Question, DiskReply)> {
        let Service { sets, store, guests, alteration, .. } = self;
        let (question, current) = alteration.as_mut()?;
        let ended = current.step(store.is_idle(), sets, disks)?;
        let (question, planned) = (*question, current.planned);
        let why = match ended {
            Ended::Done => {
                guests.altered(&planned);
                // Whatever lies there next finds nothing of it.
                if let Some((_, entry)) = &planned.goes {
                    store.forget(entry);
                }
                snapshot::TAKEN
            }
            Ended::Failed => {
                if let Some((place, _)) = planned.goes {
                    guests.unlock(place);
                }
                snapshot::FAILED
            }
        };
        *alteration = None;
        Some((question, DiskReply::Snapped { why, needed: 0, free: 0 }))
    }
}

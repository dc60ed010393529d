//! What is done with the disks of the set in use: the requests of VMs, and a scrub, side by side.

use crate::disks::{Disks, Host};
use crate::drivers::Controller;
use crate::guests::{Guests, Machine, ROUNDS, Served};
use crate::policy::Discipline;
use crate::scrub::Scrub;
use crate::sets::{Planned, Sets, Unplanned};
use crate::snapshot::{Ended, Snapshot};
use crate::store::{Ask, Store};
use crate::swap::SwapRegions;
use abi::disk::{DiskReply, snapshot};
use abi::limits::Name;
use abi::message::Message;
use disk_format::Block;

/// Stands for a block that a scrub has doubts about, among requests of VMs.
const DOUBT: u64 = u64::MAX;

/// All of it.
pub struct Service<D> {
    pub sets: Sets,
    pub store: Store,
    pub guests: Guests<D>,
    pub swap: SwapRegions,
    /// The scrub that is under way, and the id of the question for it.
    scrub: Option<(u32, Scrub)>,
    /// Where its buffers lie.
    scrubs: usize,
    /// The snapshot that is being taken, and the id of the question for it.
    snapshot: Option<(u32, Snapshot)>,
    /// Where its block lies.
    snapshots: usize,
}

impl<D: Discipline> Service<D> {
    /// Nothing is under way. A scrub has its buffers from the first of `buffers` on in the DMA memory, and a snapshot its block at the second.
    pub fn new(
        sets: Sets,
        store: Store,
        guests: Guests<D>,
        swap: SwapRegions,
        [scrubs, snapshots]: [usize; 2],
    ) -> Self {
        Service { sets, store, guests, swap, scrub: None, scrubs, snapshot: None, snapshots }
    }

    /// Begins a snapshot of the virtual disk `name`, called `new`. The answer, when there is one at once.
    pub fn begin_snapshot(&mut self, id: u32, name: Name, new: Name) -> Option<DiskReply> {
        let begun = match self.snapshot {
            Some(_) => Err(Unplanned::of(snapshot::BUSY)),
            None => self.sets.plan_snapshot(name, new),
        };
        match begun {
            Ok(planned) => {
                self.snapshot = Some((id, Snapshot::new(planned, self.snapshots)));
                None
            }
            Err(Unplanned { why, needed, free }) => Some(DiskReply::Snapped { why, needed, free }),
        }
    }

    /// Begins a scrub of this entry of the directory. False when it is no virtual disk, or another one is being scrubbed: whoever asked for that
    /// does not wait any more.
    #[must_use]
    pub fn begin_scrub(&mut self, id: u32, index: u16, now: u64) -> bool {
        let new = Scrub::new(index, &self.sets, self.scrubs, now).filter(|_| self.scrub.is_none());
        self.scrub = self.scrub.take().or(new.map(|new| (id, new)));
        self.scrub.as_ref().is_some_and(|(of, _)| *of == id)
    }

    /// Whether it waits for disks.
    pub fn is_busy(&self) -> bool {
        self.scrub.is_some() || self.snapshot.is_some() || !self.store.is_idle() || self.swap.is_busy()
    }

    /// Does what can be done now. True when there is more to do at once. `answer` gets the answers to a scrub and a snapshot that are done.
    pub fn step<C: Controller, H: Host>(
        &mut self,
        disks: &mut Disks<C, H>,
        machine: &mut impl Machine,
        mut answer: impl FnMut(&Message),
    ) -> bool {
        if self.snapshot.is_some()
            && let Some(taken) = self.step_snapshot(disks)
        {
            answer(&taken);
        }
        let Service { sets, store, guests, swap, scrub, snapshot, .. } = self;
        while let Some((tag, good)) = disks.done() {
            if !store.ended(tag, good, disks)
                && !swap.ended(tag, good, disks)
                && !snapshot.as_mut().is_some_and(|(_, current)| current.take(tag, good, sets, disks))
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
        let holds = snapshot.as_ref().is_some_and(|(_, current)| current.holds());
        let memory = disks.memory();
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
                    _ => guests.ended((token, outcome), &memory, time),
                }
            });
            // What has ended has made room for others, which are begun, too.
            if !ended {
                break;
            }
        }
        if let Some((id, current)) = scrub
            && let Some(reply) = current.step(sets, disks)
        {
            answer(&Message { id: *id, ..DiskReply::into(reply) });
            *scrub = None;
        }
        guests.ring_all(machine);
        // What was done for a snapshot makes its next step possible, and the end of others does.
        more | self.snapshot.as_ref().is_some_and(|(_, current)| current.can_go_on(self.store.is_idle()))
    }

    /// Goes on with a snapshot. The answer, when it is done.
    fn step_snapshot<C: Controller, H: Host>(&mut self, disks: &mut Disks<C, H>) -> Option<Message> {
        let Service { sets, store, guests, snapshot, .. } = self;
        let (id, current) = snapshot.as_mut()?;
        let ended = current.step(store.is_idle(), sets, disks)?;
        let why = match ended {
            Ended::Taken => {
                let Planned { old, place, above, .. } = current.planned;
                guests.went_up(old, (place, above));
                snapshot::TAKEN
            }
            Ended::Failed => snapshot::FAILED,
        };
        let message = Message { id: *id, ..DiskReply::Snapped { why, needed: 0, free: 0 }.into() };
        *snapshot = None;
        Some(message)
    }
}

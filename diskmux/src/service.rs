//! What is done with the disks of the set in use: the requests of VMs, and a scrub, side by side.

use crate::disks::{Disks, Host};
use crate::drivers::Controller;
use crate::guests::{Guests, Machine};
use crate::policy::Discipline;
use crate::scrub::Scrub;
use crate::sets::Sets;
use crate::store::{Ask, Store};
use crate::swap::SwapRegions;
use abi::disk::DiskReply;
use abi::message::Message;

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
}

impl<D: Discipline> Service<D> {
    /// Nothing is under way. A scrub has its buffers from `scrubs` on in the DMA memory.
    pub fn new(sets: Sets, store: Store, guests: Guests<D>, swap: SwapRegions, scrubs: usize) -> Self {
        Service { sets, store, guests, swap, scrub: None, scrubs }
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
        self.scrub.is_some() || !self.store.is_idle() || self.swap.is_busy()
    }

    /// Does what can be done now. True when there is more to do at once; and the answer to a scrub that is done.
    pub fn step<C: Controller, H: Host>(
        &mut self,
        disks: &mut Disks<C, H>,
        machine: &mut impl Machine,
    ) -> (bool, Option<Message>) {
        let Service { sets, store, guests, swap, scrub, .. } = self;
        while let Some((tag, good)) = disks.done() {
            if !store.ended(tag, good, disks)
                && !swap.ended(tag, good, disks)
                && let Some((_, scrub)) = scrub
            {
                scrub.take(tag, good, disks);
            }
        }
        if let Some((_, scrub)) = scrub
            && let Some((entry, block)) = scrub.doubt()
            && store.ask((DOUBT, entry, Ask::Read(block)), None, sets, disks).is_err()
        {
            scrub.doubt_later();
        }
        swap.step(sets, disks);
        let mut more = guests.serve(store, sets, disks);
        let memory = disks.memory();
        more |= store.step(sets, disks, |token, outcome| match scrub {
            Some((_, scrub)) if token == DOUBT => scrub.resolve(outcome),
            _ => guests.ended(token, outcome, &memory),
        });
        // What has ended has made room.
        more |= guests.serve(store, sets, disks);
        let mut done = None;
        if let Some((id, current)) = scrub
            && let Some(reply) = current.step(sets, disks)
        {
            done = Some(Message { id: *id, ..DiskReply::into(reply) });
            *scrub = None;
        }
        guests.ring_all(machine);
        (more, done)
    }
}

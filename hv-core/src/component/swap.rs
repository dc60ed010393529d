//! Hot swap: another policy takes the place of the one that runs, while all goes on.
//!
//! Its image is made ready in the component's other block, a part at a time, while the old one still runs. Then the old one is
//! condemned, and its successor is started as after a death, only that nothing has to be cleared or copied. It is on trial
//! ([`super::policies::Policies`]): one that dies, sends nonsense or stalls gives its place back.

use super::endpoint::EndpointId;
use super::policies::GOOD_MS;
use super::replacement::{NoSwap, Swap};
use super::run::{Death, Run};
use crate::board::Board;
use crate::kernel::{Cpu, Kernel};
use crate::log::say;
use crate::vm::NEVER;
use abi::log::Record;
use backend::Backend;

/// Bytes of an image that are made ready at once, and milliseconds from one part to the next: VMs and components go on in
/// between.
const PART: usize = 64 << 10;
const PAUSE_MS: u64 = 1;

/// Turns in a row that a scheduler on trial may leave to the core: two plans.
const UNNAMED_MOST: u32 = 32;

impl<B: Backend, H: Board> Cpu<B, H> {
    /// Begin to replace the policy of the component of this rank. The request `id` of the controller `asker` is answered when
    /// it is done.
    ///
    /// # Errors
    /// [`NoSwap`]; nothing has changed.
    pub fn begin_swap(&mut self, rank: usize, policy: usize, id: u32, asker: EndpointId) -> Result<(), NoSwap> {
        let component = self.components.list.get(rank).ok_or(NoSwap::NoPolicy)?;
        match component.policies.get(policy).ok_or(NoSwap::NoPolicy)?.program {
            Ok(_) => {}
            Err(unfit) => return Err(NoSwap::Unfit(unfit)),
        }
        if self.swap.is_some() {
            return Err(NoSwap::Busy);
        }
        let now = self.board.now();
        let asker_start = self.start_of(asker);
        self.swap = Some(Swap { rank, policy, ready: 0, next_at: now, id, asker, asker_start });
        self.arm(now);
        Ok(())
    }

    /// When the next part of a successor's image is due.
    pub fn swap_at(&self) -> u64 {
        self.swap.map_or(NEVER, |swap| swap.next_at)
    }

    /// Make the next part of the successor's image ready; when all of it is, condemn the old one.
    #[cold]
    pub fn go_on_swapping(&mut self, now: u64) {
        let pause = self.time.milliseconds(PAUSE_MS);
        let Some(swap) = &mut self.swap else { return };
        let component = &mut self.components.list[swap.rank];
        // Without another block all is done at the start.
        let (to, bytes) = match (component.space.spare(), component.policies.program(swap.policy)) {
            (Some(spare), Some(program)) => {
                let to = (swap.ready + PART).min(spare.len());
                program.lay(spare, swap.ready..to);
                (to, spare.len())
            }
            _ => (0, 0),
        };
        swap.ready = to;
        if to < bytes {
            swap.next_at = now.saturating_add(pause);
            return;
        }
        swap.next_at = NEVER;
        let rank = swap.rank;
        component.successor = Some(swap.policy);
        if let Run::Stopped { start_at } = &mut component.run {
            *start_at = now;
            self.attention.set_components();
        }
        // One that is condemned for something else is on its way out.
        self.condemn(rank, Death::Swapped);
    }

    /// A component has been started: whoever asked for its successor is told.
    pub fn swapped(&mut self, rank: usize) {
        if let Some(swap) = self.swap.filter(|swap| swap.rank == rank && swap.next_at == NEVER) {
            self.swap = None;
            // Another start of the controller has asked nothing yet, and might take the answer for one to something else.
            if swap.asker_start == self.start_of(swap.asker) {
                self.reply_done(swap.asker, swap.id);
            }
        }
    }

    /// The party at this endpoint is gone for good, and whoever has the endpoint next has asked for nothing.
    pub fn forget_asker(&mut self, gone: EndpointId) {
        if let Some(swap) = self.swap.as_mut().filter(|swap| swap.asker == gone) {
            swap.asker = EndpointId::NONE;
        }
    }

    /// How often the party to an endpoint has been started.
    fn start_of(&self, party: EndpointId) -> u32 {
        self.endpoints.rank(party).map_or(0, |rank| self.components.list[rank].incarnation)
    }

    /// A policy that has just been started is on trial from now on, unless it has shown long ago that it is good.
    pub fn open_trial(&mut self, rank: usize) {
        let component = &mut self.components.list[rank];
        component.trial_ends = NEVER;
        if component.policies.on_trial() {
            // Looks after components go on until it is over.
            component.trial_ends = self.steady.at(component.started_at).saturating_add(self.time.milliseconds(GOOD_MS));
        }
    }

    /// Whether the policy that runs has still to show that it is good.
    pub fn on_trial(&self, rank: usize) -> bool {
        self.components.list.get(rank).is_some_and(|component| component.policies.on_trial())
    }

    /// The trial of a policy is over, if it is time, which is steady: it is good, unless it stalls.
    pub fn judge(&mut self, rank: usize, now: u64) {
        let plans_nothing = self.scheduler() == Some(rank) && self.plans_nothing();
        let component = &mut self.components.list[rank];
        if component.trial_ends > now || !matches!(component.run, Run::Ready | Run::Waiting { .. }) {
            return;
        }
        // One that is in the middle of a long turn has still to show that it waits again, and one that was just late to take something
        // that it does take: the time between two looks may have been stolen from it.
        let owed_ticks = component.live.owed_ticks(now);
        let stalls = owed_ticks.is_some_and(|ticks| ticks >= self.time.milliseconds(GOOD_MS / 2));
        if component.live.used_ticks != 0 || owed_ticks.is_some() && !stalls {
            return;
        }
        component.trial_ends = NEVER;
        if stalls || plans_nothing {
            self.condemn(rank, Death::Stalled);
        } else {
            component.policies.prove();
            say(Record::Proved { name: component.entry.name, policy: component.policies.name() });
        }
    }

    /// Whether somebody could run and the scheduler has planned nothing since its start.
    fn plans_nothing(&self) -> bool {
        !self.plan.came && (self.plan.unnamed > 0 || self.plan.held)
    }
}

impl<B: Backend, H: Board> Kernel<B, H> {
    /// The core has run a turn that the scheduler did not name. One that is on trial and lets that happen again and again
    /// gives its place back.
    #[cold]
    #[inline(never)]
    pub fn note_unnamed(&mut self, rank: usize) {
        self.cpu.plan.choose();
        if self.cpu.plan.unnamed >= UNNAMED_MOST && self.cpu.on_trial(rank) {
            self.cpu.condemn(rank, Death::Stalled);
        }
    }
}

//! Queues of VM slots, threaded through one array: a slot is in one of them at most, as its VM is in one state.

use crate::component::{EndpointId, MAX_ENDPOINTS};
use abi::limits::LIVE_TENANTS;
use abi::vm::Slot;

/// "No slot".
const NONE: u32 = u32::MAX;

/// The queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// VMs that the scheduler holds for able to run, in the order in which the core's fallback takes them. One that has just
    /// begun to wait for a page is among them until the scheduler is told.
    Ready,
    /// VMs that wait for admission, in the order of their creation.
    Waiting,
    /// VMs that could run or be admitted and that the scheduler keeps back.
    Held,
    /// VMs that have ended and whose pages nobody shares: their frames can be freed.
    Ended,
    /// VMs that have been admitted and wait for a window through which they come in.
    Coming,
    /// VMs that have ended and that the network demultiplexer at this endpoint has still to let go of.
    Leaving(EndpointId),
    /// VMs of the tenant with this account that are out, were called, and wait until it is the tenant's turn to have one come in.
    Called(u32),
}

/// How many queues there are.
const QUEUES: usize = CALLED + LIVE_TENANTS;
/// Number of the first queue of those that leave; the last one is of those whom nobody serves.
const LEAVING: usize = 5;
/// Number of the first queue of those that were called.
const CALLED: usize = LEAVING + MAX_ENDPOINTS + 1;

impl Queue {
    #[inline(always)]
    const fn number(self) -> usize {
        match self {
            Queue::Ready => 0,
            Queue::Waiting => 1,
            Queue::Held => 2,
            Queue::Ended => 3,
            Queue::Coming => 4,
            Queue::Leaving(of) if of.index() < MAX_ENDPOINTS => LEAVING + of.index(),
            Queue::Leaving(_) => LEAVING + MAX_ENDPOINTS,
            Queue::Called(account) if (account as usize) < LIVE_TENANTS => CALLED + account as usize,
            // Nobody has another one.
            Queue::Called(_) => CALLED,
        }
    }

    /// The tag of a slot that is in it.
    #[inline(always)]
    const fn tag(self) -> u16 {
        // There are a few hundred.
        #[allow(clippy::cast_possible_truncation)]
        {
            self.number() as u16
        }
    }
}

const _: () = assert!(QUEUES < NOWHERE as usize);

/// Tag of a slot that is in no queue.
const NOWHERE: u16 = u16::MAX;

/// Links of one slot.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    next: u32,
    previous: u32,
    /// The queue that it is in, or [`NOWHERE`].
    queue: u16,
}

const _: () = assert!(size_of::<Link>() == 12, "what a slot costs here");

/// What unused memory holds.
pub const EMPTY_LINK: Link = Link { next: NONE, previous: NONE, queue: NOWHERE };

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

/// All queues. First in, first out, with removal from anywhere in constant time.
#[derive(Debug)]
pub struct Queues<'m> {
    links: &'m mut [Link],
    ends: [Ends; QUEUES],
}

impl<'m> Queues<'m> {
    /// Empty queues for the slots `0..links.len()`.
    pub fn new(links: &'m mut [Link]) -> Self {
        links.fill(EMPTY_LINK);
        Queues { links, ends: [Ends { first: NONE, last: NONE }; QUEUES] }
    }

    /// True when `slot` is in `queue`.
    #[inline]
    pub fn contains(&self, queue: Queue, slot: Slot) -> bool {
        self.links.get(slot.index()).is_some_and(|link| link.queue == queue.tag())
    }

    #[inline]
    pub fn is_empty(&self, queue: Queue) -> bool {
        self.ends[queue.number()].first == NONE
    }

    /// The slot that has been in `queue` longest.
    #[inline]
    pub fn first(&self, queue: Queue) -> Option<Slot> {
        let first = self.ends[queue.number()].first;
        (first != NONE).then_some(Slot::new(first))
    }

    /// All slots of `queue`, the one that has been in it longest first. There may be a million.
    pub fn all(&self, queue: Queue) -> impl Iterator<Item = Slot> {
        let next = |slot: &Slot| self.links.get(slot.index()).map(|link| link.next).filter(|&next| next != NONE);
        core::iter::successors(self.first(queue), move |slot| next(slot).map(Slot::new))
    }

    /// Append `slot`, unless it is in a queue already or beyond the table.
    #[inline]
    pub fn push(&mut self, queue: Queue, slot: Slot) {
        let ends = &mut self.ends[queue.number()];
        let last = ends.last;
        let Some(link) = self.links.get_mut(slot.index()) else { return };
        debug_assert!(link.queue == NOWHERE || link.queue == queue.tag(), "slot {slot} is in another queue");
        if link.queue != NOWHERE {
            return;
        }
        *link = Link { next: NONE, previous: last, queue: queue.tag() };
        ends.last = slot.number();
        match self.links.get_mut(Slot::new(last).index()) {
            Some(before) => before.next = slot.number(),
            None => ends.first = slot.number(),
        }
    }

    /// Take `slot` out of `queue`, if it is there.
    #[inline]
    pub fn remove(&mut self, queue: Queue, slot: Slot) {
        let Some(link) = self.links.get_mut(slot.index()) else { return };
        if link.queue != queue.tag() {
            return;
        }
        let Link { next, previous, .. } = *link;
        *link = EMPTY_LINK;
        let ends = &mut self.ends[queue.number()];
        match self.links.get_mut(Slot::new(previous).index()) {
            Some(before) => before.next = next,
            None => ends.first = next,
        }
        match self.links.get_mut(Slot::new(next).index()) {
            Some(after) => after.previous = previous,
            None => ends.last = previous,
        }
    }

    /// Take the first slot of `queue` out.
    pub fn pop(&mut self, queue: Queue) -> Option<Slot> {
        let slot = self.first(queue)?;
        self.remove(queue, slot);
        Some(slot)
    }

    /// Move `slot` before all others of `queue`, if it is there.
    pub fn advance(&mut self, queue: Queue, slot: Slot) {
        if !self.contains(queue, slot) {
            return;
        }
        self.remove(queue, slot);
        let ends = &mut self.ends[queue.number()];
        let first = core::mem::replace(&mut ends.first, slot.number());
        if first == NONE {
            ends.last = slot.number();
        }
        if let Some(link) = self.links.get_mut(slot.index()) {
            *link = Link { next: first, previous: NONE, queue: queue.tag() };
        }
        if let Some(after) = self.links.get_mut(Slot::new(first).index()) {
            after.previous = slot.number();
        }
    }

    /// Move `slot` behind all others of `queue`, if it is there.
    #[inline]
    pub fn rotate(&mut self, queue: Queue, slot: Slot) {
        if self.ends[queue.number()].last != slot.number() && self.contains(queue, slot) {
            self.remove(queue, slot);
            self.push(queue, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SLOTS: u32 = 8;
    // It is 256.
    #[allow(clippy::cast_possible_truncation)]
    const ALL: [Queue; 8] = [
        Queue::Ready,
        Queue::Waiting,
        Queue::Held,
        Queue::Ended,
        Queue::Leaving(EndpointId::new(0)),
        Queue::Leaving(EndpointId::new(3)),
        Queue::Called(0),
        Queue::Called(LIVE_TENANTS as u32 - 1),
    ];

    proptest! {
        #[test]
        fn behaves_like_deques(steps in prop::collection::vec((0..SLOTS + 2, 0_usize..ALL.len(), 0_u8..7), 0..300)) {
            let mut links = vec![EMPTY_LINK; 8];
            let mut queues = Queues::new(&mut links);
            let mut model = [(); ALL.len()].map(|()| VecDeque::new());
            for (slot, index, what) in steps {
                let slot = Slot::new(slot);
                let queue = ALL[index];
                let known = model[index].contains(&slot);
                let elsewhere = (0..ALL.len()).any(|other| other != index && model[other].contains(&slot));
                match what {
                    0..3 if elsewhere => {}
                    0..3 => {
                        queues.push(queue, slot);
                        if !known && slot.number() < SLOTS { model[index].push_back(slot); }
                    }
                    3 => {
                        queues.remove(queue, slot);
                        model[index].retain(|&other| other != slot);
                    }
                    4 => prop_assert_eq!(queues.pop(queue), model[index].pop_front()),
                    5 => {
                        queues.advance(queue, slot);
                        if known {
                            model[index].retain(|&other| other != slot);
                            model[index].push_front(slot);
                        }
                    }
                    _ => {
                        queues.rotate(queue, slot);
                        if known {
                            model[index].retain(|&other| other != slot);
                            model[index].push_back(slot);
                        }
                    }
                }
                for (queue, model) in ALL.into_iter().zip(&model) {
                    prop_assert_eq!(queues.first(queue), model.front().copied());
                    prop_assert_eq!(queues.is_empty(queue), model.is_empty());
                    prop_assert!(queues.all(queue).eq(model.iter().copied()));
                    for slot in (0..SLOTS + 2).map(Slot::new) {
                        prop_assert_eq!(queues.contains(queue, slot), model.contains(&slot));
                    }
                }
            }
            for (queue, mut model) in ALL.into_iter().zip(model) {
                let rest: Vec<_> = core::iter::from_fn(|| queues.pop(queue)).collect();
                prop_assert_eq!(rest, model.drain(..).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    #[should_panic(expected = "in another queue")]
    fn a_slot_is_in_one_queue() {
        let mut links = [EMPTY_LINK; 2];
        let mut queues = Queues::new(&mut links);
        queues.push(Queue::Waiting, Slot::new(1));
        queues.push(Queue::Ready, Slot::new(1));
    }
}

//! First-in-first-out lists of slots or seats, linked through tables: every operation takes the same short time.

use crate::tables::Table;
use abi::vm::{Seat, Slot};
use core::marker::PhantomData;

/// What lists are made of.
pub trait Place: Copy {
    /// Its number.
    fn number(self) -> u32;
    /// The inverse of [`Place::number`].
    fn of(number: u32) -> Option<Self>;
}

impl Place for Slot {
    fn number(self) -> u32 {
        Slot::number(self)
    }

    fn of(number: u32) -> Option<Self> {
        Some(Slot::new(number))
    }
}

impl Place for Seat {
    #[inline]
    fn number(self) -> u32 {
        Seat::number(self).into()
    }

    #[inline]
    fn of(number: u32) -> Option<Self> {
        u16::try_from(number).ok().map(Seat::new)
    }
}

/// Links of all places. A place is in one list of its table at most. The links of a list are a ring: behind its last place comes its
/// first. `i + 1` stands for place `i`.
#[derive(Debug)]
pub struct Links(Table<Link>);

/// The links of one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    next: u32,
    previous: u32,
}

impl Links {
    /// What they take of [`abi::note::TableBytes`] for each place.
    // Eight.
    #[allow(clippy::cast_possible_truncation)]
    pub const BYTES: u32 = size_of::<Link>() as u32;

    /// No place is in a list; there is a link for each entry of `table`.
    pub fn new(table: Table<Link>) -> Self {
        Links(table)
    }

    /// The link behind the end `end`, which is not 0 and was linked before.
    #[inline]
    fn at(&mut self, end: u32) -> &mut Link {
        &mut self.0[end as usize - 1]
    }

    /// As [`Links::at`], for one that perhaps was not. None beyond the table.
    #[inline]
    fn reach(&mut self, end: u32) -> Option<&mut Link> {
        self.0.reach(end as usize - 1)
    }

    /// Puts `place` into a ring: in front of `other`, so that it is the last where `other` is the first; into one of its own where there is none. False
    /// when it is beyond the table.
    #[inline]
    pub fn join<P: Place>(&mut self, place: P, other: Option<P>) -> bool {
        let me = end(place);
        let Some(link) = self.reach(me) else { return false };
        let Some(next) = other.map(end) else {
            *link = Link { next: me, previous: me };
            return true;
        };
        let previous = core::mem::replace(&mut self.at(next).previous, me);
        self.at(previous).next = me;
        *self.at(me) = Link { next, previous };
        true
    }

    /// Takes `place` out of its ring. Who came behind it; `None` where it was alone.
    #[inline]
    pub fn part<P: Place>(&mut self, place: P) -> Option<P> {
        let me = end(place);
        let Link { next, previous } = *self.at(me);
        if next == me {
            return None;
        }
        self.at(previous).next = next;
        self.at(next).previous = previous;
        self::place(next)
    }
}

/// A list. Places are in no list when they are pushed, and in this one when they are removed: the callers keep a state for each
/// place that says where it is. What is beyond the table is never in a list.
#[derive(Clone, Copy, Debug)]
pub struct List<P> {
    first: u32,
    last: u32,
    len: u32,
    places: PhantomData<P>,
}

/// How the links name `place`.
fn end<P: Place>(place: P) -> u32 {
    place.number() + 1
}

/// The place of an end.
fn place<P: Place>(end: u32) -> Option<P> {
    end.checked_sub(1).and_then(P::of)
}

impl<P: Place> Default for List<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Place> List<P> {
    /// The empty list.
    pub const fn new() -> Self {
        List { first: 0, last: 0, len: 0, places: PhantomData }
    }

    /// How many places are in it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first place.
    pub fn first(&self) -> Option<P> {
        place(self.first)
    }

    /// The last place.
    pub fn last(&self) -> Option<P> {
        place(self.last)
    }

    /// All places, from the first one on.
    pub fn all<'l>(&self, links: &'l Links) -> impl Iterator<Item = P> + use<'l, P> {
        let (mut at, mut left) = (self.first, self.len);
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let this = place(at);
            at = links.0[at as usize - 1].next;
            this
        })
    }

    /// Puts `place` at the end.
    pub fn push_back(&mut self, links: &mut Links, place: P) {
        if self.insert(links, place) {
            self.last = end(place);
        }
    }

    /// Puts `place` at the start.
    pub fn push_front(&mut self, links: &mut Links, place: P) {
        if self.insert(links, place) {
            self.first = end(place);
        }
    }

    /// Links `place` in between the last place and the first. False when it is beyond the table.
    #[inline]
    fn insert(&mut self, links: &mut Links, place: P) -> bool {
        if !links.join(place, self.first()) {
            return false;
        }
        if self.len == 0 {
            (self.first, self.last) = (end(place), end(place));
        }
        self.len += 1;
        true
    }

    /// Moves the first place to the end.
    #[inline]
    pub fn rotate(&mut self, links: &mut Links) -> Option<P> {
        let place = self.first()?;
        self.last = self.first;
        self.first = links.at(self.first).next;
        Some(place)
    }

    /// Takes the first place out.
    pub fn pop_front(&mut self, links: &mut Links) -> Option<P> {
        let place = self.first()?;
        self.remove(links, place);
        Some(place)
    }

    /// Puts `other`, which is in no list, in the place of `place`, which is taken out.
    pub fn replace(&mut self, links: &mut Links, place: P, other: P) {
        let (me, its) = (end(place), end(other));
        if !links.join(other, Some(place)) {
            return self.remove(links, place);
        }
        links.part(place);
        for named in [&mut self.first, &mut self.last] {
            if *named == me {
                *named = its;
            }
        }
    }

    /// Takes `place` out, wherever it is.
    pub fn remove(&mut self, links: &mut Links, place: P) {
        let me = end(place);
        let Link { next, previous } = *links.at(me);
        self.len -= 1;
        if self.len == 0 {
            (self.first, self.last) = (0, 0);
            return;
        }
        links.at(previous).next = next;
        links.at(next).previous = previous;
        if self.first == me {
            self.first = next;
        }
        if self.last == me {
            self.last = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Tables;
    use abi::note::TableBytes;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SLOTS: u32 = 1000;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Back(Slot),
        Front(Slot),
        Pop,
        Rotate,
        Remove(Slot),
        Replace(Slot, Slot),
    }

    fn step() -> impl Strategy<Value = Step> {
        let slot = || prop_oneof![0_u32..6, Just(SLOTS - 1)].prop_map(Slot::new);
        prop_oneof![
            slot().prop_map(Step::Back),
            slot().prop_map(Step::Front),
            Just(Step::Pop),
            Just(Step::Rotate),
            slot().prop_map(Step::Remove),
            (slot(), slot()).prop_map(|(slot, other)| Step::Replace(slot, other))
        ]
    }

    proptest! {
        /// Two lists over one table behave as two deques.
        #[test]
        fn like_deques(steps in prop::collection::vec((step(), any::<bool>()), 0..200)) {
            let mut tables = Tables::on_heap(TableBytes { per_slot: Links::BYTES, per_seat: 0, ..TableBytes::NONE }, SLOTS as usize, 0);
            let mut links = Links::new(tables.per_slot());
            let mut lists = [List::new(), List::new()];
            let mut models = [VecDeque::new(), VecDeque::new()];
            for (step, which) in steps {
                let which = usize::from(which);
                match step {
                    Step::Back(slot) | Step::Front(slot) => {
                        if models.iter().any(|model| model.contains(&slot)) {
                            continue;
                        }
                        if matches!(step, Step::Back(_)) {
                            lists[which].push_back(&mut links, slot);
                            models[which].push_back(slot);
                        } else {
                            lists[which].push_front(&mut links, slot);
                            models[which].push_front(slot);
                        }
                    }
                    Step::Pop => prop_assert_eq!(lists[which].pop_front(&mut links), models[which].pop_front()),
                    Step::Rotate => {
                        let first = models[which].pop_front();
                        models[which].extend(first);
                        prop_assert_eq!(lists[which].rotate(&mut links), first);
                    }
                    Step::Replace(slot, other) => {
                        let at = models[which].iter().position(|&this| this == slot);
                        if let Some(at) = at.filter(|_| !models.iter().any(|model| model.contains(&other))) {
                            models[which][at] = other;
                            lists[which].replace(&mut links, slot, other);
                        }
                    }
                    Step::Remove(slot) => {
                        if let Some(at) = models[which].iter().position(|&other| other == slot) {
                            models[which].remove(at);
                            lists[which].remove(&mut links, slot);
                        }
                    }
                }
                for (list, model) in lists.iter().zip(&models) {
                    prop_assert_eq!(list.len() as usize, model.len());
                    prop_assert_eq!(list.is_empty(), model.is_empty());
                    prop_assert_eq!(list.first(), model.front().copied());
                    prop_assert_eq!(list.last(), model.back().copied());
                }
            }
            for (list, model) in lists.iter_mut().zip(&mut models) {
                while let Some(slot) = model.pop_front() {
                    prop_assert_eq!(list.pop_front(&mut links), Some(slot));
                }
                prop_assert_eq!(list.pop_front(&mut links), None);
            }
        }
    }
}

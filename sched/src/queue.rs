//! First-in-first-out lists of VM slots, linked through tables: every operation takes the same short time.

use abi::limits::MAX_VMS;
use abi::vm::Slot;

/// Links of all slots. A slot is in one list of its table at most. 0 means none, `i + 1` slot `i`, so that an empty table is
/// all zeros.
#[derive(Debug)]
pub struct Links([Link; MAX_VMS]);

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
}

impl Links {
    /// No slot is in a list.
    pub const fn new() -> Self {
        Links([Link { next: 0, previous: 0 }; MAX_VMS])
    }

    /// The link behind the end `end`, which is not 0.
    fn at(&mut self, end: u32) -> &mut Link {
        &mut self.0[Slot::new(end - 1).index()]
    }
}

impl Default for Links {
    fn default() -> Self {
        Self::new()
    }
}

/// How the links name `slot`.
const fn end(slot: Slot) -> u32 {
    slot.number() + 1
}

/// The slot of an end.
fn place(end: u32) -> Option<Slot> {
    end.checked_sub(1).map(Slot::new)
}

/// A list. Slots are below [`MAX_VMS`], in no list when they are pushed, and in this one when they are removed: the callers
/// keep a state for each slot that says where it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl List {
    /// The empty list.
    pub const fn new() -> Self {
        List { first: 0, last: 0, len: 0 }
    }

    /// How many slots are in it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first slot.
    pub fn first(&self) -> Option<Slot> {
        place(self.first)
    }

    /// The last slot.
    pub fn last(&self) -> Option<Slot> {
        place(self.last)
    }

    /// Puts `slot` at the end.
    pub fn push_back(&mut self, links: &mut Links, slot: Slot) {
        let me = end(slot);
        *links.at(me) = Link { next: 0, previous: self.last };
        match self.last {
            0 => self.first = me,
            last => links.at(last).next = me,
        }
        self.last = me;
        self.len += 1;
    }

    /// Puts `slot` at the start.
    pub fn push_front(&mut self, links: &mut Links, slot: Slot) {
        let me = end(slot);
        *links.at(me) = Link { next: self.first, previous: 0 };
        match self.first {
            0 => self.last = me,
            first => links.at(first).previous = me,
        }
        self.first = me;
        self.len += 1;
    }

    /// Takes the first slot out.
    pub fn pop_front(&mut self, links: &mut Links) -> Option<Slot> {
        let slot = self.first()?;
        self.remove(links, slot);
        Some(slot)
    }

    /// Takes `slot` out, wherever it is.
    pub fn remove(&mut self, links: &mut Links, slot: Slot) {
        let Link { next, previous } = *links.at(end(slot));
        match previous {
            0 => self.first = next,
            previous => links.at(previous).next = next,
        }
        match next {
            0 => self.last = previous,
            next => links.at(next).previous = previous,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Back(Slot),
        Front(Slot),
        Pop,
        Remove(Slot),
    }

    fn step() -> impl Strategy<Value = Step> {
        let last = u32::try_from(MAX_VMS - 1).expect("small");
        let slot = || prop_oneof![0_u32..6, Just(last)].prop_map(Slot::new);
        prop_oneof![
            slot().prop_map(Step::Back),
            slot().prop_map(Step::Front),
            Just(Step::Pop),
            slot().prop_map(Step::Remove)
        ]
    }

    proptest! {
        /// Two lists over one table behave as two deques.
        #[test]
        fn like_deques(steps in prop::collection::vec((step(), any::<bool>()), 0..200)) {
            let mut links = Box::new(Links::new());
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

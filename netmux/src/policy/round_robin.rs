//! Round robin with a deficit: every VM that has something to send gets the same share of the work, whatever the size of its
//! frames. A frame costs its bytes and a bit for itself, and may be begun while anything of the allowance is left; what a turn
//! overspends is owed. `drr` is the discipline that counts bytes only.

use super::{Discipline, More, Next, Turn};
use crate::SLOTS;

/// What a turn may spend: four full frames, or 25 of the shortest.
pub const QUANTUM: i32 = 4 * (1514 + FRAME_COST);

/// What sending a frame costs beside its bytes. It is about what the work per frame costs in terms of the work per
/// byte, and so bounds the frames of a turn together with their bytes.
pub const FRAME_COST: i32 = 256;

/// The state of one slot; all zero when it is not queued and owes nothing.
#[derive(Clone, Copy)]
struct Entry {
    /// The slot that comes after this one, plus 1; 0 for the last.
    next: u16,
    /// What the VM overspent in its last turn, at most a full frame's cost, or has left because it was cut off.
    balance: i16,
    queued: bool,
}

/// Deficit round robin over `N` slots, as a linked list within a table: all operations take constant time.
pub struct RoundRobin<const N: usize = SLOTS> {
    entries: [Entry; N],
    /// First and last slot of the queue, plus 1; 0 when it is empty.
    first: u16,
    last: u16,
}

impl<const N: usize> RoundRobin<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        RoundRobin { entries: [Entry { next: 0, balance: 0, queued: false }; N], first: 0, last: 0 }
    }

    fn append(&mut self, slot: u16) {
        let Some(entry) = self.entries.get_mut(usize::from(slot)) else { return };
        if entry.queued {
            return;
        }
        entry.queued = true;
        entry.next = 0;
        match self.last {
            0 => self.first = slot + 1,
            last => self.entries[usize::from(last - 1)].next = slot + 1,
        }
        self.last = slot + 1;
    }
}

impl<const N: usize> Default for RoundRobin<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Discipline for RoundRobin<N> {
    const NAME: &'static str = "round-robin";

    fn enqueue(&mut self, slot: u16) {
        self.append(slot);
    }

    fn next(&mut self, _now: u64) -> Next {
        let Some(slot) = self.first.checked_sub(1) else { return Next::Nobody };
        let entry = &mut self.entries[usize::from(slot)];
        entry.queued = false;
        self.first = entry.next;
        if self.first == 0 {
            self.last = 0;
        }
        // What a frame costs bounds their number.
        Next::Turn(Turn { slot, allowance: QUANTUM + i32::from(entry.balance), buffers: u16::MAX })
    }

    fn cost(&self, len: usize) -> i32 {
        i32::try_from(len).unwrap_or(i32::MAX - FRAME_COST) + FRAME_COST
    }

    fn affords(&self, left: i32, _cost: i32) -> bool {
        left > 0
    }

    fn finish(&mut self, slot: u16, left: i32, more: More, _now: u64) {
        let more = more != More::Nothing;
        let Some(entry) = self.entries.get_mut(usize::from(slot)) else { return };
        // Who has nothing more to send keeps no credit, but still owes what it overspent.
        let balance = if more { left.min(QUANTUM) } else { left.min(0) };
        entry.balance = i16::try_from(balance).unwrap_or(if balance < 0 { i16::MIN } else { i16::MAX });
        if more {
            self.append(slot);
        }
    }

    fn remove(&mut self, slot: u16) {
        let Some(entry) = self.entries.get(usize::from(slot)) else { return };
        if entry.queued {
            let mut before = 0;
            let mut at = self.first;
            // Bounded: the list has no slot twice.
            while at != 0 && at != slot + 1 {
                before = at;
                at = self.entries[usize::from(at - 1)].next;
            }
            let next = self.entries[usize::from(slot)].next;
            match before {
                0 => self.first = next,
                before => self.entries[usize::from(before - 1)].next = next,
            }
            if self.last == slot + 1 {
                self.last = before;
            }
        }
        self.entries[usize::from(slot)] = Entry { next: 0, balance: 0, queued: false };
    }

    fn is_empty(&self) -> bool {
        self.first == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn next<const N: usize>(queue: &mut RoundRobin<N>) -> Option<Turn> {
        match queue.next(0) {
            Next::Turn(turn) => Some(turn),
            Next::Nobody => None,
            Next::At(_) => panic!("nobody waits for a time"),
        }
    }

    #[test]
    fn serves_in_the_order_of_arrival_and_once_each() {
        let mut queue = RoundRobin::<8>::new();
        for slot in [3, 1, 3, 7] {
            queue.enqueue(slot);
        }
        queue.enqueue(8);
        let order: Vec<u16> = core::iter::from_fn(|| next(&mut queue).map(|turn| turn.slot)).collect();
        assert_eq!(order, [3, 1, 7]);
        assert!(queue.is_empty());
    }

    #[test]
    fn short_and_long_frames_get_the_same_share() {
        let mut queue = RoundRobin::<2>::new();
        queue.enqueue(0);
        queue.enqueue(1);
        let lengths = [60, 1514];
        let mut spent = [0_i64; 2];
        for _ in 0..1000 {
            let turn = next(&mut queue).expect("both always have more");
            let mut left = turn.allowance;
            let index = usize::from(turn.slot);
            while left > 0 {
                left -= queue.cost(lengths[index]);
                spent[index] += i64::from(queue.cost(lengths[index]));
            }
            queue.finish(turn.slot, left, More::Perhaps, 0);
        }
        assert!((spent[0] - spent[1]).abs() <= i64::from(QUANTUM), "{spent:?}");
    }

    #[test]
    fn an_idle_vm_saves_no_credit() {
        let mut queue = RoundRobin::<1>::new();
        for _ in 0..100 {
            queue.enqueue(0);
            let turn = next(&mut queue).expect("queued");
            assert!(turn.allowance <= QUANTUM);
            queue.finish(0, turn.allowance - queue.cost(60), More::Nothing, 0);
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_queue_without_duplicates(steps in proptest::collection::vec((0..4_u8, 0..6_u16), 0..200)) {
            let mut queue = RoundRobin::<6>::new();
            let mut model = VecDeque::new();
            for (step, slot) in steps {
                match step {
                    0 | 1 => {
                        queue.enqueue(slot);
                        if !model.contains(&slot) {
                            model.push_back(slot);
                        }
                    }
                    2 => {
                        queue.remove(slot);
                        model.retain(|&other| other != slot);
                    }
                    _ => {
                        let turn = next(&mut queue);
                        prop_assert_eq!(turn.map(|turn| turn.slot), model.pop_front());
                        if let Some(turn) = turn {
                            let more = if slot % 2 == 0 { More::Perhaps } else { More::Nothing };
                            queue.finish(turn.slot, 0, more, 0);
                            if slot % 2 == 0 {
                                model.push_back(turn.slot);
                            }
                        }
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}

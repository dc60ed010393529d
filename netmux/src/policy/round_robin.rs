//! Round robin with a deficit: every VM that has something to send gets the same share of the work, whatever the size of its
//! frames. A frame costs its bytes and a bit for itself, and may be begun while anything of the allowance is left; what a turn
//! overspends is owed. `drr` is the discipline that counts bytes only.

use super::{Discipline, Fifo, More, Next, Turn};
use abi::vm::Seat;
use component::{Table, Tables};

/// What a turn may spend: four full frames, or 25 of the shortest.
pub const QUANTUM: i32 = 4 * (1514 + FRAME_COST);

/// What sending a frame costs beside its bytes. It is about what the work per frame costs in terms of the work per
/// byte, and so bounds the frames of a turn together with their bytes.
pub const FRAME_COST: i32 = 256;

/// Deficit round robin: all operations take constant time.
#[derive(Debug)]
pub struct RoundRobin {
    /// What a VM overspent in its last turn, at most a full frame's cost, or has left because it was cut off.
    balances: Table<i16>,
    queue: Fifo,
}

impl Discipline for RoundRobin {
    const NAME: &'static str = "round-robin";
    // Eight.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = size_of::<i16>() as u32 + Fifo::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        RoundRobin { balances: tables.per_seat(), queue: Fifo::new(tables) }
    }

    #[inline]
    fn enqueue(&mut self, seat: Seat) {
        self.queue.push(seat);
    }

    #[inline]
    fn next(&mut self, _now: u64) -> Next {
        let Some(seat) = self.queue.pop() else { return Next::Nobody };
        let balance = self.balances.get(seat.index()).copied().unwrap_or(0);
        // What a frame costs bounds their number.
        Next::Turn(Turn { seat, allowance: QUANTUM + i32::from(balance), buffers: u16::MAX })
    }

    fn cost(&self, len: usize) -> i32 {
        i32::try_from(len).unwrap_or(i32::MAX - FRAME_COST) + FRAME_COST
    }

    fn affords(&self, left: i32, _cost: i32) -> bool {
        left > 0
    }

    #[inline]
    fn finish(&mut self, seat: Seat, left: i32, more: More, _now: u64) {
        let more = more != More::Nothing;
        let Some(place) = self.balances.reach(seat.index()) else { return };
        // Who has nothing more to send keeps no credit, but still owes what it overspent.
        let balance = if more { left.min(QUANTUM) } else { left.min(0) };
        *place = i16::try_from(balance).unwrap_or(if balance < 0 { i16::MIN } else { i16::MAX });
        if more {
            self.queue.push(seat);
        }
    }

    fn remove(&mut self, seat: Seat) {
        self.queue.remove(seat);
        if let Some(balance) = self.balances.get_mut(seat.index()) {
            *balance = 0;
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_link::new;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    fn next(queue: &mut RoundRobin) -> Option<Turn> {
        match queue.next(0) {
            Next::Turn(turn) => Some(turn),
            Next::Nobody => None,
            Next::At(_) => panic!("nobody waits for a time"),
        }
    }

    #[test]
    fn serves_in_the_order_of_arrival_and_once_each() {
        let mut queue = new::<RoundRobin>(8);
        for slot in [3, 1, 3, 7] {
            queue.enqueue(Seat::new(slot));
        }
        queue.enqueue(Seat::new(8));
        let order: Vec<u16> = core::iter::from_fn(|| next(&mut queue).map(|turn| turn.seat.number())).collect();
        assert_eq!(order, [3, 1, 7]);
        assert!(queue.is_empty());
    }

    #[test]
    fn short_and_long_frames_get_the_same_share() {
        let mut queue = new::<RoundRobin>(2);
        queue.enqueue(Seat::new(0));
        queue.enqueue(Seat::new(1));
        let lengths = [60, 1514];
        let mut spent = [0_i64; 2];
        for _ in 0..1000 {
            let turn = next(&mut queue).expect("both always have more");
            let mut left = turn.allowance;
            let index = turn.seat.index();
            while left > 0 {
                left -= queue.cost(lengths[index]);
                spent[index] += i64::from(queue.cost(lengths[index]));
            }
            queue.finish(turn.seat, left, More::Perhaps, 0);
        }
        assert!((spent[0] - spent[1]).abs() <= i64::from(QUANTUM), "{spent:?}");
    }

    #[test]
    fn an_idle_vm_saves_no_credit() {
        let mut queue = new::<RoundRobin>(1);
        for _ in 0..100 {
            queue.enqueue(Seat::new(0));
            let turn = next(&mut queue).expect("queued");
            assert!(turn.allowance <= QUANTUM);
            queue.finish(Seat::new(0), turn.allowance - queue.cost(60), More::Nothing, 0);
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_queue_without_duplicates(steps in proptest::collection::vec((0..4_u8, 0..6_u16), 0..200)) {
            let mut queue = new::<RoundRobin>(6);
            let mut model = VecDeque::new();
            for (step, seat) in steps {
                let seat = Seat::new(seat);
                match step {
                    0 | 1 => {
                        queue.enqueue(seat);
                        if !model.contains(&seat) {
                            model.push_back(seat);
                        }
                    }
                    2 => {
                        queue.remove(seat);
                        model.retain(|&other| other != seat);
                    }
                    _ => {
                        let turn = next(&mut queue);
                        prop_assert_eq!(turn.map(|turn| turn.seat), model.pop_front());
                        if let Some(turn) = turn {
                            let more = if seat.number().is_multiple_of(2) { More::Perhaps } else { More::Nothing };
                            queue.finish(turn.seat, 0, more, 0);
                            if seat.number().is_multiple_of(2) {
                                model.push_back(turn.seat);
                            }
                        }
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}

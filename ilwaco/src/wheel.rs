//! A hierarchical timer wheel (Varghese and Lauck, SOSP 1987): four levels of 64 slots. Adding and removing a timer is
//! O(1); a timer moves down at most three times before it fires.
//!
//! Pure: ticks come in, due values go out. What a tick is, is the caller's business.

use alloc::vec::Vec;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
const LEVELS_U32: u32 = 4;
/// Ticks that the wheel reaches: one slot of the top level less than a full turn, so that no timer lands in the slot of the
/// present. A timer beyond waits in the last slot in reach and is placed again from there.
const REACH: u64 = (1 << (6 * 4)) - (1 << (6 * 3));
/// No entry.
const NONE: u16 = u16::MAX;

/// Names a timer in a [`Wheel`], for as long as it is there; afterwards, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u16,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    deadline: u64,
    generation: u32,
    next: u16,
    previous: u16,
    /// Level times [`SLOTS`] plus slot.
    place: u16,
    /// `None` while the entry is free.
    value: Option<T>,
}

/// A set of timers with a value each.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// Ticks up to here have been dealt with.
    now: u64,
    /// Bit `s` of word `l`: slot `s` of level `l` has a timer.
    occupied: [u64; LEVELS],
    heads: [u16; LEVELS * SLOTS],
    entries: Vec<Entry<T>>,
    free: u16,
    /// Timers ever added.
    generation: u32,
}

impl<T> Wheel<T> {
    pub(crate) const fn new() -> Wheel<T> {
        Wheel {
            now: 0,
            occupied: [0; LEVELS],
            heads: [NONE; LEVELS * SLOTS],
            entries: Vec::new(),
            free: NONE,
            generation: 0,
        }
    }

    /// Adds a timer that is due at the tick `deadline`; one that lies in the past is due at the next [`Wheel::advance`]. `None` when there are
    /// 65,535 timers already.
    pub(crate) fn insert(&mut self, deadline: u64, value: T) -> Option<TimerKey> {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = if self.free == NONE {
            let index = u16::try_from(self.entries.len()).ok().filter(|&index| index != NONE)?;
            self.entries.push(Entry { deadline, generation, next: NONE, previous: NONE, place: 0, value: Some(value) });
            index
        } else {
            let index = self.free;
            let entry = &mut self.entries[usize::from(index)];
            self.free = entry.next;
            entry.deadline = deadline;
            entry.generation = generation;
            entry.value = Some(value);
            index
        };
        self.place(index);
        Some(TimerKey { index, generation })
    }

    /// The value of a timer that is not due yet.
    pub(crate) fn get(&self, key: TimerKey) -> Option<&T> {
        let entry = self.entries.get(usize::from(key.index)).filter(|entry| entry.generation == key.generation)?;
        entry.value.as_ref()
    }

    /// Takes a timer out before it is due; `None` when it is gone already.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get_mut(usize::from(key.index)).filter(|entry| entry.generation == key.generation)?;
        let value = entry.value.take()?;
        self.unlink(key.index);
        self.release(key.index);
        Some(value)
    }

    /// Moves the time to `now` and calls `due` with every timer whose deadline is not later, each of which is gone then.
    pub(crate) fn advance(&mut self, now: u64, mut due: impl FnMut(T)) {
        while let Some((level, slot, start)) = self.first_slot() {
            if start > now {
                break;
            }
            self.now = self.now.max(start);
            let place = level * SLOTS + slot;
            let mut index = core::mem::replace(&mut self.heads[place], NONE);
            self.occupied[level] &= !(1 << slot);
            while index != NONE {
                let entry = &mut self.entries[usize::from(index)];
                let next = entry.next;
                if entry.deadline <= now {
                    let value = entry.value.take();
                    self.release(index);
                    value.into_iter().for_each(&mut due);
                } else {
                    self.place(index);
                }
                index = next;
            }
        }
        self.now = self.now.max(now);
    }

    /// When [`Wheel::advance`] has something to do next: the earliest deadline (or a little before one that is beyond the wheel's
    /// reach); `None` without a timer.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let (level, slot, start) = self.first_slot()?;
        let mut index = self.heads[level * SLOTS + slot];
        // Timers from beyond the reach wait in slots that end before their deadline, and later slots may hold earlier ones.
        let mut earliest = start + (1 << (6 * level));
        while index != NONE {
            let entry = &self.entries[usize::from(index)];
            earliest = earliest.min(entry.deadline);
            index = entry.next;
        }
        Some(earliest)
    }

    /// How many timers there can be before more memory is taken.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Takes memory for so many timers in all.
    pub(crate) fn reserve(&mut self, timers: usize) {
        self.entries.reserve_exact(timers.saturating_sub(self.entries.len()));
    }

    /// Bytes that so many timers take.
    pub(crate) fn bytes(timers: usize) -> usize {
        timers * size_of::<Entry<T>>()
    }

    /// Gives back the memory of timers that are gone, when none is left.
    pub(crate) fn shrink(&mut self) {
        if self.occupied == [0; LEVELS] {
            self.entries = Vec::new();
            self.free = NONE;
        }
    }

    /// The first slot with a timer, and the tick at which its range starts. Timers of a lower level come before those of a
    /// higher one.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let (level, bits) = self.occupied.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        // Slots are used in a circle that starts at the slot of `now`.
        let shift = SLOT_BITS * u32::try_from(level).unwrap_or(0);
        let at = slot_of(self.now, shift);
        let turns = bits.rotate_right(at).trailing_zeros();
        let slot = (at + turns) % 64;
        let range = 1_u64 << shift;
        let circle = range << SLOT_BITS;
        let mut start = (self.now & !(circle - 1)) + u64::from(slot) * range;
        if slot < at {
            start += circle;
        }
        Some((level, usize::try_from(slot).unwrap_or(0), start))
    }

    /// Puts an entry, which is in no slot, where its deadline belongs.
    fn place(&mut self, index: u16) {
        let deadline = self.entries[usize::from(index)].deadline.clamp(self.now, self.now + REACH);
        let differ = (deadline ^ self.now) | 1;
        let level = ((u64::BITS - 1 - differ.leading_zeros()) / SLOT_BITS).min(LEVELS_U32 - 1);
        let slot = slot_of(deadline, level * SLOT_BITS);
        let level = usize::try_from(level).unwrap_or(0);
        let place = level * SLOTS + usize::try_from(slot).unwrap_or(0);
        let head = self.heads[place];
        let entry = &mut self.entries[usize::from(index)];
        entry.next = head;
        entry.previous = NONE;
        entry.place = u16::try_from(place).unwrap_or(0);
        if head != NONE {
            self.entries[usize::from(head)].previous = index;
        }
        self.heads[place] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u16) {
        let Entry { next, previous, place, .. } = self.entries[usize::from(index)];
        let place = usize::from(place);
        if next != NONE {
            self.entries[usize::from(next)].previous = previous;
        }
        if previous != NONE {
            self.entries[usize::from(previous)].next = next;
        } else {
            self.heads[place] = next;
            if next == NONE {
                self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        }
    }

    fn release(&mut self, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        entry.next = self.free;
        self.free = index;
    }
}

fn slot_of(tick: u64, shift: u32) -> u32 {
    u32::try_from(tick >> shift & (64 - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn due(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut all = Vec::new();
        wheel.advance(now, |value| all.push(value));
        all.sort_unstable();
        all
    }

    #[test]
    fn fires_at_the_deadline_and_not_before() {
        for deadline in [0, 1, 63, 64, 65, 4095, 4096, 262_144, 1 << 24, (1 << 24) + 5, 1 << 30] {
            let mut wheel = Wheel::new();
            wheel.insert(deadline, deadline);
            while let Some(next) = wheel.next_deadline().filter(|&next| next < deadline) {
                assert!(deadline > REACH, "only a timer beyond the reach costs a wake-up on the way");
                assert_eq!(due(&mut wheel, next), vec![]);
            }
            assert_eq!(wheel.next_deadline(), Some(deadline));
            if deadline > 0 {
                assert_eq!(due(&mut wheel, deadline - 1), vec![], "{deadline}");
                assert_eq!(wheel.next_deadline(), Some(deadline));
            }
            assert_eq!(due(&mut wheel, deadline), vec![deadline]);
            assert_eq!(wheel.next_deadline(), None);
        }
    }

    #[test]
    fn the_past_is_due_at_once() {
        let mut wheel = Wheel::new();
        wheel.advance(1000, |()| ());
        wheel.insert(10, ());
        let mut fired = 0;
        wheel.advance(1000, |()| fired += 1);
        assert_eq!(fired, 1);
    }

    #[test]
    fn removed_timers_do_not_fire_and_slots_are_used_again() {
        let mut wheel = Wheel::new();
        for round in 0..1000 {
            let a = wheel.insert(round + 50, 1).expect("room");
            let b = wheel.insert(round + 50, 2).expect("room");
            assert_eq!(wheel.remove(a), Some(1));
            assert_eq!(wheel.remove(a), None);
            assert_eq!(wheel.remove(b), Some(2));
            wheel.advance(round, |_| panic!("nothing is left"));
        }
        assert_eq!(wheel.entries.len(), 2);
        wheel.shrink();
        assert_eq!(wheel.entries.capacity(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(steps in prop::collection::vec((0u8..4, 0u64..300_000, any::<prop::sample::Index>()), 1..300)) {
            let mut wheel = Wheel::new();
            let mut model: Vec<(u64, u64, TimerKey)> = Vec::new();
            let mut now = 0u64;
            for (id, (kind, amount, which)) in (0u64..).zip(steps) {
                match kind {
                    0 | 1 => {
                        let deadline = if kind == 0 { now + amount } else { now + amount % 130 };
                        model.push((deadline, id, wheel.insert(deadline, id).expect("room")));
                    }
                    2 if !model.is_empty() => {
                        let (_, id, key) = model.swap_remove(which.index(model.len()));
                        prop_assert_eq!(wheel.remove(key), Some(id));
                    }
                    _ => {
                        now += amount / 4;
                        let mut expected: Vec<u64> = model.iter().filter(|t| t.0 <= now).map(|t| t.1).collect();
                        expected.sort_unstable();
                        model.retain(|t| t.0 > now);
                        prop_assert_eq!(due(&mut wheel, now), expected);
                    }
                }
                prop_assert_eq!(wheel.next_deadline(), model.iter().map(|t| t.0).min());
            }
        }
    }
}

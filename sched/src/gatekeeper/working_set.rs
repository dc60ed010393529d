//! `gatekeeper=working-set`: as long as there is no room for whose turn it is, those pass it for whom there is, so that frames that are free are in use. Whoever
//! is first is passed a bounded number of times, so it comes in at the latest when what was free then and what has been given back since is enough.

use abi::vm::Slot;

/// VMs that pass whoever is first at most.
pub const PASSES: u32 = 32;
/// VMs behind the first that are looked at.
pub const LOOKS: usize = 8;

/// Who is first, and how many have passed it.
#[derive(Debug, Default)]
pub struct WorkingSet {
    first: Option<Slot>,
    passed: u32,
}

impl WorkingSet {
    /// Nobody has been passed.
    pub fn reset(&mut self) {
        *self = WorkingSet::default();
    }

    /// Who is admitted, of those that wait, in turn.
    pub fn next(&mut self, mut waiting: impl Iterator<Item = Slot>, fits: impl Fn(Slot) -> bool) -> Option<Slot> {
        let first = waiting.next()?;
        if self.first != Some(first) {
            *self = WorkingSet { first: Some(first), passed: 0 };
        }
        if fits(first) {
            return Some(first);
        }
        if self.passed == PASSES {
            return None;
        }
        let passes = waiting.take(LOOKS).find(|&slot| fits(slot))?;
        self.passed += 1;
        Some(passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(numbers: core::ops::Range<u32>) -> impl Iterator<Item = Slot> {
        numbers.map(Slot::new)
    }

    #[test]
    fn who_fits_passes_so_often_and_not_once_more() {
        let mut set = WorkingSet::default();
        let small = |slot: Slot| slot.number() > 2;
        for _ in 0..PASSES {
            assert_eq!(set.next(slots(0..9), small), Some(Slot::new(3)));
        }
        assert_eq!(set.next(slots(0..9), small), None);
        // The first itself comes in when there is room; the next one is another one, and nobody has passed that.
        assert_eq!(set.next(slots(0..9), |_| true), Some(Slot::new(0)));
        for _ in 0..PASSES {
            assert_eq!(set.next(slots(1..9), small), Some(Slot::new(3)));
        }
        assert_eq!(set.next(slots(1..9), small), None);
        set.reset();
        assert_eq!(set.next(slots(1..9), small), Some(Slot::new(3)), "after a restart nobody has been passed");
    }

    #[test]
    fn only_so_many_are_looked_at() {
        let last = u32::try_from(LOOKS).expect("few");
        for (fits, found) in [(last, Some(Slot::new(last))), (last + 1, None)] {
            assert_eq!(WorkingSet::default().next(slots(0..99), |slot| slot.number() == fits), found);
        }
        assert_eq!(WorkingSet::default().next(slots(0..0), |_| true), None);
    }
}

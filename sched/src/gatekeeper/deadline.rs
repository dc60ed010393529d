//! `gatekeeper=deadline`: earliest deadline first. Who was in lately is popular and due at once; who was not is due [`PATIENCE`] later. So popular ones are
//! not kept out by many that are cold, and a cold one is passed by nobody who asks later than it is due.

use super::TICKS_PER_QUANTUM;
use abi::vm::Slot;

/// How long others may pass who has not been in lately: ten quanta, as the gatekeeper counts time.
pub const PATIENCE: u32 = 10 * TICKS_PER_QUANTUM;
/// Who was among so many that have left last is popular.
pub const RECENT: u32 = 64;

/// Whether somebody that left as the `left`-th (0: it never did) is popular, when `departures` have left.
pub fn is_popular(left: u32, departures: u32) -> bool {
    left != 0 && departures.wrapping_sub(left) < RECENT
}

/// Who is first: of the first popular one and the first cold one, with when they asked, the one that is due earlier. Times go round.
pub fn first(popular: Option<(Slot, u32)>, cold: Option<(Slot, u32)>) -> Option<Slot> {
    match (popular, cold) {
        (Some((popular, asked)), Some((cold, before))) => {
            let earlier = before.wrapping_add(PATIENCE).wrapping_sub(asked).cast_signed() <= 0;
            Some(if earlier { cold } else { popular })
        }
        (popular, cold) => popular.or(cold).map(|(slot, _)| slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_due_earlier_is_first_whenever_that_is() {
        let [popular, cold] = [1, 2].map(Slot::new);
        for now in [0, 5000, u32::MAX - 7] {
            let first = |later| first(Some((popular, now.wrapping_add(later))), Some((cold, now)));
            assert_eq!([0, PATIENCE - 1, PATIENCE, PATIENCE + 9].map(first), [popular, popular, cold, cold].map(Some));
        }
        assert_eq!(first(Some((popular, 7)), None), Some(popular));
        assert_eq!(first(None, Some((cold, 7))), Some(cold));
        assert_eq!(first(None, None), None);
        assert_eq!((PATIENCE / TICKS_PER_QUANTUM, PATIENCE % TICKS_PER_QUANTUM), (10, 0));
    }

    #[test]
    fn popular_is_who_left_last() {
        assert!(is_popular(5, 5) && is_popular(5, 4 + RECENT) && !is_popular(5, 5 + RECENT));
        assert!(!is_popular(0, 3), "it has not been in");
        assert!(is_popular(u32::MAX, 2), "numbers go round");
    }
}

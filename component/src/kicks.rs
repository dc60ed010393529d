//! Finding who has kicked ([`abi::component::kicks`]).

use abi::component::kicks::{MIDDLE, SEATS, TOP};
use abi::vm::Seat;

/// Names to `kicked` the seats below `seats` whose bits are set. `take` returns the word at an offset and leaves 0 there. As many steps as
/// there are bits, of any level.
#[inline]
pub(crate) fn take(seats: u32, take: impl Fn(usize) -> u64, mut kicked: impl FnMut(Seat)) {
    for middle in ones(take(TOP)) {
        for word in ones(take(MIDDLE + 8 * middle)).map(|bit| 64 * middle + bit) {
            for seat in ones(take(SEATS + 8 * word)).map(|bit| 64 * word + bit) {
                if let Some(seat) = u16::try_from(seat).ok().filter(|&seat| u32::from(seat) < seats) {
                    kicked(Seat::new(seat));
                }
            }
        }
    }
}

/// The numbers of the bits that are set.
#[inline]
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::limits::MAX_SEATS;
    use core::cell::RefCell;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// Sets bits as the core does.
    fn set(words: &mut [u64], seat: usize) {
        words[SEATS / 8 + seat / 64] |= 1 << (seat % 64);
        words[MIDDLE / 8 + seat / 4096] |= 1 << (seat / 64 % 64);
        words[TOP / 8] |= 1 << (seat / 4096);
    }

    fn taken(words: &RefCell<Vec<u64>>) -> Vec<usize> {
        let mut found = Vec::new();
        let word = |offset: usize| core::mem::take(&mut words.borrow_mut()[offset / 8]);
        take(65_535, word, |seat| found.push(seat.index()));
        found
    }

    #[test]
    fn a_bit_of_a_seat_that_there_is_not_is_nobodys() {
        let mut words = std::vec![0; 2048];
        set(&mut words, 7);
        set(&mut words, 8);
        let (words, mut found) = (RefCell::new(words), Vec::new());
        take(8, |offset| core::mem::take(&mut words.borrow_mut()[offset / 8]), |seat| found.push(seat.index()));
        assert_eq!(found, [7]);
    }

    proptest! {
        #[test]
        fn all_that_were_set_are_found_once(seats in prop::collection::btree_set(0..MAX_SEATS, 0..200)) {
            let mut words = std::vec![0; 2048];
            for &seat in &seats {
                set(&mut words, seat);
            }
            let words = RefCell::new(words);
            prop_assert_eq!(taken(&words).into_iter().collect::<BTreeSet<_>>(), seats);
            prop_assert!(taken(&words).is_empty() && words.borrow().iter().all(|&word| word == 0));
        }
    }
}

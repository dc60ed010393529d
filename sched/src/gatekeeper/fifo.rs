//! `gatekeeper=fifo`: whose turn it is, and nobody before it.

use abi::vm::Slot;

/// Who is admitted: the first one, if there is room for it.
pub fn next(first: Option<Slot>, fits: impl Fn(Slot) -> bool) -> Option<Slot> {
    first.filter(|&slot| fits(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_or_nobody() {
        let first = Slot::new(3);
        assert_eq!(next(Some(first), |_| true), Some(first));
        assert_eq!(next(Some(first), |slot| slot != first), None);
        assert_eq!(next(None, |_| true), None);
    }
}

//! VMs that have become able to run and may run ahead of the plan, in the order of waking.

use abi::vm::Seat;

/// A seat that is not in the queue, and "no seat behind it".
const NOWHERE: u32 = u32::MAX;
const LAST: u32 = u32::MAX - 1;

/// What unused memory holds.
pub const EMPTY_WAKER: u32 = NOWHERE;

/// Their seats, first in, first out, each once at most. Nobody is taken out who cannot run any more: whoever takes a seat looks.
#[derive(Debug)]
pub struct Wakers<'m> {
    /// Of each seat the one behind it.
    next: &'m mut [u32],
    first: u32,
    last: u32,
}

impl<'m> Wakers<'m> {
    /// Nobody, of the seats `0..next.len()`.
    pub fn new(next: &'m mut [u32]) -> Self {
        next.fill(NOWHERE);
        Wakers { next, first: LAST, last: LAST }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first == LAST
    }

    /// Append a seat, unless it is in the queue already or beyond the table.
    #[inline]
    pub fn push(&mut self, seat: Seat) {
        let number = u32::from(seat.number());
        let Some(next) = self.next.get_mut(seat.index()).filter(|next| **next == NOWHERE) else { return };
        *next = LAST;
        match self.next.get_mut(self.last as usize) {
            Some(last) => *last = number,
            None => self.first = number,
        }
        self.last = number;
    }

    /// Take the seat out that has been in the queue longest.
    #[inline]
    pub fn pop(&mut self) -> Option<Seat> {
        let number = u16::try_from(self.first).ok()?;
        let next = self.next.get_mut(usize::from(number))?;
        self.first = core::mem::replace(next, NOWHERE);
        if self.first == LAST {
            self.last = LAST;
        }
        Some(Seat::new(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_in_the_order_of_waking() {
        let mut memory = [0; 4];
        let mut wakers = Wakers::new(&mut memory);
        assert!(wakers.is_empty() && wakers.pop().is_none());
        for seat in [2, 0, 2, 4, 3] {
            wakers.push(Seat::new(seat));
        }
        assert_eq!((wakers.pop(), wakers.is_empty()), (Some(Seat::new(2)), false));
        // It is the last now.
        wakers.push(Seat::new(2));
        let rest: Vec<_> = core::iter::from_fn(|| wakers.pop()).map(Seat::number).collect();
        assert_eq!(rest, [0, 3, 2]);
        assert!(wakers.is_empty());
        wakers.push(Seat::new(1));
        assert_eq!((wakers.pop(), wakers.pop()), (Some(Seat::new(1)), None));
    }
}

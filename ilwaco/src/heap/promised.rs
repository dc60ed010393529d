//! Bytes of the heap that are kept for whom they were promised to, whatever else wants memory.

use crate::cell::global;
use core::cell::Cell;

global! {
    static PROMISED: Cell<usize> = Cell::new(0);
}

/// So many are, from now on.
#[inline]
pub(crate) fn promise(bytes: usize) {
    PROMISED.with(|promised| promised.set(bytes));
}

/// So many are.
pub(crate) fn promised() -> usize {
    PROMISED.with(Cell::get)
}

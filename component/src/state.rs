//! Large state in `.bss`, handed out once.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that lives in a `static` and can be taken once, so that tables too large for the stack are never moved.
///
/// ```
/// static TABLES: component::Once<[u64; 4096]> = component::Once::new([0; 4096]);
/// let tables = TABLES.take().expect("taken once");
/// tables[7] = 1;
/// assert!(TABLES.take().is_none());
/// ```
///
/// A value of zero bytes only lies in `.bss` and takes no room in the image file; give types `const fn new()` accordingly.
pub struct Once<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: sharing the cell lets other threads do nothing with the value but take it, which moves exclusive access to one of
// them; that is sending the value, so `T: Send` suffices.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Once { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value on the first call, `None` on every other.
    // Exclusive because it is handed out once, which the lint cannot see.
    #[allow(clippy::mut_from_ref)]
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: the flag goes from false to true once, so this line runs once, and nothing else touches `value`: the
        // reference is the only one. The cell is `'static`.
        Some(unsafe { &mut *self.value.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_taken_once() {
        static CELL: Once<[u32; 3]> = Once::new([1, 2, 3]);
        let value = CELL.take().expect("first");
        value[1] = 9;
        assert!(CELL.take().is_none());
        assert_eq!(value, &[1, 9, 3]);
    }

    #[test]
    fn one_thread_wins() {
        static CELL: Once<u64> = Once::new(0);
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| usize::from(CELL.take().is_some()))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(winners, 1);
    }
}

//! Something that happens again and again, and any number of tasks that wait for it.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};

/// How often it has rung, and who waits for it.
pub(super) struct Bell {
    count: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Bell {
    /// It has not rung yet.
    pub(super) const fn new() -> Bell {
        Bell { count: Cell::new(0), wakers: RefCell::new(Vec::new()) }
    }

    /// Rings, and wakes all that wait.
    pub(super) fn ring(&self) {
        self.count.set(self.count.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// How often it has rung.
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Ready when it has rung since its [`Bell::count`] was `seen`.
    pub(super) fn poll_since(&self, seen: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.count.get() != seen {
            return Poll::Ready(());
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// As if it had never rung.
    #[cfg(not(target_os = "none"))]
    pub(super) fn forget(&self) {
        self.count.set(0);
        self.wakers.take();
    }
}

//! A port at which connections are accepted, as the stack knows it.

use alloc::collections::VecDeque;
use core::task::Waker;

/// What the stack knows about a port at which somebody listens.
pub(super) struct Listener {
    pub(super) port: u16,
    /// Places of connections that wait to be accepted; their number is bounded by that of connections.
    pub(super) queue: VecDeque<usize>,
    pub(super) waker: Option<Waker>,
}

impl Listener {
    pub(super) fn new(port: u16) -> Listener {
        Listener { port, queue: VecDeque::new(), waker: None }
    }

    /// A connection has been established.
    pub(super) fn established(&mut self, index: usize) {
        self.queue.push_back(index);
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Gives memory that is not in use back to the heap.
    pub(super) fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
}

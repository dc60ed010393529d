//! Time and interrupts of the fake machine, which its CPU and its board share.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};

/// The TSC, the timer and the interrupt controller.
#[derive(Debug)]
pub struct Wires {
    now: Cell<u64>,
    /// TSC at which the timer fires, `u64::MAX` for never.
    timer: Cell<u64>,
    timer_vector: u8,
    waiting: RefCell<VecDeque<u8>>,
}

impl Wires {
    /// A machine at the TSC `now` whose timer raises `timer_vector`.
    pub fn new(now: u64, timer_vector: u8) -> Self {
        Wires { now: Cell::new(now), timer: Cell::new(u64::MAX), timer_vector, waiting: RefCell::new(VecDeque::new()) }
    }

    /// The TSC. To read it takes a tick, so no two readings are equal.
    pub fn now(&self) -> u64 {
        self.spend(1);
        self.now.get()
    }

    /// Time passes.
    pub fn spend(&self, ticks: u64) {
        self.now.set(self.now.get() + ticks);
    }

    /// Time passes until the timer fires, so many ticks at most.
    pub fn spend_undisturbed(&self, most: u64) {
        self.spend(most.min(self.timer.get().saturating_sub(self.now.get())));
    }

    /// The timer fires at the TSC `deadline`.
    pub fn set_timer(&self, deadline: u64) {
        self.timer.set(deadline);
    }

    /// An interrupt with this vector comes.
    pub fn raise(&self, vector: u8) {
        self.waiting.borrow_mut().push_back(vector);
    }

    /// Whether an interrupt waits to be taken.
    pub fn is_waiting(&self) -> bool {
        self.timer.get() <= self.now.get() || !self.waiting.borrow().is_empty()
    }

    /// Take an interrupt that waits: its vector.
    pub fn take(&self) -> Option<u8> {
        if self.timer.get() <= self.now.get() {
            self.timer.set(u64::MAX);
            return Some(self.timer_vector);
        }
        self.waiting.borrow_mut().pop_front()
    }

    /// Sleep until an interrupt comes, and take it. `None` when none ever would: nothing but the outside can wake the machine.
    pub fn sleep(&self) -> Option<u8> {
        if self.waiting.borrow().is_empty() && self.timer.get() != u64::MAX {
            self.now.set(self.now.get().max(self.timer.get()));
        }
        self.take()
    }
}

//! What tasks share and wait for. Tasks run on one thread and switch only where they await, so plain cells do for most data; these are
//! for what must hold, or be waited for, across an await.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell, RefMut};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

struct Waiter {
    id: u64,
    /// `None` once it was notified.
    waker: Option<Waker>,
}

/// Wakes tasks that wait for something to happen.
///
/// One notification that nobody waited for is kept for the next who does.
#[derive(Default)]
pub struct Notify {
    waiters: RefCell<VecDeque<Waiter>>,
    next_id: Cell<u64>,
    kept: Cell<bool>,
}

impl Notify {
    /// Nobody waits, nothing is kept.
    pub const fn new() -> Notify {
        Notify { waiters: RefCell::new(VecDeque::new()), next_id: Cell::new(0), kept: Cell::new(false) }
    }

    /// Wakes the one that has waited longest, or the next one to wait.
    pub fn notify_one(&self) {
        let waker = self.waiters.borrow_mut().iter_mut().find_map(|waiter| waiter.waker.take());
        match waker {
            Some(waker) => waker.wake(),
            None => self.kept.set(true),
        }
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        for waiter in self.waiters.borrow_mut().iter_mut() {
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    /// Completes at a notification. Those who wait first are notified first.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, id: None }
    }
}

/// See [`Notify::notified`]. Dropped after its notification, before it was polled, it passes the notification on.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    id: Option<u64>,
}

impl Notified<'_> {
    /// Takes the waiter out; true when it had been notified.
    fn leave(&mut self) -> bool {
        let Some(id) = self.id.take() else { return false };
        let mut waiters = self.notify.waiters.borrow_mut();
        let position = waiters.iter().position(|waiter| waiter.id == id);
        position.and_then(|position| waiters.remove(position)).is_some_and(|waiter| waiter.waker.is_none())
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        match self.id {
            None => {
                if notify.kept.take() {
                    return Poll::Ready(());
                }
                let id = notify.next_id.get();
                notify.next_id.set(id + 1);
                notify.waiters.borrow_mut().push_back(Waiter { id, waker: Some(cx.waker().clone()) });
                self.id = Some(id);
                Poll::Pending
            }
            Some(id) => {
                let mut waiters = notify.waiters.borrow_mut();
                // One that was notified stands in front, so it is found at once.
                let found = waiters.iter_mut().find(|waiter| waiter.id == id);
                if let Some(Waiter { waker: Some(waker), .. }) = found {
                    *waker = cx.waker().clone();
                    return Poll::Pending;
                }
                drop(waiters);
                self.leave();
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if self.leave() {
            self.notify.notify_one();
        }
    }
}

/// Exclusive access across awaits.
#[derive(Default)]
pub struct Mutex<T> {
    value: RefCell<T>,
    held: Cell<bool>,
    released: Notify,
}

/// The right to use what a [`Mutex`] protects.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    value: Option<RefMut<'a, T>>,
}

impl<T> Mutex<T> {
    /// Protects `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { value: RefCell::new(value), held: Cell::new(false), released: Notify::new() }
    }

    /// Waits until nobody else has it.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            self.released.notified().await;
        }
    }

    /// Takes it if nobody else has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        if self.held.replace(true) {
            return None;
        }
        Some(MutexGuard { mutex: self, value: Some(self.value.borrow_mut()) })
    }
}

impl<T> core::ops::Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // Empty only while it is being dropped.
        self.value.as_ref().expect("held")
    }
}

impl<T> core::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.mutex.held.set(false);
        self.mutex.released.notify_one();
    }
}

/// Waits for a condition on what a [`Mutex`] protects.
#[derive(Default)]
pub struct Condvar {
    notify: Notify,
}

impl Condvar {
    /// Nobody waits.
    pub const fn new() -> Condvar {
        Condvar { notify: Notify::new() }
    }

    /// Releases the mutex, waits for a notification, takes the mutex again.
    pub async fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let mutex = guard.mutex;
        let mut notified = self.notify.notified();
        let mut guard = Some(guard);
        poll_fn(|cx| {
            // Queued first and released then, although between the two nobody else could run.
            let poll = Pin::new(&mut notified).poll(cx);
            guard = None;
            poll
        })
        .await;
        mutex.lock().await
    }

    /// Wakes the one that has waited longest.
    pub fn notify_one(&self) {
        if !self.notify.waiters.borrow().is_empty() {
            self.notify.notify_one();
        }
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.notify.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;
    use crate::sim::Sim;
    use crate::task::{spawn, yield_now};
    use crate::time::{Duration, sleep, timeout};
    use std::rc::Rc;
    use std::vec::Vec;

    #[test]
    fn a_notification_is_kept_for_one() {
        let _sim = Sim::new("");
        let notify = Notify::new();
        notify.notify_one();
        notify.notify_one();
        block_on(async {
            notify.notified().await;
            assert!(timeout(Duration::from_millis(5), notify.notified()).await.is_err());
        });
        assert!(notify.waiters.borrow().is_empty(), "whoever gives up leaves the queue");
    }

    #[test]
    fn a_dropped_waiter_passes_its_notification_on() {
        let _sim = Sim::new("");
        let notify = Rc::new(Notify::new());
        block_on(async {
            let mut first = notify.notified();
            poll_fn(|cx| {
                assert!(Pin::new(&mut first).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            let heard = Rc::new(Cell::new(false));
            let (second, ear) = (notify.clone(), heard.clone());
            spawn(async move {
                second.notified().await;
                ear.set(true);
            })
            .expect("room");
            yield_now().await;
            notify.notify_one();
            drop(first);
            sleep(Duration::from_millis(1)).await;
            assert!(heard.get());
        });
    }

    #[test]
    fn a_mutex_serves_in_order() {
        let _sim = Sim::new("");
        let mutex = Rc::new(Mutex::new(Vec::new()));
        block_on(async {
            for id in 0..4 {
                let mutex = mutex.clone();
                spawn(async move {
                    let mut list = mutex.lock().await;
                    list.push(id);
                    sleep(Duration::from_millis(10)).await;
                    list.push(id);
                })
                .expect("room");
            }
            sleep(Duration::from_millis(100)).await;
        });
        assert_eq!(*mutex.try_lock().expect("free"), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_condition_is_waited_for() {
        let _sim = Sim::new("");
        let shared = Rc::new((Mutex::new(0), Condvar::new()));
        block_on(async {
            let producer = shared.clone();
            spawn(async move {
                for _ in 0..5 {
                    sleep(Duration::from_millis(2)).await;
                    *producer.0.lock().await += 1;
                    producer.1.notify_all();
                }
            })
            .expect("room");
            let mut count = shared.0.lock().await;
            while *count < 5 {
                count = shared.1.wait(count).await;
            }
            assert_eq!(*count, 5);
        });
    }
}

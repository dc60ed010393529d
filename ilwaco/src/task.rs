//! Tasks: a cooperative, single-threaded executor.
//!
//! A task is a future; it runs until it awaits something that is not there yet. Idle tasks cost the bytes of their future
//! and nothing else: no stack each, no context switch. What the tasks wait for, `run.rs` looks after.

use crate::cell::global;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};

/// Tasks that can exist at once.
pub const MAX_TASKS: usize = 64 * WORDS;
/// More than there can be connections.
const WORDS: usize = 18;

/// Which tasks are to be polled: bit `i % 64` of word `i / 64`. Of the words that are not 0, `any` has a bit.
struct Ready {
    any: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Ready {
    fn new() -> Arc<Ready> {
        Arc::new(Ready { any: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] })
    }
}

/// A waker's end: one bit to set.
struct TaskWaker {
    ready: Arc<Ready>,
    index: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let number = self.index / 64;
        if let Some(word) = self.ready.words.get(number) {
            word.fetch_or(1 << (self.index % 64), Ordering::Release);
            self.ready.any.fetch_or(1 << number, Ordering::Release);
        }
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

enum Slot {
    /// With the waker of the task that was there before, if there was one: it names the place, and so serves the next task.
    Free(Option<Waker>),
    /// Its future is being polled.
    Running,
    Waiting(Task),
}

struct Executor {
    slots: RefCell<Vec<Slot>>,
    /// Slots that have a task.
    used: Cell<usize>,
    ready: RefCell<Option<Arc<Ready>>>,
}

global! {
    static EXECUTOR: Executor = Executor { slots: RefCell::new(Vec::new()), used: Cell::new(0), ready: RefCell::new(None) };
}
global! {
    static SHUTDOWN: Shutdown = Shutdown { asked: Cell::new(false), waker: RefCell::new(None) };
}

struct Shutdown {
    asked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// There are [`MAX_TASKS`] tasks already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTasks;

impl core::fmt::Display for TooManyTasks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("too many tasks")
    }
}

/// Starts a task. It runs for the first time when the one that runs now awaits something.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Result<(), TooManyTasks> {
    EXECUTOR.with(|executor| executor.spawn(Box::pin(future)))
}

/// Polls every task that is ready now, each once, after `before_each`. True when there was one.
pub(crate) fn run_ready(before_each: impl FnMut()) -> bool {
    EXECUTOR.with(|executor| executor.run_ready(before_each))
}

/// True when a task is ready.
pub(crate) fn is_ready() -> bool {
    EXECUTOR.with(Executor::is_ready)
}

/// Takes memory for the places of so many more tasks, if there is some. False when there is none.
pub(crate) fn secure(tasks: usize) -> bool {
    EXECUTOR.with(|executor| executor.secure(tasks))
}

/// Bytes of the places for tasks.
#[cfg(test)]
pub(crate) fn bytes() -> usize {
    EXECUTOR.with(|executor| executor.slots.borrow().capacity() * size_of::<Slot>())
}

/// Gives memory that is not in use back to the heap.
pub(crate) fn shrink() {
    EXECUTOR.with(Executor::shrink);
}

impl Executor {
    fn ready(&self) -> Arc<Ready> {
        self.ready.borrow_mut().get_or_insert_with(Ready::new).clone()
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) -> Result<(), TooManyTasks> {
        let mut slots = self.slots.borrow_mut();
        let free = slots.iter_mut().enumerate().find_map(|(index, slot)| match slot {
            Slot::Free(waker) => Some((index, waker.take())),
            _ => None,
        });
        let (index, waker) = match free {
            Some(free) => free,
            None if slots.len() < MAX_TASKS => {
                slots.push(Slot::Free(None));
                (slots.len() - 1, None)
            }
            None => return Err(TooManyTasks),
        };
        let waker = waker.unwrap_or_else(|| Arc::new(TaskWaker { ready: self.ready(), index }).into());
        waker.wake_by_ref();
        slots[index] = Slot::Waiting(Task { future, waker });
        self.used.set(self.used.get() + 1);
        Ok(())
    }

    /// See [`secure`].
    fn secure(&self, tasks: usize) -> bool {
        let mut slots = self.slots.borrow_mut();
        let wanted = (self.used.get() + tasks).min(MAX_TASKS);
        if slots.capacity() >= wanted {
            return true;
        }
        // Not each time one.
        let wanted = wanted + wanted / 4 + 1;
        let secured = crate::net::secures_bytes(wanted * size_of::<Slot>());
        if secured {
            let len = slots.len();
            slots.reserve_exact(wanted.saturating_sub(len));
        }
        secured
    }

    /// See [`run_ready`].
    fn run_ready(&self, mut before_each: impl FnMut()) -> bool {
        let ready = self.ready();
        if ready.any.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut numbers = ready.any.swap(0, Ordering::Acquire);
        while numbers != 0 {
            let number = usize::try_from(numbers.trailing_zeros()).unwrap_or(0);
            numbers &= numbers - 1;
            let Some(word) = ready.words.get(number) else { break };
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                before_each();
                self.poll(number * 64 + usize::try_from(bit).unwrap_or(0));
            }
        }
        true
    }

    fn poll(&self, index: usize) {
        // The slots are not borrowed while the task runs, since it may start others.
        let taken = self.slots.borrow_mut().get_mut(index).map(|slot| core::mem::replace(slot, Slot::Running));
        let mut task = match taken {
            Some(Slot::Waiting(task)) => task,
            Some(other) => {
                // A waker that outlived its task.
                self.put(index, other);
                return;
            }
            None => return,
        };
        let done = task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready();
        if done {
            let Task { future, waker } = task;
            // Before others can have its place.
            drop(future);
            self.used.set(self.used.get().saturating_sub(1));
            self.put(index, Slot::Free(Some(waker)));
        } else {
            self.put(index, Slot::Waiting(task));
        }
    }

    fn put(&self, index: usize, slot: Slot) {
        if let Some(place) = self.slots.borrow_mut().get_mut(index) {
            *place = slot;
        }
    }

    fn is_ready(&self) -> bool {
        self.ready.borrow().as_ref().is_some_and(|ready| ready.any.load(Ordering::Relaxed) != 0)
    }

    /// Gives the memory of slots at the end that are free, and of wakers that no task has, back to the heap.
    fn shrink(&self) {
        let mut slots = self.slots.borrow_mut();
        let used = slots.iter().rposition(|slot| !matches!(slot, Slot::Free(_))).map_or(0, |last| last + 1);
        slots.truncate(used);
        slots.shrink_to_fit();
        for slot in slots.iter_mut() {
            if let Slot::Free(waker) = slot {
                *waker = None;
            }
        }
    }
}

/// As if the program started anew.
#[cfg(not(target_os = "none"))]
pub(crate) fn forget_all() {
    EXECUTOR.with(|executor| {
        // Dropped outside of the borrow: what a task owns may look for the executor.
        let slots = executor.slots.take();
        drop(slots);
        executor.used.set(0);
        executor.ready.take();
    });
    SHUTDOWN.with(|shutdown| {
        shutdown.asked.set(false);
        shutdown.waker.take();
    });
}

/// Lets the other tasks run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The VM is asked to end itself.
pub(crate) fn request_shutdown() {
    SHUTDOWN.with(|shutdown| {
        shutdown.asked.set(true);
        if let Some(waker) = shutdown.waker.take() {
            waker.wake();
        }
    });
}

/// Completes when the VM is asked to end itself.
pub async fn shutdown_requested() {
    poll_fn(|cx| {
        SHUTDOWN.with(|shutdown| {
            if shutdown.asked.get() {
                return Poll::Ready(());
            }
            shutdown.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
    })
    .await;
}

/// Which of two futures was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one.
    Left(A),
    /// The second one.
    Right(B),
}

/// Awaits whichever is ready first (the left one when both are) and drops the other.
pub async fn race<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| {
        if let Poll::Ready(output) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;
    use crate::sim::Sim;
    use crate::time::{Duration, sleep};
    use std::rc::Rc;

    #[test]
    fn tasks_take_turns() {
        let _sim = Sim::new("");
        let order = Rc::new(RefCell::new(Vec::new()));
        block_on(async {
            for name in ["a", "b"] {
                let order = order.clone();
                spawn(async move {
                    for round in 0..3 {
                        order.borrow_mut().push((name, round));
                        yield_now().await;
                    }
                })
                .expect("room");
            }
            sleep(Duration::from_millis(1)).await;
        });
        assert_eq!(*order.borrow(), [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
    }

    #[test]
    fn the_number_of_tasks_is_bounded_and_slots_are_used_again() {
        let _sim = Sim::new("");
        block_on(async {
            for _ in 0..3 {
                for _ in 0..MAX_TASKS {
                    assert_eq!(spawn(sleep(Duration::from_millis(3))), Ok(()));
                }
                assert_eq!(spawn(async {}), Err(TooManyTasks));
                sleep(Duration::from_millis(10)).await;
            }
            sleep(Duration::from_secs(2)).await;
        });
        EXECUTOR.with(|executor| assert_eq!(executor.slots.borrow().capacity(), 0, "given back when it was quiet"));
    }

    #[test]
    fn a_waker_serves_the_next_task_in_its_place_and_is_given_back_when_it_is_quiet() {
        let _sim = Sim::new("");
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let kept = |executor: &Executor| matches!(executor.slots.borrow()[0], Slot::Free(Some(_)));
        block_on(async {
            for _ in 0..2 {
                let wakers = wakers.clone();
                let seen = async move {
                    poll_fn(|cx| {
                        wakers.borrow_mut().push(cx.waker().clone());
                        Poll::Ready(())
                    })
                    .await;
                };
                spawn(seen).expect("room");
                // It keeps the first place from being the last.
                spawn(sleep(Duration::from_secs(5))).expect("room");
                sleep(Duration::from_millis(1)).await;
            }
            assert!(wakers.borrow()[0].will_wake(&wakers.borrow()[1]));
            assert!(EXECUTOR.with(kept));
            sleep(Duration::from_secs(2)).await;
            assert!(!EXECUTOR.with(kept));
            spawn(async {}).expect("room");
            sleep(Duration::from_secs(4)).await;
        });
    }

    #[test]
    fn tasks_start_tasks_and_stale_wakers_do_no_harm() {
        let _sim = Sim::new("");
        let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
        let done = Rc::new(Cell::new(0));
        block_on(async {
            let (kept, done) = (kept.clone(), done.clone());
            let inner = done.clone();
            spawn(async move {
                poll_fn(|cx| {
                    kept.replace(Some(cx.waker().clone()));
                    Poll::Ready(())
                })
                .await;
                spawn(async move { inner.set(inner.get() + 1) }).expect("room");
                done.set(done.get() + 1);
            })
            .expect("room");
            sleep(Duration::from_millis(1)).await;
        });
        assert_eq!(done.get(), 2);
        kept.take().expect("kept").wake();
        block_on(sleep(Duration::from_millis(1)));
    }

    #[test]
    fn the_faster_one_wins() {
        let _sim = Sim::new("");
        let slow = sleep(Duration::from_secs(60));
        let fast = async {
            sleep(Duration::from_millis(2)).await;
            7
        };
        assert_eq!(block_on(race(slow, fast)), Either::Right(7));
    }

    #[test]
    fn shutdown_wakes_who_waits_for_it() {
        let _sim = Sim::new("");
        Sim::on_idle(|now, _| {
            Sim::ask_shutdown();
            crate::sim::SimEvent::Wake(now + 5)
        });
        block_on(shutdown_requested());
    }
}

//! Time: instants, sleeping, timeouts. Timers lie in a wheel whose next deadline becomes the timeout of the idle hypercall.

use crate::cell::global;
use crate::clock;
use crate::wheel::{TimerKey, Wheel};
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::ops::{Add, Sub};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

pub use core::time::Duration;

/// A tick of the timer wheel is 2^20 ns, a little more than a millisecond.
const TICK_SHIFT: u32 = 20;

global! {
    static TIMERS: RefCell<Wheel<Waker>> = RefCell::new(Wheel::new());
}

/// A point in time, in nanoseconds since the start of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(u64);

impl Instant {
    /// The present.
    #[inline]
    pub fn now() -> Instant {
        Instant(clock::now_ns())
    }

    /// The start of the VM plus `ns`.
    pub const fn from_nanos(ns: u64) -> Instant {
        Instant(ns)
    }

    /// Nanoseconds since the start of the VM.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` until here; zero when it is later.
    pub fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since then.
    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    /// Saturates.
    fn add(self, duration: Duration) -> Instant {
        let ns = duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into());
        Instant(self.0.saturating_add(ns))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    /// Saturates.
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

/// Seconds since 1970-01-01 00:00 UTC, as the machine that the VM runs on knows them.
pub fn unix_seconds() -> u64 {
    clock::unix_ns() / 1_000_000_000
}

/// The same in milliseconds.
pub fn unix_millis() -> u64 {
    clock::unix_ns() / 1_000_000
}

/// The same in nanoseconds. It may be set back: to measure, there is [`Instant`].
pub fn unix_nanos() -> u64 {
    clock::unix_ns()
}

/// Completes when `deadline` is reached, up to a tick of the wheel (about a millisecond) later.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, armed: deadline, key: None }
}

/// Completes when `duration` is over.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// See [`sleep_until`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sleep {
    deadline: Instant,
    /// When the timer is due, if there is one: not after the deadline.
    armed: Instant,
    key: Option<TimerKey>,
}

impl Sleep {
    /// Changes the deadline. A timer that is due before stays as it is, and is set anew when it fires: so who sets one again
    /// and again long before it is due pays for it once.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.armed {
            self.unset();
        }
    }

    fn unset(&mut self) {
        if let Some(key) = self.key.take() {
            // The waker is dropped outside of the borrow.
            let waker = TIMERS.with(|timers| timers.borrow_mut().remove(key));
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(key) = self.key {
            let set = TIMERS.with(|timers| timers.borrow().get(key).map(|waker| waker.will_wake(cx.waker())));
            if set == Some(true) {
                return Poll::Pending;
            }
        }
        self.unset();
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        let tick = first_tick_after(self.deadline);
        let key = TIMERS.with(|timers| timers.borrow_mut().insert(tick, cx.waker().clone()));
        match key {
            Some(key) => (self.key, self.armed) = (Some(key), self.deadline),
            // 65,535 timers: poll again instead of waking too late.
            None => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unset();
    }
}

/// The first tick that starts at or after the deadline.
fn first_tick_after(deadline: Instant) -> u64 {
    deadline.0.div_ceil(1 << TICK_SHIFT)
}

/// Wakes what is due at `now`.
#[inline]
pub(crate) fn fire(now: Instant) {
    TIMERS.with(|timers| {
        // Waking a task never comes back to the wheel, so it may stay borrowed.
        timers.borrow_mut().advance(now.0 >> TICK_SHIFT, Waker::wake);
    });
}

/// When the next timer is due; `None` without one.
pub(crate) fn next_deadline() -> Option<Instant> {
    TIMERS.with(|timers| timers.borrow().next_deadline()).map(|tick| Instant(tick.saturating_mul(1 << TICK_SHIFT)))
}

/// As if the program started anew.
#[cfg(not(target_os = "none"))]
pub(crate) fn forget_all() {
    TIMERS.with(|timers| timers.replace(Wheel::new()));
}

/// Takes memory for so many timers in all, if there is some. False when there is none.
pub(crate) fn secure(timers: usize) -> bool {
    TIMERS.with(|wheel| {
        let mut wheel = wheel.borrow_mut();
        if wheel.capacity() >= timers {
            return true;
        }
        // Not each time a bit.
        let timers = timers + timers / 4;
        let secured = crate::net::secures_bytes(Wheel::<Waker>::bytes(timers));
        if secured {
            wheel.reserve(timers);
        }
        secured
    })
}

/// Bytes of the timers.
#[cfg(test)]
pub(crate) fn bytes() -> usize {
    TIMERS.with(|timers| Wheel::<Waker>::bytes(timers.borrow().capacity()))
}

/// Gives the memory of timers that are gone back to the heap.
pub(crate) fn shrink() {
    TIMERS.with(|timers| timers.borrow_mut().shrink());
}

/// The time for something was over before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl core::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("timed out")
    }
}

/// As [`timeout`], with a timer that the caller keeps: for what is awaited again and again, and nearly always in time.
pub async fn timeout_by<F: Future>(timer: &mut Sleep, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut waits = false;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if !core::mem::replace(&mut waits, true) {
            timer.reset(Instant::now() + duration);
        }
        Pin::new(&mut *timer).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// Awaits `future` for at most `duration`. The timer is set only when the future does not complete at once.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let timer = timer.get_or_insert_with(|| sleep(duration));
        Pin::new(timer).poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;
    use crate::sim::Sim;

    #[test]
    fn sleeping_takes_the_time_it_says() {
        let _sim = Sim::new("");
        let before = Instant::now();
        block_on(sleep(Duration::from_millis(250)));
        let slept = before.elapsed();
        assert!(slept >= Duration::from_millis(250) && slept < Duration::from_millis(253), "{slept:?}");
        block_on(sleep(Duration::ZERO));
        block_on(sleep_until(before));
    }

    #[test]
    fn timeouts() {
        let _sim = Sim::new("");
        block_on(async {
            assert_eq!(timeout(Duration::from_secs(1), async { 5 }).await, Ok(5));
            assert_eq!(timeout(Duration::from_secs(1), core::future::pending::<()>()).await, Err(Elapsed));
            let inner = timeout(Duration::from_secs(2), sleep(Duration::from_millis(5)));
            assert_eq!(timeout(Duration::from_secs(3), inner).await, Ok(Ok(())));
        });
        assert_eq!(next_deadline(), None, "every timer is taken out again");
    }

    #[test]
    fn a_timer_that_is_kept() {
        let _sim = Sim::new("");
        block_on(async {
            let mut timer = sleep(Duration::ZERO);
            let mut within = async |limit, takes| {
                let before = Instant::now();
                let result =
                    timeout_by(&mut timer, Duration::from_millis(limit), sleep(Duration::from_millis(takes))).await;
                (result, before.elapsed())
            };
            // In time again and again, beyond when the first timer was due; then too late, by a later deadline and an earlier.
            for _ in 0..10 {
                assert_eq!(within(50, 20).await.0, Ok(()));
            }
            for limit in [100, 1000, 10] {
                assert_eq!(within(limit + 100, limit).await.0, Ok(()));
                let (result, took) = within(limit, 5000).await;
                assert_eq!(result, Err(Elapsed));
                let limit = Duration::from_millis(limit);
                assert!(took >= limit && took < limit + Duration::from_millis(3), "{took:?}");
            }
        });
        assert_eq!(next_deadline(), None, "and it is taken out at the end");
    }

    #[test]
    fn the_date_of_the_machine() {
        let _sim = Sim::new("");
        crate::clock::start();
        assert_eq!(unix_seconds(), 1_000_000_000);
    }

    #[test]
    fn the_date_follows_the_machine_and_time_does_not_jump() {
        let _sim = Sim::new("");
        crate::clock::start();
        let before = Instant::now();
        Sim::adjust_clock(3_600_000_000_000);
        assert_eq!(unix_seconds(), 1_000_003_600);
        assert!(before.elapsed() < Duration::from_millis(1), "{:?}", before.elapsed());
        block_on(sleep(Duration::from_secs(2)));
        assert_eq!(unix_seconds(), 1_000_003_602);
        assert_eq!(unix_nanos() / 1_000_000, unix_millis());
    }
}

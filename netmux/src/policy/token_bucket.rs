//! A token bucket for each VM: none sends more than its rate, but for a burst after a pause, however idle the wire is. VMs that may
//! send take turns.
//!
//! A bucket is kept as the time when it is full again (the virtual scheduling form of the generic cell rate algorithm, ITU-T I.371):
//! each byte sent moves that time by 1 / rate, and a frame may leave while it would not move it further than burst / rate from now.
//! Everything is rounded so that less is sent, never more: in any time `t` at most `rate * t + burst` bytes.

use super::{Discipline, Fifo, More, Next, Turn};
use abi::share::{BURST_MIN, Share, UNLIMITED};
use abi::vm::Seat;
use component::{Heap, Table, Tables};

/// What one turn may spend, in bytes, however full the bucket is.
pub const TURN: i32 = 4 * 1514;
/// Transmit buffers that one turn fills at most.
pub const BUFFERS: u16 = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// The time when it is full, in ticks; in the past when it is.
    full_at: u64,
    /// What the turn that goes on was given.
    given: i32,
    /// Bytes in a second; 0 or [`UNLIMITED`] for no limit.
    rate: u32,
    /// Bytes that it holds.
    burst: u32,
}

impl Bucket {
    fn is_limited(&self) -> bool {
        self.rate != 0 && self.rate != UNLIMITED
    }

    /// The time in which `bytes` flow into it, in ticks, rounded up.
    fn ticks(&self, bytes: u32, hz: u64) -> u64 {
        let ticks = (u128::from(bytes) * u128::from(hz)).div_ceil(u128::from(self.rate.max(1)));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The bytes in it at `now`, rounded down.
    fn level(&self, now: u64, hz: u64) -> u32 {
        // What is missing is rounded up.
        let missing = (u128::from(self.full_at.saturating_sub(now)) * u128::from(self.rate)).div_ceil(u128::from(hz));
        self.burst.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// The time from which on it holds `bytes`.
    fn holds_at(&self, bytes: u32, hz: u64) -> u64 {
        // A tick more than to the point: the level is rounded down.
        let early = u128::from(self.burst.saturating_sub(bytes)) * u128::from(hz) / u128::from(self.rate.max(1));
        self.full_at.saturating_sub(u64::try_from(early).unwrap_or(u64::MAX)).saturating_add(1)
    }
}

/// Token buckets. A VM that waits for its bucket lies in a heap by time, so an operation takes at most a step for each
/// bit of the number of those.
#[derive(Debug)]
pub struct TokenBucket {
    buckets: Table<Bucket>,
    /// Those that may send.
    queue: Fifo,
    /// Those that have something to send and wait for their buckets, by the time when these hold enough.
    waiting: Heap<u64>,
    hz: u64,
}

impl Discipline for TokenBucket {
    const NAME: &'static str = "token-bucket";
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    const SEAT_BYTES: u32 = size_of::<Bucket>() as u32 + Fifo::SEAT_BYTES + Heap::<u64>::SEAT_BYTES;

    fn new(tables: &mut Tables) -> Self {
        TokenBucket { buckets: tables.per_seat(), queue: Fifo::new(tables), waiting: Heap::new(tables), hz: 0 }
    }

    fn start(&mut self, ticks_per_second: u64) {
        self.hz = ticks_per_second.max(1);
    }

    fn attach(&mut self, seat: Seat, share: Share, now: u64) {
        if let Some(bucket) = self.buckets.reach(seat.index()) {
            // Empty at first: a VM that its creator replaces again and again gains no bursts.
            *bucket = Bucket { rate: share.rate, burst: share.burst.max(BURST_MIN), ..Bucket::default() };
            if bucket.is_limited() {
                bucket.full_at = now.saturating_add(bucket.ticks(bucket.burst - BURST_MIN, self.hz));
            }
        }
    }

    #[inline]
    fn enqueue(&mut self, seat: Seat) {
        if !self.waiting.contains(seat) {
            self.queue.push(seat);
        }
    }

    #[inline]
    fn next(&mut self, now: u64) -> Next {
        // Each of them had its turn before it waited, so they come in behind those that are there. One at a time is enough: as long
        // as there are more, each turn of somebody brings another one in.
        if let Some((seat, due)) = self.waiting.first()
            && due <= now
        {
            self.waiting.remove(seat);
            self.queue.push(seat);
        }
        let Some(seat) = self.queue.pop() else {
            return self.waiting.first().map_or(Next::Nobody, |(_, due)| Next::At(due));
        };
        let hz = self.hz.max(1);
        let Some(bucket) = self.buckets.reach(seat.index()) else { return Next::Nobody };
        let level = if bucket.is_limited() { i32::try_from(bucket.level(now, hz)).unwrap_or(TURN) } else { TURN };
        bucket.given = level.min(TURN);
        Next::Turn(Turn { seat, allowance: bucket.given, buffers: BUFFERS })
    }

    #[inline]
    fn finish(&mut self, seat: Seat, left: i32, more: More, now: u64) {
        let hz = self.hz.max(1);
        let Some(bucket) = self.buckets.reach(seat.index()) else { return };
        if bucket.is_limited() {
            let spent = u32::try_from(bucket.given.saturating_sub(left)).unwrap_or(0);
            // As if all had left now: the turn may have lasted, and what left early in it counts as late.
            bucket.full_at = bucket.full_at.max(now).saturating_add(bucket.ticks(spent, hz));
        }
        bucket.given = 0;
        match more {
            More::Nothing => {}
            More::Frame(cost) if bucket.is_limited() => {
                let due = bucket.holds_at(u32::try_from(cost).unwrap_or(0), hz);
                if due > now { self.waiting.set(seat, due) } else { self.queue.push(seat) }
            }
            More::Frame(_) | More::Perhaps => self.queue.push(seat),
        }
    }

    fn not_before(&self, seat: Seat) -> u64 {
        self.waiting.get(seat).unwrap_or(0)
    }

    fn remove(&mut self, seat: Seat) {
        self.queue.remove(seat);
        self.waiting.remove(seat);
        if let Some(bucket) = self.buckets.get_mut(seat.index()) {
            *bucket = Bucket::default();
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
#[path = "token_bucket_tests.rs"]
mod tests;

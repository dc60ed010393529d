//! What the VMs of a tenant may send together: a bucket for each tenant that has a limit, and of its VMs those that wait for it, in the order of their turns.
//!
//! A bucket is kept as the time when it is full again, as [`super::TokenBucket`] has it. A VM of a tenant whose bucket holds less than a frame loses its turn,
//! and waits behind the others of its tenant that do. When there is enough again, the first of them is enqueued, and the next one when that one has had its turn: so
//! they send in turn, whatever the discipline, none is passed over, and the VMs of other tenants go on meanwhile.

use abi::limits::LIVE_TENANTS;
use abi::nic::MAX_FRAME;
use abi::share::BURST;
use abi::vm::Seat;
use component::{Table, Tables};

/// A tenant's bucket holds what it may send in one part in so many of a second, or [`BURST`] where that is more.
const BURSTS: u32 = 32;
/// What it holds before anybody sends.
// One frame.
#[allow(clippy::cast_possible_truncation)]
const FRAME: u32 = MAX_FRAME as u32;
/// No time.
const NEVER: u64 = u64::MAX;

/// The tenant of a VM, by its account with the core, and its neighbours among those that wait: seats plus 1, and 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    /// Plus 1; 0 for nobody's.
    account: u16,
    next: u16,
    previous: u16,
    waits: bool,
}

/// What a tenant may send.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The time when it is full, in ticks; in the past when it is.
    full_at: u64,
    /// When the first of those that wait may send; [`NEVER`] when nobody waits, or for somebody's turn to end.
    due: u64,
    /// Bytes in a second, 0 for any number.
    rate: u32,
    /// Those that wait: seats plus 1.
    first: u16,
    last: u16,
    /// Who has waited and is to have its turn next: a seat plus 1.
    ahead: u16,
}

const EMPTY: Bucket = Bucket { full_at: 0, due: NEVER, rate: 0, first: 0, last: 0, ahead: 0 };

impl Bucket {
    fn burst(&self) -> u32 {
        BURST.max(self.rate / BURSTS)
    }

    /// The time in which `bytes` flow into it, in ticks, rounded up.
    fn ticks(&self, bytes: u32, hz: u64) -> u64 {
        let ticks = (u128::from(bytes) * u128::from(hz)).div_ceil(u128::from(self.rate.max(1)));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The time from which on it holds a frame.
    fn holds_at(&self, hz: u64) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        let early = u128::from(self.burst() - FRAME) * u128::from(hz) / u128::from(self.rate);
        self.full_at.saturating_sub(u64::try_from(early).unwrap_or(u64::MAX))
    }
}

/// All of them.
#[derive(Debug)]
pub struct Rates {
    members: Table<Member>,
    buckets: [Bucket; LIVE_TENANTS],
    /// The least [`Bucket::due`].
    due: u64,
    hz: u64,
}

impl Rates {
    /// What their tables take of [`abi::note::TableBytes::per_seat`].
    // Eight.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<Member>() as u32;

    /// Nobody has a limit.
    pub fn new(tables: &mut Tables) -> Self {
        Rates { members: tables.per_seat(), buckets: [EMPTY; LIVE_TENANTS], due: NEVER, hz: 1 }
    }

    /// How many ticks there are in a second.
    pub fn start(&mut self, ticks_per_second: u64) {
        self.hz = ticks_per_second.max(1);
    }

    /// Everything known about VMs and tenants is void.
    pub fn clear(&mut self) {
        self.members.clear();
        self.buckets.fill(EMPTY);
        self.due = NEVER;
    }

    /// The VM in `seat`, which is new there, is that of the tenant with this account, which may send so many bytes in a second: `None` for nobody's.
    pub fn join(&mut self, seat: Seat, of: Option<(u32, u32)>, now: u64) {
        self.leave(seat);
        let Some((account, rate)) = of else { return };
        let Some(number) = u16::try_from(account).ok().filter(|&number| usize::from(number) < LIVE_TENANTS) else {
            return;
        };
        if let Some(member) = self.members.reach(seat.index()) {
            member.account = number + 1;
        }
        self.set(account, rate, now);
    }

    /// The VMs of the tenant with this account may send so many bytes in a second from now on, 0 for any number.
    pub fn set(&mut self, account: u32, rate: u32, now: u64) {
        let hz = self.hz;
        let Some(bucket) = self.buckets.get_mut(account as usize).filter(|bucket| bucket.rate != rate) else { return };
        bucket.rate = rate;
        // With one frame at first: who sets it again and again gives no bursts.
        bucket.full_at = now.saturating_add(bucket.ticks(bucket.burst() - FRAME, hz));
        if bucket.ahead == 0 && bucket.first != 0 {
            bucket.due = bucket.holds_at(hz);
        }
        self.look();
    }

    /// Whether the VM in `seat`, whose turn it is, may send. Where not, it waits from now on.
    #[inline]
    pub fn lets_send(&mut self, seat: Seat, now: u64) -> bool {
        match self.members.get(seat.index()) {
            Some(member) if member.account != 0 => self.lets_member_send(seat, now),
            _ => true,
        }
    }

    fn lets_member_send(&mut self, seat: Seat, now: u64) -> bool {
        let (hz, me) = (self.hz, seat.number() + 1);
        let Some(bucket) = self.bucket_of(seat) else { return true };
        let is_next = bucket.ahead == me || bucket.ahead == 0 && bucket.first == 0 && bucket.holds_at(hz) <= now;
        if bucket.rate == 0 || is_next {
            return true;
        }
        let last = core::mem::replace(&mut bucket.last, me);
        if last == 0 {
            bucket.first = me;
            if bucket.ahead == 0 {
                bucket.due = bucket.holds_at(hz);
            }
        }
        if let Some(before) = last.checked_sub(1).and_then(|seat| self.members.get_mut(usize::from(seat))) {
            before.next = me;
        }
        if let Some(member) = self.members.get_mut(seat.index()) {
            (member.next, member.previous, member.waits) = (0, last, true);
        }
        self.look();
        false
    }

    /// Whether the VM in `seat` waits, which must not be enqueued then.
    #[inline]
    pub fn waits(&self, seat: Seat) -> bool {
        self.members.get(seat.index()).is_some_and(|member| member.waits)
    }

    /// When the next of those that wait may send.
    #[inline]
    pub fn due(&self) -> Option<u64> {
        Some(self.due).filter(|&due| due != NEVER)
    }

    /// One that has waited and may send now: it waits no longer, and is to be enqueued.
    #[inline]
    pub fn take_due(&mut self, now: u64) -> Option<Seat> {
        if self.due > now {
            return None;
        }
        self.take_first(now)
    }

    #[cold]
    fn take_first(&mut self, now: u64) -> Option<Seat> {
        let hz = self.hz;
        let at = self.buckets.iter().position(|bucket| bucket.due <= now);
        let bucket = at.and_then(|at| self.buckets.get_mut(at))?;
        // Somebody has sent since then.
        bucket.due = bucket.holds_at(hz);
        let seat = if bucket.due <= now { bucket.first.checked_sub(1).map(Seat::new) } else { None };
        if let Some(seat) = seat {
            self.unlink(seat);
            if let Some(bucket) = self.bucket_of(seat) {
                (bucket.ahead, bucket.due) = (seat.number() + 1, NEVER);
            }
        }
        self.look();
        seat
    }

    /// Whether so many bytes more are within what the VM in `seat` may send.
    pub fn affords(&mut self, seat: Seat, bytes: usize, now: u64) -> bool {
        let (hz, bytes) = (self.hz, u32::try_from(bytes).unwrap_or(u32::MAX));
        self.bucket_of(seat).is_none_or(|bucket| {
            let level = now.saturating_add(bucket.ticks(bucket.burst(), hz));
            bucket.rate == 0 || bucket.full_at.max(now).saturating_add(bucket.ticks(bytes, hz)) <= level
        })
    }

    /// Whether there is a limit to what the VM in `seat` may send.
    #[inline]
    pub fn is_limited(&mut self, seat: Seat) -> bool {
        let is_member = self.members.get(seat.index()).is_some_and(|member| member.account != 0);
        is_member && self.bucket_of(seat).is_some_and(|bucket| bucket.rate != 0)
    }

    /// The VM in `seat` has sent so many bytes. False when nothing is left for another frame.
    pub fn spend(&mut self, seat: Seat, bytes: usize, now: u64) -> bool {
        let (hz, bytes) = (self.hz, u32::try_from(bytes).unwrap_or(u32::MAX));
        let Some(bucket) = self.bucket_of(seat).filter(|bucket| bucket.rate != 0) else { return true };
        bucket.full_at = bucket.full_at.max(now).saturating_add(bucket.ticks(bytes, hz));
        bucket.holds_at(hz) <= now
    }

    /// The turn of the VM in `seat` is over: the next one that waits is to have its own.
    #[inline]
    pub fn finish(&mut self, seat: Seat) {
        if self.members.get(seat.index()).is_some_and(|member| member.account != 0) {
            self.pass_on(seat);
        }
    }

    fn pass_on(&mut self, seat: Seat) {
        let (hz, me) = (self.hz, seat.number() + 1);
        let Some(bucket) = self.bucket_of(seat).filter(|bucket| bucket.ahead == me) else { return };
        bucket.ahead = 0;
        if bucket.first != 0 {
            bucket.due = bucket.holds_at(hz);
            self.look();
        }
    }

    /// The VM in `seat` is gone.
    pub fn leave(&mut self, seat: Seat) {
        if self.waits(seat) {
            self.unlink(seat);
            if let Some(bucket) = self.bucket_of(seat).filter(|bucket| bucket.first == 0) {
                bucket.due = NEVER;
            }
            self.look();
        }
        self.pass_on(seat);
        if let Some(member) = self.members.get_mut(seat.index()) {
            *member = Member::default();
        }
    }

    fn bucket_of(&mut self, seat: Seat) -> Option<&mut Bucket> {
        let account = self.members.get(seat.index())?.account.checked_sub(1)?;
        self.buckets.get_mut(usize::from(account))
    }

    /// Takes a VM that waits out of its queue.
    fn unlink(&mut self, seat: Seat) {
        let Some(member) = self.members.get_mut(seat.index()) else { return };
        let Member { account, next, previous, .. } = *member;
        *member = Member { account, ..Member::default() };
        let at = |plus_one: u16| plus_one.checked_sub(1).map(usize::from);
        if let Some(after) = at(next).and_then(|at| self.members.get_mut(at)) {
            after.previous = previous;
        }
        if let Some(before) = at(previous).and_then(|at| self.members.get_mut(at)) {
            before.next = next;
        }
        if let Some(bucket) = self.bucket_of(seat) {
            if previous == 0 {
                bucket.first = next;
            }
            if next == 0 {
                bucket.last = previous;
            }
        }
    }

    /// When anybody may send is known anew. There are as many buckets as tenants can be, and somebody waits, or did.
    fn look(&mut self) {
        self.due = self.buckets.iter().map(|bucket| bucket.due).min().unwrap_or(NEVER);
    }
}

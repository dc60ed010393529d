//! A discipline whose VMs belong to tenants, of which some may send so much in a second and no more, together. The discipline says who is next; whose tenant may
//! not send loses that turn, and is enqueued again when it may.

use super::rates::Rates;
use super::{Discipline, Fault, More, Next, Watched};
use abi::share::Share;
use abi::vm::Seat;
use component::Tables;

/// Turns that may be lost before others than senders come to theirs.
const LOST_MOST: usize = 64;

/// A discipline, and what tenants may send.
pub struct Limited<D> {
    discipline: Watched<D>,
    rates: Rates,
}

impl<D: Discipline> Limited<D> {
    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    pub const SEAT_BYTES: u32 = Watched::<D>::SEAT_BYTES + Rates::SEAT_BYTES;

    /// Nobody has anything to send, and nobody has a limit.
    pub fn new(tables: &mut Tables) -> Self {
        Limited { discipline: Watched::new(tables), rates: Rates::new(tables) }
    }

    /// [`Watched::fault`].
    #[inline]
    pub fn fault(&self) -> Option<Fault> {
        self.discipline.fault()
    }

    /// [`Discipline::start`].
    pub fn start(&mut self, ticks_per_second: u64) {
        self.rates.start(ticks_per_second);
        self.discipline.start(ticks_per_second);
    }

    /// [`Discipline::attach`], and whose the VM is: the tenant's account, and what it may send in a second, 0 for anything.
    pub fn attach(&mut self, seat: Seat, share: Share, of: Option<(u32, u32)>, now: u64) {
        self.rates.join(seat, of, now);
        self.discipline.attach(seat, share, now);
    }

    /// The VMs of the tenant with this account may send so many bytes in a second from now on, 0 for any number.
    pub fn set_rate(&mut self, account: u32, rate: u32, now: u64) {
        self.rates.set(account, rate, now);
    }

    /// Tenants have no limits any more, and VMs no tenants.
    pub fn forget_tenants(&mut self) {
        self.rates.clear();
    }

    /// [`Discipline::enqueue`].
    #[inline]
    pub fn enqueue(&mut self, seat: Seat) {
        if !self.rates.waits(seat) {
            self.discipline.enqueue(seat);
        }
    }

    /// [`Discipline::next`].
    #[inline]
    pub fn next(&mut self, now: u64) -> Next {
        for _ in 0..LOST_MOST {
            if let Some(seat) = self.rates.take_due(now) {
                self.discipline.enqueue(seat);
            }
            match self.discipline.next(now) {
                Next::Turn(turn) if self.rates.lets_send(turn.seat, now) => return Next::Turn(turn),
                Next::Turn(turn) => self.discipline.take_back(turn.seat),
                Next::At(time) => return Next::At(self.rates.due().map_or(time, |due| due.min(time))),
                Next::Nobody => return self.rates.due().map_or(Next::Nobody, Next::At),
            }
        }
        Next::At(now)
    }

    /// [`Discipline::cost`].
    #[inline]
    pub fn cost(&self, len: usize) -> i32 {
        self.discipline.cost(len)
    }

    /// [`Discipline::affords`].
    #[inline]
    pub fn affords(&self, left: i32, cost: i32) -> bool {
        self.discipline.affords(left, cost)
    }

    /// [`Discipline::may_bring`].
    #[inline]
    pub fn may_bring(&self, others: u32) -> u32 {
        self.discipline.may_bring(others)
    }

    /// [`Discipline::may_hold`].
    #[inline]
    pub fn may_hold(&self, free: u32) -> u32 {
        self.discipline.may_hold(free)
    }

    /// Whether there is a limit to what the tenant of the VM in `seat` may send.
    #[inline]
    pub fn is_limited(&mut self, seat: Seat) -> bool {
        self.rates.is_limited(seat)
    }

    /// Whether so many bytes at once are within it.
    pub fn may_spend(&mut self, seat: Seat, bytes: usize, now: u64) -> bool {
        self.rates.affords(seat, bytes, now)
    }

    /// The VM in `seat`, whose turn it is, has sent so many bytes. False where its tenant may not send another frame now: the turn is to end.
    pub fn spend(&mut self, seat: Seat, bytes: usize, now: u64) -> bool {
        self.rates.spend(seat, bytes, now)
    }

    /// [`Discipline::finish`].
    #[inline]
    pub fn finish(&mut self, seat: Seat, left: i32, more: More, now: u64) {
        self.discipline.finish(seat, left, more, now);
        self.rates.finish(seat);
    }

    /// [`Discipline::remove`].
    pub fn remove(&mut self, seat: Seat) {
        self.discipline.remove(seat);
        self.rates.leave(seat);
    }

    /// [`Discipline::is_empty`]: whether nobody waits for a turn that can be had now.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.discipline.is_empty()
    }

    /// When the next of those may send that wait for their tenants.
    #[inline]
    pub fn due(&self) -> Option<u64> {
        self.rates.due()
    }
}

#[cfg(test)]
#[path = "limited_tests.rs"]
mod tests;

//! A discipline whose promises are looked after: whoever has something to send has its turn in the end. What is no good is noticed
//! with a few instructions for each turn, and the program ends for it, so that the core can put another policy in its place.

use super::{Discipline, More, Next};
use abi::share::Share;
use abi::vm::Seat;
use component::{Table, Tables};
use core::fmt;

/// Answers in a row that name a time that has come already.
const EARLY_MOST: u32 = 64;
/// Turns of others, for each seat in use and beside these, that a VM waits for its own at most.
const TURNS_PER_SEAT: u64 = 4;
const TURNS_MORE: u64 = 64;
/// Parts of a second that it waits at least before anybody complains.
const GRACE: u64 = 4;

/// What a discipline has done that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody has something to send, and it says that nobody has.
    Swallows,
    /// It says again and again that nobody may send before a time that has come.
    Dithers,
    /// The VM in this seat could send, and has no turn.
    Starves(Seat),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Swallows => out.write_str("it lets nobody send, though somebody has something to send"),
            Fault::Dithers => out.write_str("it names times that have come, and nobody whose turn it is"),
            Fault::Starves(seat) => write!(out, "it gives the VM in seat {} no turn", seat.number()),
        }
    }
}

/// One VM that waits for its turn: all are looked at in this way, one after the other.
#[derive(Clone, Copy, Debug)]
struct Witness {
    seat: Seat,
    /// Turns that there were when it was looked at last.
    turns: u64,
    /// Since when it could have had its own.
    time: u64,
    /// It has waited too long; others are given so many turns more.
    late: bool,
}

/// A discipline, and what it was told.
pub struct Watched<D> {
    discipline: D,
    /// Who has something to send.
    waiting: Table<bool>,
    count: u32,
    /// Turns that there were.
    turns: u64,
    witness: Option<Witness>,
    /// The seat that may be the next witness.
    next: usize,
    /// Answers in a row with a time that has come.
    early: u32,
    grace: u64,
    fault: Option<Fault>,
}

impl<D: Discipline> Watched<D> {
    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    pub const SEAT_BYTES: u32 = 1 + D::SEAT_BYTES;

    /// Nobody has anything to send.
    pub fn new(tables: &mut Tables) -> Self {
        Watched {
            discipline: D::new(tables),
            waiting: tables.per_seat(),
            count: 0,
            turns: 0,
            witness: None,
            next: 0,
            early: 0,
            grace: 0,
            fault: None,
        }
    }

    /// What it did first that it must not.
    #[inline]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// [`Discipline::start`].
    pub fn start(&mut self, ticks_per_second: u64) {
        self.grace = ticks_per_second / GRACE;
        self.discipline.start(ticks_per_second);
    }

    /// [`Discipline::attach`].
    pub fn attach(&mut self, seat: Seat, share: Share, now: u64) {
        self.discipline.attach(seat, share, now);
    }

    /// [`Discipline::enqueue`].
    #[inline]
    pub fn enqueue(&mut self, seat: Seat) {
        if let Some(waiting) = self.waiting.reach(seat.index()) {
            self.count += u32::from(!core::mem::replace(waiting, true));
            self.discipline.enqueue(seat);
        }
    }

    /// [`Discipline::next`].
    #[inline]
    pub fn next(&mut self, now: u64) -> Next {
        let next = self.discipline.next(now);
        match next {
            Next::Turn(turn) => {
                self.early = 0;
                self.turns += 1;
                match self.witness {
                    Some(witness) if witness.seat != turn.seat => self.hear(witness, now, true),
                    _ => self.choose(turn.seat, now),
                }
            }
            Next::At(time) => self.put_off(time, now),
            Next::Nobody => {
                if self.count != 0 {
                    self.blame(Fault::Swallows);
                }
            }
        }
        next
    }

    /// Nothing comes of the turn of the VM in `seat`, which has just been given: it is not to send before it is enqueued again.
    pub fn take_back(&mut self, seat: Seat) {
        self.leave(seat);
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

    /// [`Discipline::finish`].
    #[inline]
    pub fn finish(&mut self, seat: Seat, left: i32, more: More, now: u64) {
        if more == More::Nothing {
            self.leave(seat);
        }
        self.discipline.finish(seat, left, more, now);
    }

    /// [`Discipline::remove`].
    pub fn remove(&mut self, seat: Seat) {
        self.leave(seat);
        self.discipline.remove(seat);
    }

    /// [`Discipline::is_empty`].
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.discipline.is_empty()
    }

    #[inline]
    fn leave(&mut self, seat: Seat) {
        if let Some(waiting) = self.waiting.get_mut(seat.index()) {
            self.count -= u32::from(core::mem::take(waiting));
        }
        if self.witness.is_some_and(|witness| witness.seat == seat) {
            self.witness = None;
        }
    }

    /// The next seat is the witness, if its VM waits for a turn that is not that of `turn`.
    #[inline]
    fn choose(&mut self, turn: Seat, now: u64) {
        self.witness = None;
        let at = if self.next < self.waiting.len() { self.next } else { 0 };
        self.next = at + 1;
        if at != turn.index() && self.waiting.get(at) == Some(&true) {
            // There is a seat for each entry.
            let seat = Seat::new(u16::try_from(at).unwrap_or(0));
            self.witness = Some(Witness { seat, turns: self.turns, time: now, late: false });
        }
    }

    /// A witness has had no turn now. `others` have had one.
    #[inline]
    fn hear(&mut self, witness: Witness, now: u64, others: bool) {
        let most = self.waiting.len() as u64 * TURNS_PER_SEAT + TURNS_MORE;
        if !others || self.turns - witness.turns > most {
            self.judge(witness, now, others);
        }
    }

    #[cold]
    fn judge(&mut self, witness: Witness, now: u64, others: bool) {
        let Witness { seat, time, late, .. } = witness;
        let due = self.discipline.not_before(seat);
        if due > time || due > now {
            self.witness = Some(Witness { turns: self.turns, time: due, late: false, ..witness });
        } else if now > time.saturating_add(self.grace) {
            if late || !others {
                self.blame(Fault::Starves(seat));
            } else {
                // Those turns may have been before its time.
                self.witness = Some(Witness { turns: self.turns, late: true, ..witness });
            }
        }
    }

    /// Nobody may send before `time`, it says.
    #[cold]
    fn put_off(&mut self, time: u64, now: u64) {
        self.early = if time <= now { self.early + 1 } else { 0 };
        if self.early > EARLY_MOST {
            self.blame(Fault::Dithers);
        }
        match self.witness {
            Some(witness) => self.hear(witness, now, false),
            // Nobody has a turn.
            None => self.choose(Seat::new(u16::MAX), now),
        }
    }

    #[cold]
    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

#[cfg(test)]
#[path = "watched_tests.rs"]
mod tests;

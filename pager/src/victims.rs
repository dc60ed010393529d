//! Whom the pager asks to go out, and when: what all orders have in common.

use crate::order::{Look, Order, Search};
use abi::pager::{PagerEvent, Stays};
use abi::swap::WINDOWS;
use abi::vm::{Seat, VmId};
use component::{Table, Tables};

/// Who was refused is asked again when it has done something, or when so many parts of a second have passed: its alarm may be far now, what lay in its rings on its
/// way, and the pool not full any more.
const REFUSED_HZ: u64 = 10;
/// While somebody waits for room and nobody can go out, it is looked again so often a second.
const RETRY_HZ: u64 = 100;
/// What a VM does within so many parts of a second after it has come in belongs to what it came in for.
const GRACE_HZ: u64 = 10;

/// When VMs have begun to idle: [`abi::component::idles`].
pub trait Idles {
    /// The word of this seat.
    fn since(&self, seat: Seat) -> u64;
}

/// What is known of the VM in a seat.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    vm: VmId,
    /// Frames that are free at least when it goes out.
    reserve: u32,
    state: State,
    /// While refused: the idle in which that was,
    idle: u64,
    /// and until when it holds.
    until: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody has the seat.
    #[default]
    Nobody,
    In,
    /// It was asked to go out.
    Going,
    /// It cannot go out for now,
    Refused,
    /// or not at all.
    Never,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this VM to go out.
    Out(VmId),
    /// Look at more VMs, as soon as what has come in was heard.
    Again,
    /// Somebody waits for room, and nobody can be asked before this TSC.
    Later(u64),
    /// Nobody waits for room.
    Nothing,
}

/// Who is in, who is going, and what is wanted.
#[derive(Debug)]
pub struct Victims<O> {
    order: O,
    known: Table<Known>,
    hz: u64,
    /// Frames and seats that are wanted beyond what those that are going make free; below 0 when these make free more than is wanted.
    frames: i64,
    seats: i64,
    /// VMs that are going.
    going: usize,
    /// Nobody is asked before this TSC.
    pause: u64,
}

/// What an order sees of all that.
struct View<'a, I> {
    known: &'a [Known],
    idles: &'a I,
    now: u64,
    hz: u64,
}

impl<I: Idles> Look for View<'_, I> {
    fn now(&self) -> u64 {
        self.now
    }

    fn idle_since(&self, seat: Seat) -> u64 {
        self.idles.since(seat)
    }

    fn is_refused(&self, seat: Seat) -> bool {
        let Some(known) = self.known.get(seat.index()) else { return true };
        match known.state {
            State::In => false,
            State::Refused => self.now < known.until && self.idles.since(seat) == known.idle,
            State::Nobody | State::Going | State::Never => true,
        }
    }

    fn grace(&self) -> u64 {
        self.hz / GRACE_HZ
    }
}

impl<O: Order> Victims<O> {
    /// What its tables take of [`abi::note::TableBytes::per_seat`].
    // A few dozen.
    #[allow(clippy::cast_possible_truncation)]
    pub const SEAT_BYTES: u32 = size_of::<Known>() as u32 + O::SEAT_BYTES;

    /// Knows nobody yet. The TSC makes `hz` ticks a second.
    pub fn new(tables: &mut Tables, hz: u64) -> Self {
        let (order, known) = (O::new(tables), tables.per_seat());
        Victims { order, known, hz, frames: 0, seats: 0, going: 0, pause: 0 }
    }

    /// Hears an event, those that are about pages included, at this TSC.
    pub fn hear(&mut self, event: &PagerEvent, now: u64, idles: &impl Idles) {
        match *event {
            PagerEvent::Hello { .. } => {
                self.order.clear();
                self.known.clear();
                (self.frames, self.seats, self.going, self.pause) = (0, 0, 0, 0);
            }
            PagerEvent::VmStarted { vm, seat, reserve, .. } => self.started(vm, seat, reserve, now, idles),
            PagerEvent::VmEnded { vm, seat } => {
                if self.find(vm, seat).is_some() {
                    self.leave(seat);
                }
            }
            PagerEvent::Room { frames, seats } => {
                (self.frames, self.seats) = (i64::try_from(frames).unwrap_or(i64::MAX), seats.into());
                self.pause = 0;
            }
            PagerEvent::Stays { vm, seat, why } => self.stays(vm, seat, why, now, idles),
            PagerEvent::Segment { .. }
            | PagerEvent::ImageGone { .. }
            | PagerEvent::Fault { .. }
            | PagerEvent::OutOfFrames { .. }
            | PagerEvent::Looked { .. }
            | PagerEvent::Gone { .. }
            | PagerEvent::Came { .. } => {}
        }
    }

    fn find(&mut self, vm: VmId, seat: Seat) -> Option<&mut Known> {
        let known = self.known.get_mut(seat.index())?;
        (known.state != State::Nobody && known.vm == vm).then_some(known)
    }

    /// Nobody is in this seat any more.
    fn leave(&mut self, seat: Seat) {
        let Some(known) = self.known.get_mut(seat.index()) else { return };
        if core::mem::take(known).state == State::Going {
            self.going = self.going.saturating_sub(1);
        }
        self.order.remove(seat);
    }

    /// A VM is in, in the place of whoever had its seat.
    fn started(&mut self, vm: VmId, seat: Seat, reserve: u32, now: u64, idles: &impl Idles) {
        // A seat that the machine does not have is nobody's.
        if self.known.reach(seat.index()).is_none() {
            return;
        }
        self.leave(seat);
        self.known[seat.index()] = Known { vm, reserve, state: State::In, ..Known::default() };
        let view = View { known: &self.known, idles, now, hz: self.hz };
        self.order.insert(seat, &view);
    }

    /// A VM that was asked to go out does not.
    fn stays(&mut self, vm: VmId, seat: Seat, why: Stays, now: u64, idles: &impl Idles) {
        let (hz, idle) = (self.hz, idles.since(seat));
        let Some(known) = self.find(vm, seat).filter(|known| known.state == State::Going) else { return };
        (known.idle, known.until) = (idle, now.saturating_add(hz / REFUSED_HZ));
        known.state = match why {
            // It is not its fault.
            Stays::NoSwap => State::In,
            Stays::Never => State::Never,
            Stays::Busy | Stays::Recent | Stays::Alarm | Stays::Full => State::Refused,
        };
        let reserve = known.reserve;
        if why == Stays::NoSwap {
            self.pause = now.saturating_add(hz / RETRY_HZ);
        }
        self.going = self.going.saturating_sub(1);
        self.frames = self.frames.saturating_add(reserve.into());
        self.seats = self.seats.saturating_add(1);
    }

    /// What is to be done at this TSC. Call it until there is nothing more.
    pub fn next(&mut self, now: u64, idles: &impl Idles) -> Next {
        if self.frames <= 0 && self.seats <= 0 {
            return Next::Nothing;
        }
        let retry = now.saturating_add(self.hz / RETRY_HZ);
        // More windows there are not; whoever is through makes it go on.
        if self.going >= WINDOWS {
            return Next::Later(retry);
        }
        if now < self.pause {
            return Next::Later(self.pause);
        }
        let view = View { known: &self.known, idles, now, hz: self.hz };
        match self.order.next(&view) {
            Search::More => Next::Again,
            Search::Nobody => {
                self.pause = retry;
                Next::Later(retry)
            }
            Search::Found(seat) => {
                let Some(known) = self.known.get_mut(seat.index()) else { return Next::Again };
                known.state = State::Going;
                self.going += 1;
                self.frames = self.frames.saturating_sub(known.reserve.into());
                self.seats = self.seats.saturating_sub(1);
                Next::Out(known.vm)
            }
        }
    }
}

#[cfg(test)]
#[path = "victims_tests.rs"]
mod tests;

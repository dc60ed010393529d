//! A machine on which VMs go out and come in at once, by the pager's code.

use crate::Outcome;
use crate::trace::{PAGES, Touched, Trace};
use abi::note::TableBytes;
use abi::pager::{PagerEvent, Stays};
use abi::vm::{ImageId, Seat, VmId};
use pager::component::Tables;
use pager::order::{Fifo, Lru, Order, Sieve};
use pager::victims::{Idles, Next, Victims};

/// Ticks in a second.
const HZ: u64 = 1_000_000;
/// From one wake to the next: a hundred a second.
const APART: u64 = HZ / 100;
/// From a wake until its VM idles again.
const WORK: u64 = HZ / 1000;
/// Who came in a shorter time ago does not go out ([`Stays::Recent`]; `residence=` of a machine).
const RESIDENCE: u64 = HZ / 10;

/// Who goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `vm-sieve`
    Sieve,
    /// `vm-lru`
    Lru,
    /// `vm-fifo`
    Fifo,
}

impl Policy {
    /// All there are.
    pub const ALL: [Policy; 3] = [Policy::Sieve, Policy::Lru, Policy::Fifo];

    /// What the boot option calls it.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Sieve => Sieve::NAME,
            Policy::Lru => Lru::NAME,
            Policy::Fifo => Fifo::NAME,
        }
    }
}

/// How a VM comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// With all its pages, as they do: a wake needs the disk when its VM is out.
    Whole,
    /// With the pages that it touches, when it touches them: a wake needs the disk when any of them is not there.
    PageByPage,
}

/// Plays `trace` with room for `seats` VMs with all their pages. Nobody is in at first.
///
/// # Panics
/// When there are more seats than a machine has, or nobody goes out where there must be somebody.
pub fn play(trace: &Trace, seats: usize, policy: Policy, comes: Comes) -> Outcome {
    match policy {
        Policy::Sieve => play_by::<Sieve>(trace, seats, comes),
        Policy::Lru => play_by::<Lru>(trace, seats, comes),
        Policy::Fifo => play_by::<Fifo>(trace, seats, comes),
    }
}

fn play_by<O: Order>(trace: &Trace, seats: usize, comes: Comes) -> Outcome {
    let mut machine = Machine::<O>::new(trace.vms, seats, comes);
    let mut outcome = Outcome::default();
    for wake in &trace.wakes {
        machine.now += APART;
        let read = machine.wake(wake.vm, wake.touched);
        outcome.wakes += 1;
        outcome.from_disk += u32::from(read > 0);
        outcome.pages += u64::from(read);
    }
    outcome
}

/// The words in which the pager finds when VMs have begun to idle, by seat.
struct Words(Vec<u64>);

impl Idles for Words {
    fn since(&self, seat: Seat) -> u64 {
        self.0.get(seat.index()).copied().unwrap_or(0)
    }
}

/// Who is in a seat.
#[derive(Clone, Copy, Debug)]
struct In {
    vm: u32,
    /// Its pages that are there.
    pages: Touched,
    since: u64,
}

/// What the core is on a machine.
struct Machine<O> {
    victims: Victims<O>,
    idles: Words,
    comes: Comes,
    /// Frames that nobody has.
    free: u32,
    seats: Vec<Option<In>>,
    free_seats: Vec<Seat>,
    /// The seat of each VM that is in.
    seat_of: Vec<Option<Seat>>,
    now: u64,
}

impl<O: Order> Machine<O> {
    fn new(vms: u32, room: usize, comes: Comes) -> Self {
        // With less than all pages of each there are more VMs in at once.
        let seats = if comes == Comes::Whole { room } else { (room * 8).min(abi::limits::MAX_SEATS) };
        let numbers = u16::try_from(seats).expect("a machine has no more seats");
        let bytes = TableBytes { per_seat: Victims::<O>::SEAT_BYTES, ..TableBytes::NONE };
        let mut machine = Machine {
            victims: Victims::new(&mut Tables::on_heap(bytes, 0, seats), HZ),
            idles: Words(vec![0; seats]),
            comes,
            free: u32::try_from(room).expect("few") * PAGES,
            seats: vec![None; seats],
            free_seats: (0..numbers).rev().map(Seat::new).collect(),
            seat_of: vec![None; usize::try_from(vms).expect("a million")],
            now: HZ,
        };
        machine.hear(&PagerEvent::Hello { frames: machine.free.into(), free: machine.free.into() });
        machine
    }

    fn hear(&mut self, event: &PagerEvent) {
        self.victims.hear(event, self.now, &self.idles);
    }

    /// A VM works for a moment. How many pages had to be read for that.
    fn wake(&mut self, vm: u32, touched: Touched) -> u32 {
        let index = usize::try_from(vm).expect("a million");
        let pages = if self.comes == Comes::Whole { Touched::MAX } else { touched };
        let there = self.seat_of[index].and_then(|seat| Some((seat, self.seats[seat.index()]?)));
        let missing = there.map_or(pages, |(_, found)| pages & !found.pages);
        if missing == 0 {
            if let Some((seat, _)) = there {
                self.idles.0[seat.index()] = self.now + WORK;
            }
            return 0;
        }
        // It is at work while it waits.
        if let Some((seat, _)) = there {
            self.idles.0[seat.index()] = 0;
        }
        let frames = missing.count_ones();
        self.make_room(frames, there.is_none());
        self.free -= frames;
        let seat = there.map_or_else(|| self.let_in(vm, frames), |(seat, _)| seat);
        let before = there.map_or((0, self.now), |(_, found)| (found.pages, found.since));
        self.seats[seat.index()] = Some(In { vm, pages: before.0 | missing, since: before.1 });
        self.idles.0[seat.index()] = self.now + WORK;
        frames
    }

    fn let_in(&mut self, vm: u32, frames: u32) -> Seat {
        let seat = self.free_seats.pop().expect("room was made");
        self.seat_of[usize::try_from(vm).expect("a million")] = Some(seat);
        self.idles.0[seat.index()] = 0;
        let id = VmId::new(vm, 1);
        self.hear(&PagerEvent::VmStarted { vm: id, seat, image: ImageId::new(0), pages: PAGES, reserve: frames });
        seat
    }

    /// As the core does while somebody waits for it to be admitted.
    fn make_room(&mut self, frames: u32, seat: bool) {
        // Each that is asked stays twice at most: for it came in just now, and it is asked again when that is over.
        let mut patience = 16 * self.seats.len() + 64;
        while self.free < frames || seat && self.free_seats.is_empty() {
            let seats = u32::from(seat && self.free_seats.is_empty());
            self.hear(&PagerEvent::Room { frames: frames.saturating_sub(self.free).into(), seats });
            loop {
                patience = patience.checked_sub(1).expect("somebody can go out");
                match self.victims.next(self.now, &self.idles) {
                    Next::Out(vm) => self.out(vm),
                    Next::Again => {}
                    Next::Later(until) => self.now = self.now.max(until),
                    Next::Nothing => break,
                }
            }
        }
    }

    /// The pager has asked for this VM to go out.
    fn out(&mut self, vm: VmId) {
        let index = vm.slot.index();
        let seat = self.seat_of[index].expect("who is asked is in");
        let Some(there) = self.seats[seat.index()] else { return };
        let why = match self.idles.since(seat) {
            idle if idle == 0 || idle > self.now => Some(Stays::Busy),
            _ if self.now - there.since < RESIDENCE => Some(Stays::Recent),
            _ => None,
        };
        if let Some(why) = why {
            return self.hear(&PagerEvent::Stays { vm, seat, why });
        }
        assert_eq!(there.vm, vm.slot.number(), "who has the seat is who was asked");
        self.seats[seat.index()] = None;
        self.seat_of[index] = None;
        self.free += there.pages.count_ones();
        self.free_seats.push(seat);
        self.hear(&PagerEvent::VmEnded { vm, seat });
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;

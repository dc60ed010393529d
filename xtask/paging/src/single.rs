//! A machine on which single pages go out and come in at once, by the pager's code ([`pager::pages`]), and whole VMs only by load control.

use crate::Outcome;
use crate::trace::{PAGES, Touched, Trace};
use abi::note::TableBytes;
use abi::pager::{PagerCommand, PagerEvent};
use abi::vm::{ImageId, Seat, VmId};
use pager::component::Tables;
use pager::order::Lru;
use pager::pages::{Choice, Clock, Fifo, Replace, Single, Wsclock};
use pager::victims::{Idles, Next, Victims};

/// Ticks in a second.
const HZ: u64 = 1_000_000;
/// From one wake to the next: a hundred a second.
const APART: u64 = HZ / 100;
/// What a wake runs.
const WORK: u64 = HZ / 1000;

/// Which pages go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagePolicy {
    /// `wsclock`
    Wsclock,
    /// `clock`
    Clock,
    /// `fifo`
    Fifo,
}

impl PagePolicy {
    /// All there are.
    pub const ALL: [PagePolicy; 3] = [PagePolicy::Wsclock, PagePolicy::Clock, PagePolicy::Fifo];

    /// What the boot option calls it.
    pub fn name(self) -> &'static str {
        match self {
            PagePolicy::Wsclock => Wsclock::NAME,
            PagePolicy::Clock => Clock::NAME,
            PagePolicy::Fifo => Fifo::NAME,
        }
    }
}

/// Plays `trace` with room for so many pages. Nobody is in at first.
///
/// # Panics
/// There are more VMs than a machine has seats, or no page goes where there must be some.
pub fn play_pages(trace: &Trace, room: u32, policy: PagePolicy) -> Outcome {
    match policy {
        PagePolicy::Wsclock => play_by::<Wsclock>(trace, room),
        PagePolicy::Clock => play_by::<Clock>(trace, room),
        PagePolicy::Fifo => play_by::<Fifo>(trace, room),
    }
}

fn play_by<R: Replace>(trace: &Trace, room: u32) -> Outcome {
    let mut machine = Machine::<R>::new(trace.vms, room);
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

/// A VM, which has the seat of its number.
#[derive(Clone, Copy, Default)]
struct Vm {
    is_in: bool,
    there: Touched,
    used: Touched,
    ran_ticks: u64,
}

/// When each VM has begun to idle.
struct Words(Vec<u64>);

impl Idles for Words {
    fn since(&self, seat: Seat) -> u64 {
        self.0.get(seat.index()).copied().unwrap_or(0)
    }
}

struct Machine<R> {
    single: Single<R>,
    victims: Victims<Lru>,
    vms: Vec<Vm>,
    idles: Words,
    free: u32,
    now: u64,
}

fn seat(vm: VmId) -> usize {
    vm.slot.index()
}

fn id(vm: usize) -> (VmId, Seat) {
    (VmId::new(u32::try_from(vm).expect("few"), 1), Seat::new(u16::try_from(vm).expect("as many as seats")))
}

impl<R: Replace> Machine<R> {
    fn new(vms: u32, room: u32) -> Self {
        let seats = usize::try_from(vms).expect("few");
        assert!(seats <= abi::limits::MAX_SEATS, "a machine has no more seats");
        let per_seat = Single::<R>::SEAT_BYTES + Victims::<Lru>::SEAT_BYTES;
        let mut tables = Tables::on_heap(TableBytes { per_seat, ..TableBytes::NONE }, 0, seats);
        let (single, victims) = (Single::new(&mut tables, HZ), Victims::new(&mut tables, HZ));
        let mut machine = Machine {
            single,
            victims,
            vms: vec![Vm::default(); seats],
            idles: Words(vec![0; seats]),
            free: room,
            now: HZ,
        };
        machine.hear(&PagerEvent::Hello { frames: room.into(), free: room.into() });
        machine
    }

    fn hear(&mut self, event: &PagerEvent) {
        if self.single.hear(event, self.now) {
            self.victims.hear(event, self.now, &self.idles);
        }
    }

    /// A VM works for a moment. How many pages had to be read for that.
    fn wake(&mut self, vm: u32, touched: Touched) -> u32 {
        let at = usize::try_from(vm).expect("few");
        let (id, seat) = id(at);
        if !self.vms[at].is_in {
            self.vms[at].is_in = true;
            self.hear(&PagerEvent::VmStarted { vm: id, seat, image: ImageId::new(0), pages: PAGES, reserve: 1 });
        }
        self.idles.0[at] = 0;
        let mut read = 0;
        for page in (0..PAGES).filter(|page| touched >> page & 1 != 0) {
            if self.vms[at].there >> page & 1 == 0 {
                read += 1;
                if self.free == 0 {
                    self.hear(&PagerEvent::OutOfFrames { vm: id, seat, page, free: 0 });
                    self.make_room();
                }
                self.free -= 1;
                self.vms[at].there |= 1 << page;
                self.hear(&PagerEvent::Came { vm: id, seat, page });
            }
            self.vms[at].used |= 1 << page;
        }
        self.vms[at].ran_ticks += WORK;
        self.idles.0[at] = self.now + WORK;
        read
    }

    fn make_room(&mut self) {
        for _ in 0..1_000_000 {
            if let Some(frames) = self.single.load_control() {
                self.victims.hear(&PagerEvent::Room { frames, seats: 0 }, self.now, &self.idles);
                while let Next::Out(vm) = self.victims.next(self.now, &self.idles) {
                    self.out(vm);
                }
            }
            match self.single.next(self.now) {
                Some(PagerCommand::Look { vm, page, pages }) => self.look(vm, page, pages),
                Some(PagerCommand::Away { vm, page, pages }) => self.away(vm, page, pages),
                Some(_) => {}
                None if self.free > 0 => return,
                None => self.now = self.now.max(self.single.due()),
            }
        }
        panic!("no page goes out");
    }

    fn look(&mut self, vm: VmId, page: u32, pages: u64) {
        let at = seat(vm);
        let mask = Touched::from(pages) << page;
        let Vm { there, used, ran_ticks, .. } = self.vms[at];
        self.vms[at].used &= !mask;
        let part = |pages: Touched| u64::try_from((pages & mask) >> page).unwrap_or(0);
        let (there, used, seat) = (part(there), part(used & there), id(at).1);
        self.hear(&PagerEvent::Looked { vm, seat, page, used, there, ran_ticks });
    }

    fn away(&mut self, vm: VmId, page: u32, pages: u64) {
        let at = seat(vm);
        let gone = self.vms[at].there & Touched::from(pages) << page;
        self.vms[at].there &= !gone;
        self.free += gone.count_ones();
        let (gone, free) = (u64::try_from(gone >> page).unwrap_or(0), self.free.into());
        self.hear(&PagerEvent::Gone { vm, seat: id(at).1, page, gone, free });
    }

    /// Load control: all pages of a VM that has nothing to do.
    fn out(&mut self, vm: VmId) {
        let at = seat(vm);
        self.free += self.vms[at].there.count_ones();
        (self.vms[at].there, self.vms[at].used, self.vms[at].is_in) = (0, 0, false);
        self.hear(&PagerEvent::VmEnded { vm, seat: id(at).1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimum;
    use crate::trace::{HOT_PAGES, Pattern, Shape, Wake};
    use proptest::prelude::*;

    #[test]
    fn only_what_is_touched_comes() {
        let wake = |vm, documents: u128| Wake { vm, touched: HOT_PAGES | documents << 24 };
        let wakes = vec![wake(0, 7), wake(0, 7), wake(0, 14), wake(1, 0)];
        for policy in PagePolicy::ALL {
            let outcome = play_pages(&Trace { vms: 2, wakes: wakes.clone() }, 200, policy);
            assert_eq!((outcome.wakes, outcome.from_disk, outcome.pages), (4, 3, 27 + 1 + 24));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn nobody_is_better_than_the_optimum(seed: u64, room in 4..20_u32, alpha in 0.5..1.5_f64) {
            let trace = Trace::new(&Shape { vms: 60, wakes: 400, pattern: Pattern::Zipf { alpha }, scans: 10, seed });
            let best = optimum::by_page(&trace, (room * PAGES) as usize);
            for policy in PagePolicy::ALL {
                let played = play_pages(&trace, room * PAGES, policy);
                prop_assert!(played.pages >= best.pages, "{policy:?}: {played:?} against {best:?}");
            }
        }
    }
}

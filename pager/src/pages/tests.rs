//! The rules against a core that keeps pages in sets.

use super::*;
use crate::pages::replace::TAU_MS;
use abi::note::TableBytes;
use abi::vm::{ImageId, VmId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Ticks in a second: a thousand a millisecond.
const HZ: u64 = 1_000_000;
const PAGES: u32 = 256;

#[derive(Default)]
struct Vm {
    there: BTreeSet<u32>,
    used: BTreeSet<u32>,
    out: BTreeSet<u32>,
    reserve: usize,
    ran_ticks: u64,
}

/// The core, and a policy that it asks.
struct Core<R> {
    single: Single<R>,
    vms: BTreeMap<u16, Vm>,
    free: usize,
    now: u64,
    /// Pages in the order in which they went.
    went: Vec<(u16, u32)>,
    /// Those who were let go on.
    resumed: Vec<VmId>,
    control: Vec<u64>,
    /// Nobody takes pages.
    full: bool,
}

fn id(number: u16) -> VmId {
    VmId::new(number.into(), 1)
}

impl<R: Replace> Core<R> {
    fn new(free: usize) -> Self {
        let bytes = TableBytes { per_seat: Single::<R>::SEAT_BYTES, ..TableBytes::NONE };
        let single = Single::new(&mut Tables::on_heap(bytes, 0, 64), HZ);
        let mut core = Core {
            single,
            vms: BTreeMap::new(),
            free,
            now: HZ,
            went: Vec::new(),
            resumed: Vec::new(),
            control: Vec::new(),
            full: false,
        };
        core.hello();
        core
    }

    fn hear(&mut self, event: PagerEvent) -> bool {
        self.single.hear(&event, self.now)
    }

    fn hello(&mut self) {
        self.hear(PagerEvent::Hello { frames: 100, free: 100 });
        for number in self.vms.keys().copied().collect::<Vec<_>>() {
            self.tell(number);
        }
    }

    fn tell(&mut self, number: u16) {
        let (vm, seat) = (id(number), Seat::new(number));
        self.hear(PagerEvent::VmStarted { vm, seat, image: ImageId::new(0), pages: PAGES, reserve: 1 });
    }

    fn start(&mut self, number: u16, reserve: usize) {
        self.vms.insert(number, Vm { reserve, ..Vm::default() });
        self.tell(number);
    }

    fn end(&mut self, number: u16) {
        if let Some(vm) = self.vms.remove(&number) {
            self.free += vm.there.len();
            self.hear(PagerEvent::VmEnded { vm: id(number), seat: Seat::new(number) });
        }
    }

    /// A guest touches a page. Whether it had to wait for it.
    fn touch(&mut self, number: u16, page: u32) -> bool {
        let (vm, seat) = (id(number), Seat::new(number));
        if self.vms[&number].there.contains(&page) {
            self.vms.get_mut(&number).expect("it lives").used.insert(page);
            return false;
        }
        if self.free == 0 {
            self.hear(PagerEvent::OutOfFrames { vm, seat, page, free: 0 });
            self.answer();
            if self.free == 0 {
                return true;
            }
        }
        self.free -= 1;
        let of = self.vms.get_mut(&number).expect("it lives");
        of.there.insert(page);
        of.used.insert(page);
        if of.out.remove(&page) {
            self.hear(PagerEvent::Came { vm, seat, page });
        } else {
            self.single.gave(seat, &PagerCommand::MapZero { vm, page, count: 1 });
        }
        true
    }

    /// Carries out what the policy says until it says no more. It comes to an end.
    fn answer(&mut self) {
        let mut idle = 0;
        for _ in 0..20_000 {
            let command = self.single.next(self.now);
            self.control.extend(self.single.load_control());
            let Some(command) = command else {
                let due = self.single.due();
                idle += 1;
                if due == u64::MAX || due.saturating_sub(self.now) > HZ / 20 || idle > 20 {
                    return;
                }
                self.now = self.now.max(due);
                continue;
            };
            idle = 0;
            let bits = |pages: u64| (0..64_u32).filter(move |bit| pages >> bit & 1 != 0);
            match command {
                PagerCommand::Look { vm, page, pages } => {
                    assert!(page % 64 == 0 && pages != 0);
                    let seat = Seat::new(u16::try_from(vm.slot.number()).expect("small"));
                    let Some(of) = self.vms.get_mut(&seat.number()) else { continue };
                    let there = bits(pages).filter(|bit| of.there.contains(&(page + bit)));
                    let there = there.fold(0, |sum, bit| sum | 1 << bit);
                    let used = bits(there).filter(|bit| of.used.remove(&(page + bit)));
                    let used = used.fold(0, |sum, bit| sum | 1 << bit);
                    let ran_ticks = of.ran_ticks;
                    self.hear(PagerEvent::Looked { vm, seat, page, used, there, ran_ticks });
                }
                PagerCommand::Away { vm, page, pages } => {
                    assert!(page % 64 == 0 && pages != 0);
                    let seat = Seat::new(u16::try_from(vm.slot.number()).expect("small"));
                    let Some(of) = self.vms.get_mut(&seat.number()) else { continue };
                    let mut gone = 0;
                    for bit in bits(pages) {
                        if !self.full && of.there.len() > of.reserve && of.there.remove(&(page + bit)) {
                            gone |= 1 << bit;
                            of.out.insert(page + bit);
                            self.free += 1;
                            self.went.push((seat.number(), page + bit));
                        }
                    }
                    self.hear(PagerEvent::Gone { vm, seat, page, gone, free: 0 });
                }
                PagerCommand::Resume { vm } => self.resumed.push(vm),
                other => panic!("{other:?}"),
            }
        }
        panic!("it never stops");
    }
}

#[test]
fn fifo_takes_what_came_first_used_or_not() {
    let mut core = Core::<Fifo>::new(100);
    core.start(1, 0);
    for page in [7, 3, 100, 5].into_iter().chain(128..224) {
        core.touch(1, page);
    }
    assert!(!core.touch(1, 7) && core.touch(1, 250));
    assert_eq!(core.went[..4], [(1, 3), (1, 7), (1, 100), (1, 5)], "side by side, those of 64 at once");
    assert_eq!((core.went.len(), core.resumed.as_slice()), (32, &[id(1)][..]));
}

#[test]
fn clock_lets_those_stay_that_were_used_since_their_last_turn() {
    let mut core = Core::<Clock>::new(60);
    core.start(1, 0);
    (0..60).for_each(|page| assert!(core.touch(1, page)));
    // All are used: a second round takes the first ones.
    core.touch(1, 60);
    assert_eq!(core.went, (0..32).map(|page| (1, page)).collect::<Vec<_>>());
    core.went.clear();
    // Used again are 32 to 45; the others go.
    (32..46).for_each(|page| assert!(!core.touch(1, page)));
    (61..100).for_each(|page| assert!(core.touch(1, page)));
    assert_eq!(core.went[..14], (46..60).map(|page| (1, page)).collect::<Vec<_>>());
}

#[test]
fn wsclock_takes_what_a_vm_has_not_used_for_tau_of_its_own_time_whatever_others_ran() {
    let mut core = Core::<Wsclock>::new(80);
    core.start(1, 0);
    core.start(2, 0);
    (0..40).for_each(|page| assert!(core.touch(1, page)));
    (0..40).for_each(|page| assert!(core.touch(2, page)));
    // The first look finds all used; VM 1 then runs on, and VM 2 does nothing.
    core.vms.get_mut(&1).expect("it lives").ran_ticks = 1000;
    core.touch(1, 40);
    let before = core.went.len();
    core.vms.get_mut(&1).expect("it lives").ran_ticks += 1000 * u64::from(TAU_MS + 5);
    (41..90).for_each(|page| {
        core.touch(1, page);
    });
    let went = &core.went[before..];
    assert!(!went.is_empty() && went.iter().take(20).all(|(of, _)| *of == 1), "{went:?}");
}

#[test]
fn load_control_is_asked_for_before_anything_young_goes() {
    let mut core = Core::<Wsclock>::new(40);
    core.start(1, 0);
    (0..40).for_each(|page| assert!(core.touch(1, page)));
    core.touch(1, 41);
    assert_eq!(core.control, [32]);
    // Nobody could go out as a whole, and so the first that was not used since did.
    assert_eq!(core.went.len(), 32);
    let mut core = Core::<Clock>::new(40);
    core.start(1, 0);
    (0..41).for_each(|page| assert!(core.touch(1, page)));
    assert_eq!(core.control, []);
}

fn restarts<R: Replace>() {
    let mut core = Core::<R>::new(100);
    core.start(1, 10);
    core.start(2, 0);
    (0..70).for_each(|page| assert!(core.touch(1, page)));
    (130..160).for_each(|page| assert!(core.touch(2, page)));
    core.hello();
    assert!(core.touch(2, 200));
    assert_eq!(core.went.len(), 32, "it has found what is there");
    // Down to the reserve, and no further.
    core.end(2);
    core.vms.get_mut(&1).expect("it lives").used.clear();
    core.free = 0;
    (70..140).for_each(|page| {
        core.touch(1, page);
    });
    assert!(core.vms[&1].there.len() >= 10);
}

#[test]
fn a_successor_finds_what_is_there() {
    restarts::<Fifo>();
    restarts::<Clock>();
    restarts::<Wsclock>();
}

#[test]
fn who_waits_for_admission_gets_pages_first_and_whole_vms_when_there_are_none() {
    let mut core = Core::<Clock>::new(40);
    core.start(1, 0);
    (0..40).for_each(|page| assert!(core.touch(1, page)));
    assert!(!core.hear(PagerEvent::Room { frames: 20, seats: 0 }));
    core.answer();
    assert_eq!(core.went.len(), 20);
    assert!(core.hear(PagerEvent::Room { frames: 1, seats: 1 }), "a seat only VMs have");
    core.full = true;
    assert!(!core.hear(PagerEvent::Room { frames: 20, seats: 0 }));
    core.answer();
    assert!(core.hear(PagerEvent::Room { frames: 20, seats: 0 }), "pages do not help");
}

#[test]
fn an_answer_that_is_lost_is_not_waited_for_for_ever() {
    let mut core = Core::<Clock>::new(40);
    core.start(1, 0);
    (0..40).for_each(|page| assert!(core.touch(1, page)));
    core.hear(PagerEvent::OutOfFrames { vm: id(1), seat: Seat::new(1), page: 50, free: 0 });
    assert!(matches!(core.single.next(core.now), Some(PagerCommand::Look { .. })));
    assert_eq!(core.single.next(core.now), None);
    core.now = core.single.due();
    core.answer();
    assert_eq!((core.went.len(), core.resumed.len()), (32, 1));
}

fn any_history<R: Replace>(steps: &[(u8, u16, u32)]) -> Result<(), TestCaseError> {
    let mut core = Core::<R>::new(90);
    for &(what, number, page) in steps {
        let number = number % 6;
        match what {
            0 => core.end(number),
            1 if !core.vms.contains_key(&number) => core.start(number, usize::from(number) * 3),
            2 => core.hello(),
            3 => core.full = !core.full,
            4 => {
                core.hear(PagerEvent::Room { frames: page.into(), seats: 0 });
                core.answer();
            }
            5 => {
                // A guest gives back.
                if let Some(vm) = core.vms.get_mut(&number) {
                    core.free += usize::from(vm.there.remove(&page));
                }
            }
            _ if core.vms.contains_key(&number) => {
                core.vms.get_mut(&number).expect("it lives").ran_ticks += u64::from(page) * 100;
                (page..(page + 8).min(PAGES)).for_each(|page| {
                    core.touch(number, page);
                });
            }
            _ => {}
        }
        let held: usize = core.vms.values().map(|vm| vm.there.len()).sum();
        prop_assert_eq!(held + core.free, 90, "frames are lost");
    }
    // When it can, somebody who wants a frame has one: others hold more than their reserves.
    core.full = false;
    core.end(5);
    core.start(5, 0);
    core.now += HZ;
    let others: usize = core.vms.values().map(|vm| vm.there.len().saturating_sub(vm.reserve)).sum();
    if core.free == 0 && others > 0 {
        core.hear(PagerEvent::OutOfFrames { vm: id(5), seat: Seat::new(5), page: 9, free: 0 });
        for _ in 0..4 {
            core.answer();
            core.now += HZ / 5;
        }
        prop_assert!(core.free > 0, "nothing goes");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_frames_are_found_and_the_search_ends(steps in prop::collection::vec((0_u8..12, 0_u16..6, 0..PAGES), 0..120)) {
        any_history::<Fifo>(&steps)?;
        any_history::<Clock>(&steps)?;
        any_history::<Wsclock>(&steps)?;
    }
}

fn overflows<R: Replace>() {
    // The row has room for 64 * 16 pages: five VMs have more.
    let mut core = Core::<R>::new(5 * PAGES as usize - 1);
    (1..6).for_each(|number| core.start(number, 0));
    for number in 1..6 {
        (0..PAGES).for_each(|page| {
            core.touch(number, page);
        });
    }
    assert!(core.went.len() >= 32, "more pages than there is room for are no reason to take none");
}

#[test]
fn more_pages_than_there_is_room_for_are_found_again() {
    overflows::<Fifo>();
    overflows::<Clock>();
    overflows::<Wsclock>();
}

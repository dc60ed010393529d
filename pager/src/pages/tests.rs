//! The rules against a core that keeps pages in sets.

use super::queue::{Entry, Queue};
use super::replace::TAU_MS;
use super::*;
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
    /// What it was asked for: VM, first page, and bits.
    looks: Vec<(VmId, u32, u64)>,
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
            looks: Vec::new(),
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
                    assert!(page % 64 == 0 && page < PAGES && pages != 0);
                    self.looks.push((vm, page, pages));
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

/// One that knows what there is: it has looked for what its forerunner gave, and found nothing.
fn knowing<R: Replace>(free: usize) -> Core<R> {
    let mut core = Core::<R>::new(free);
    core.start(1, 0);
    core.hear(PagerEvent::Room { frames: 1, seats: 0 });
    core.answer();
    core.now += HZ;
    // It begins anew only when a page has gone.
    core.touch(1, 255);
    core.hear(PagerEvent::Room { frames: 1, seats: 0 });
    core.answer();
    assert_eq!(core.went, [(1, 255)]);
    core.now += HZ;
    core.went.clear();
    core.looks.clear();
    core.control.clear();
    core
}

fn wants(core: &mut Core<impl Replace>, frames: u64) -> bool {
    core.hear(PagerEvent::Room { frames, seats: 0 })
}

fn looked(core: &mut Core<impl Replace>, page: u32, used: u64, there: u64, ran_ticks: u64) {
    core.hear(PagerEvent::Looked { vm: id(1), seat: Seat::new(1), page, used, there, ran_ticks });
}

const fn look(page: u32, pages: u64) -> Option<PagerCommand> {
    Some(PagerCommand::Look { vm: VmId::new(1, 1), page, pages })
}

#[test]
fn a_rule_judges_by_the_time_of_the_vm() {
    assert_eq!(Wsclock::judge(true, 100, 0), Verdict::Stays(100));
    assert_eq!(Wsclock::judge(false, 100 + TAU_MS, 100), Verdict::Stays(100));
    assert_eq!(Wsclock::judge(false, 101 + TAU_MS, 100), Verdict::Goes);
    assert_eq!(Wsclock::judge(false, 5, 100), Verdict::Stays(5), "its time began anew");
}

#[test]
fn a_page_in_the_row_is_what_it_was() {
    let bytes = TableBytes { per_seat: Queue::SEAT_BYTES, ..TableBytes::NONE };
    let mut queue = Queue::new(&mut Tables::on_heap(bytes, 0, 4));
    let entry = |seat, page, mark| Entry { seat: Seat::new(seat), page, mark };
    let entries = [entry(0, 0, 1), entry(u16::MAX, (1 << 18) - 1, (1 << 30) - 1), entry(3, 5, 2), entry(1, 1, 0)];
    for each in entries {
        assert!(!queue.push(each));
    }
    queue.push(entry(2, 1, 1 << 30 | 7));
    for each in entries {
        assert_eq!((queue.front(), queue.pop()), (Some(each), Some(each)));
    }
    assert_eq!((queue.len(), queue.pop(), queue.len()), (1, Some(entry(2, 1, 7)), 0));
}

#[test]
fn its_tables_are_those_of_the_row_and_of_who_is_there() {
    assert_eq!(Single::<Fifo>::SEAT_BYTES, 16 * 8 + 16);
}

#[test]
fn what_is_said_of_somebody_else_in_the_seat_is_not_heard() {
    let mut core = knowing::<Clock>(90);
    core.touch(1, 3);
    let (other, seat) = (VmId::new(1, 2), Seat::new(1));
    core.hear(PagerEvent::Came { vm: other, seat, page: 4 });
    core.single.gave(seat, &PagerCommand::MapZero { vm: other, page: 5, count: 1 });
    core.hear(PagerEvent::VmEnded { vm: other, seat });
    wants(&mut core, 1);
    assert_eq!(core.single.next(core.now), look(0, 1 << 3));
}

#[test]
fn only_pages_that_were_given_are_asked_about_whatever_could_not_go() {
    let mut core = knowing::<Clock>(90);
    [3, 7, 100].into_iter().for_each(|page| assert!(core.touch(1, page)));
    core.full = true;
    wants(&mut core, 3);
    core.answer();
    core.now += HZ;
    core.full = false;
    core.looks.clear();
    wants(&mut core, 3);
    core.answer();
    assert_eq!(core.went, [(1, 3), (1, 7), (1, 100)]);
    let asked = |page: u32| if page == 0 { 1 << 3 | 1 << 7 } else { 1 << (100 - 64) };
    assert!(core.looks.iter().all(|&(_, page, pages)| pages & !asked(page) == 0), "{:?}", core.looks);
    assert_eq!(core.control, [], "only one rule has whole VMs go first");
}

#[test]
fn pages_that_were_forgotten_for_want_of_room_are_found_again() {
    let mut core = knowing::<Fifo>(1280);
    (2..6).for_each(|number| core.start(number, 0));
    (1..6).for_each(|number| (0..PAGES).for_each(|page| assert!(core.touch(number, page))));
    // The row has room for 1,024, and has lost those of VM 1. All others are given back by their guests.
    for number in 2..6 {
        let vm = core.vms.get_mut(&number).expect("it lives");
        core.free += vm.there.len();
        vm.there.clear();
    }
    wants(&mut core, 20);
    core.answer();
    assert!(core.went.len() >= 20 && core.went.iter().all(|(of, _)| *of == 1), "{:?}", core.went);
}

#[test]
fn each_has_a_second_turn_before_anybody_gives_up() {
    let mut core = knowing::<Clock>(200);
    (0..128).for_each(|page| assert!(core.touch(1, page)));
    wants(&mut core, 1);
    for page in [0, 64, 0] {
        assert_eq!(core.single.next(core.now), look(page, u64::MAX), "all used, or just once");
        assert_eq!(core.single.due(), core.now + HZ / 4, "so long an answer is waited for");
        looked(&mut core, page, u64::MAX, u64::MAX, 0);
    }
}

#[test]
fn whoever_ends_is_not_waited_for_and_others_are() {
    let mut core = knowing::<Clock>(200);
    core.start(2, 0);
    (0..64).for_each(|page| assert!(core.touch(1, page)));
    core.touch(2, 9);
    wants(&mut core, 1);
    assert_eq!(core.single.next(core.now), look(0, u64::MAX));
    core.hear(PagerEvent::VmEnded { vm: id(3), seat: Seat::new(3) });
    assert_eq!(core.single.next(core.now), None, "it is still to answer");
    core.end(1);
    assert_eq!(core.single.next(core.now), Some(PagerCommand::Look { vm: id(2), page: 0, pages: 1 << 9 }));
}

#[test]
fn who_waits_goes_on_once() {
    let mut core = knowing::<Clock>(2);
    core.start(2, 0);
    core.touch(1, 0);
    core.touch(2, 0);
    for number in [1, 2, 1, 2, 2] {
        core.hear(PagerEvent::OutOfFrames { vm: id(number), seat: Seat::new(number), page: 7, free: 0 });
    }
    core.answer();
    assert_eq!(core.resumed, [id(1), id(2)]);
}

#[test]
fn the_time_of_a_vm_is_in_milliseconds() {
    const MS: u64 = HZ / 1000;
    // Used when the VM had run 10 ms; what comes when it is looked at again, unused.
    let then = |ran_ticks: u64| {
        let mut core = knowing::<Wsclock>(200);
        core.touch(1, 0);
        wants(&mut core, 1);
        for (used, ran_ticks) in [(1, 11 * MS - 1), (0, ran_ticks)] {
            assert_eq!(core.single.next(core.now), look(0, 1));
            looked(&mut core, 0, used, 1, ran_ticks);
        }
        core.single.next(core.now)
    };
    let tau = u64::from(TAU_MS);
    assert_eq!(then((11 + tau) * MS - 1), None, "no page is old enough");
    assert_eq!(then((11 + tau) * MS), Some(PagerCommand::Away { vm: id(1), page: 0, pages: 1 }));
    // After twelve days, when what is kept of its time has gone round.
    assert_eq!(then(((1 << 30) + 10 + tau) * MS), None, "that is no more than tau later");
}

#[test]
fn whole_vms_have_a_moment_and_then_pages_are_no_help_for_a_while() {
    let mut core = knowing::<Wsclock>(200);
    (0..64).for_each(|page| assert!(core.touch(1, page)));
    wants(&mut core, 5);
    let exhaust = |core: &mut Core<Wsclock>| {
        while let Some(command) = core.single.next(core.now) {
            match command {
                PagerCommand::Look { page, .. } => looked(core, page, 0, u64::MAX, 0),
                PagerCommand::Away { vm, page, .. } => {
                    core.hear(PagerEvent::Gone { vm, seat: Seat::new(1), page, gone: 0, free: 0 });
                }
                other => panic!("{other:?}"),
            }
        }
        core.single.load_control()
    };
    assert_eq!(exhaust(&mut core), Some(5));
    assert_eq!(core.single.due(), core.now + HZ / 100);
    core.now = core.single.due();
    assert_eq!(exhaust(&mut core), None, "that was asked for once");
    assert_eq!(core.single.due(), u64::MAX, "nobody waits");
    core.now += HZ / 10 - 1;
    assert!(wants(&mut core, 0));
    core.now += 1;
    assert!(!wants(&mut core, 0));
}

#[test]
fn where_no_answer_ever_comes_the_search_ends() {
    let mut core = knowing::<Clock>(200);
    (0..128).for_each(|page| assert!(core.touch(1, page)));
    wants(&mut core, 5);
    for _ in 0..20 {
        core.single.next(core.now);
        core.now = core.single.due().min(core.now + HZ);
        if core.single.due() == u64::MAX {
            return;
        }
    }
    panic!("it goes on for ever");
}

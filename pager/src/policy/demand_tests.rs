//! The policy against a core that keeps the frame rules by itself, as the real one does.

use super::*;
use crate::policy::served;
use abi::limits::LIVE_IMAGES;
use abi::note::TableBytes;
use abi::vm::ImageId;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What a guest page is backed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// The golden frame of the image, read-only.
    Golden,
    /// A frame of its own with the image's content.
    Copy,
    /// A frame of its own, of zeros.
    Zero,
}

#[derive(Clone, Debug)]
struct Layout {
    first: u32,
    pages: u32,
    file_pages: u32,
    writable: bool,
}

struct Guest {
    image: ImageId,
    pages: u32,
    memory: BTreeMap<u32, Page>,
    refused: bool,
    resumed: bool,
}

/// The part of the core that the pager talks to.
struct Core {
    images: BTreeMap<ImageId, Vec<Layout>>,
    guests: BTreeMap<VmId, Guest>,
    free: u64,
}

impl Core {
    fn file_page(&self, image: ImageId, page: u32) -> bool {
        self.images
            .get(&image)
            .is_some_and(|layouts| layouts.iter().any(|l| (l.first..l.first + l.file_pages).contains(&page)))
    }

    /// Carries a command out; fails like the core does, by an event, when frames are out.
    fn command(&mut self, command: PagerCommand) -> Option<PagerEvent> {
        let vm = match command {
            PagerCommand::MapZero { vm, .. }
            | PagerCommand::MapImage { vm, .. }
            | PagerCommand::CopyImage { vm, .. }
            | PagerCommand::Resume { vm }
            | PagerCommand::Refuse { vm, .. }
            | PagerCommand::Look { vm, .. }
            | PagerCommand::Away { vm, .. }
            | PagerCommand::Out { vm } => vm,
        };
        let image = self.guests.get(&vm).expect("commands name living VMs").image;
        let mut golden = Vec::new();
        if let PagerCommand::MapImage { page, count, .. } = command {
            golden = (page..page + count).map(|page| self.file_page(image, page)).collect();
        }
        let copies = matches!(command, PagerCommand::CopyImage { page, .. } if self.file_page(image, page));
        let free = &mut self.free;
        let guest = self.guests.get_mut(&vm).expect("checked");
        match command {
            PagerCommand::MapZero { page, count, .. } => {
                assert!(count >= 1 && page + count <= guest.pages, "mapped outside the VM");
                for page in page..page + count {
                    if let Entry::Vacant(entry) = guest.memory.entry(page) {
                        if *free == 0 {
                            return Some(PagerEvent::OutOfFrames { vm, seat: SEAT, page, free: 0 });
                        }
                        *free -= 1;
                        entry.insert(Page::Zero);
                    }
                }
            }
            PagerCommand::MapImage { page, count, .. } => {
                assert!(count >= 1 && page + count <= guest.pages, "mapped outside the VM");
                assert!(golden.iter().all(|&golden| golden), "the image has nothing there");
                for page in page..page + count {
                    guest.memory.entry(page).or_insert(Page::Golden);
                }
            }
            PagerCommand::CopyImage { page, .. } => {
                assert!(page < guest.pages, "mapped outside the VM");
                assert!(copies, "the image has nothing there");
                if matches!(guest.memory.get(&page), None | Some(Page::Golden)) {
                    if *free == 0 {
                        return Some(PagerEvent::OutOfFrames { vm, seat: SEAT, page, free: 0 });
                    }
                    *free -= 1;
                    guest.memory.insert(page, Page::Copy);
                }
            }
            PagerCommand::Resume { .. } => guest.resumed = true,
            // Nobody is ended who does not wait for a page.
            PagerCommand::Refuse { .. } => guest.refused |= !guest.resumed,
            PagerCommand::Out { .. } | PagerCommand::Look { .. } | PagerCommand::Away { .. } => panic!("{command:?}"),
        }
        None
    }

    fn allowed(&self, vm: VmId, page: u32, access: Access) -> bool {
        match self.guests[&vm].memory.get(&page) {
            None => false,
            Some(Page::Golden) => access != Access::Write,
            Some(Page::Copy | Page::Zero) => true,
        }
    }

    /// Lets a guest touch a page; the events go to the policy until the access succeeds, or the VM waits or is refused.
    fn touch(&mut self, policy: &mut Demand<DEFAULT_CLUSTER>, vm: VmId, page: u32, access: Access) -> bool {
        for _ in 0..3 {
            if self.allowed(vm, page, access) {
                return true;
            }
            let present = self.guests[&vm].memory.contains_key(&page);
            self.guests.get_mut(&vm).expect("alive").resumed = false;
            let mut event = Some(PagerEvent::Fault { vm, seat: SEAT, page, access, present });
            while let Some(next) = event {
                let (commands, result) = answers(policy, next);
                result.expect("the core makes sense");
                event = None;
                for command in commands {
                    event = self.command(command);
                    if event.is_some() {
                        // The VM goes on only when all was given.
                        break;
                    }
                }
            }
            let guest = &self.guests[&vm];
            if guest.refused || (!guest.resumed && self.free == 0) {
                return false;
            }
            assert!(self.guests[&vm].resumed, "a VM that is not refused goes on");
        }
        panic!("{vm} faults for ever at {page:#x}");
    }

    fn private_frames(&self, vm: VmId) -> usize {
        self.guests[&vm].memory.values().filter(|&&page| page != Page::Golden).count()
    }
}

const VM: VmId = VmId::new(3, 9);
const SEAT: Seat = Seat::new(2);
/// Seats of the machine.
const SEATS: usize = 100;
const IMAGE: ImageId = ImageId::new(1);
const PAGES: u32 = 256;

fn policy() -> Box<Demand<DEFAULT_CLUSTER>> {
    let bytes = TableBytes { per_slot: 0, per_seat: Demand::<DEFAULT_CLUSTER>::SEAT_BYTES, ..TableBytes::NONE };
    Box::new(Demand::new(&mut Tables::on_heap(bytes, 0, SEATS)))
}

fn started(layouts: Vec<Layout>, free: u64) -> (Box<Demand<DEFAULT_CLUSTER>>, Core) {
    let mut policy = policy();
    let mut tell = |event| assert_eq!(policy.handle(event), Ok(None));
    tell(PagerEvent::Hello { frames: free, free });
    for l in &layouts {
        let event = PagerEvent::Segment {
            image: IMAGE,
            first_page: l.first,
            pages: l.pages,
            file_pages: l.file_pages,
            writable: l.writable,
        };
        tell(event);
    }
    tell(PagerEvent::VmStarted { vm: VM, seat: SEAT, image: IMAGE, pages: PAGES, reserve: 14 });
    let guest = Guest { image: IMAGE, pages: PAGES, memory: BTreeMap::new(), refused: false, resumed: false };
    (policy, Core { images: [(IMAGE, layouts)].into(), guests: [(VM, guest)].into(), free })
}

/// Text of 20 pages, data of 3 pages of which one is zero, then a heap.
fn usual() -> Vec<Layout> {
    vec![
        Layout { first: 0x20, pages: 20, file_pages: 20, writable: false },
        Layout { first: 0x38, pages: 3, file_pages: 2, writable: true },
    ]
}

fn answers(policy: &mut Demand<DEFAULT_CLUSTER>, event: PagerEvent) -> (Vec<PagerCommand>, Result<(), Oddity>) {
    match policy.handle(event) {
        Ok(command) => {
            let resume = command.as_ref().and_then(served).map(|vm| PagerCommand::Resume { vm });
            (command.into_iter().chain(resume).collect(), Ok(()))
        }
        Err(oddity) => (Vec::new(), Err(oddity)),
    }
}

fn fault(policy: &mut Demand<DEFAULT_CLUSTER>, page: u32, access: Access, present: bool) -> Vec<PagerCommand> {
    let (commands, result) = answers(policy, PagerEvent::Fault { vm: VM, seat: SEAT, page, access, present });
    assert_eq!(result, Ok(()));
    commands
}

#[test]
fn each_kind_of_page() {
    let (mut policy, _) = started(usual(), 100);
    let resume = PagerCommand::Resume { vm: VM };
    let map = |page, count| PagerCommand::MapImage { vm: VM, page, count };
    let copy = |page| PagerCommand::CopyImage { vm: VM, page };
    let zero = |page| PagerCommand::MapZero { vm: VM, page, count: 1 };
    assert_eq!(fault(&mut policy, 0x21, Access::Execute, false), [map(0x20, 8), resume]);
    assert_eq!(fault(&mut policy, 0x33, Access::Read, false), [map(0x30, 4), resume]);
    assert_eq!(fault(&mut policy, 0x39, Access::Read, false), [map(0x39, 1), resume]);
    assert_eq!(fault(&mut policy, 0x39, Access::Write, true), [copy(0x39), resume]);
    assert_eq!(fault(&mut policy, 0x38, Access::Write, false), [copy(0x38), resume]);
    assert_eq!(fault(&mut policy, 0x3a, Access::Write, false), [zero(0x3a), resume]);
    assert_eq!(fault(&mut policy, 0x80, Access::Read, false), [zero(0x80), resume]);
    // A guest may write to its text: the VM's own business, on a frame of its own.
    assert_eq!(fault(&mut policy, 0x22, Access::Write, true), [copy(0x22), resume]);
    // Old faults.
    assert_eq!(fault(&mut policy, 0x80, Access::Write, true), [resume]);
    assert_eq!(fault(&mut policy, 0x21, Access::Execute, true), [resume]);
}

#[test]
fn whoever_asks_for_more_than_there_is_waits() {
    let (mut policy, mut core) = started(usual(), 2);
    assert!(core.touch(&mut policy, VM, 0x40, Access::Write));
    assert!(core.touch(&mut policy, VM, 0x38, Access::Write));
    assert!(core.touch(&mut policy, VM, 0x39, Access::Read));
    assert!(!core.touch(&mut policy, VM, 0x41, Access::Write), "there is none");
    assert!(!core.guests[&VM].refused, "it waits");
    core.free = 1;
    assert!(core.touch(&mut policy, VM, 0x41, Access::Write), "told again, the policy asks again");
}

#[test]
fn bad_events() {
    let (mut policy, _) = started(usual(), 10);
    let dead = VmId { generation: 8, ..VM };
    let fault = |vm, page| PagerEvent::Fault { vm, seat: SEAT, page, access: Access::Read, present: false };
    assert_eq!(answers(&mut policy, fault(dead, 1)), (vec![], Err(Oddity::UnknownVm(dead))));
    assert_eq!(answers(&mut policy, fault(VM, PAGES)), (vec![PagerCommand::Refuse { vm: VM, page: PAGES }], Ok(())));
    let out = PagerEvent::OutOfFrames { vm: dead, seat: SEAT, page: 1, free: 0 };
    assert_eq!(answers(&mut policy, out), (vec![], Ok(())));
    let segment = PagerEvent::Segment { image: IMAGE, first_page: u32::MAX, pages: 9, file_pages: 1, writable: false };
    assert_eq!(answers(&mut policy, segment), (vec![], Err(Oddity::BadSegment(IMAGE))));
    assert_eq!(answers(&mut policy, PagerEvent::VmEnded { vm: VM, seat: SEAT }), (vec![], Ok(())));
    assert_eq!(answers(&mut policy, fault(VM, 1)), (vec![], Err(Oddity::UnknownVm(VM))));
}

#[test]
fn a_restart_forgets_everything() {
    let (mut policy, _) = started(usual(), 10);
    assert_eq!(answers(&mut policy, PagerEvent::Hello { frames: 1, free: 1 }), (vec![], Ok(())));
    let (commands, result) = answers(
        &mut policy,
        PagerEvent::Fault { vm: VM, seat: SEAT, page: 0x20, access: Access::Read, present: false },
    );
    assert_eq!((commands, result), (vec![], Err(Oddity::UnknownVm(VM))));
    let started = PagerEvent::VmStarted { vm: VM, seat: SEAT, image: IMAGE, pages: PAGES, reserve: 14 };
    assert_eq!(answers(&mut policy, started), (vec![], Ok(())));
    // Its image has no segments any more.
    assert_eq!(
        fault(&mut policy, 0x20, Access::Read, false)[0],
        PagerCommand::MapZero { vm: VM, page: 0x20, count: 1 }
    );
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Execute)]
}

/// Segments one behind the other, with gaps, inside and at times beyond the VM's memory.
fn layouts() -> impl Strategy<Value = Vec<Layout>> {
    prop::collection::vec((1_u32..20, 1_u32..50, 0_u32..51, any::<bool>()), 0..=8).prop_map(|parts| {
        let mut next = 0x20;
        parts
            .into_iter()
            .map(|(gap, pages, file_pages, writable)| {
                let first = next + gap;
                next = first + pages;
                Layout { first, pages, file_pages: file_pages.min(pages), writable }
            })
            .collect()
    })
}

fn any_event() -> impl Strategy<Value = PagerEvent> {
    let vm = || {
        prop_oneof![
            Just(VM),
            (any::<u32>(), 0_u32..3).prop_map(|(index, generation)| VmId::new(index, generation)),
            (0_u32..4, 0_u32..3).prop_map(|(index, generation)| VmId::new(index, generation)),
        ]
    };
    let number = || prop_oneof![any::<u32>(), 0_u32..300, u32::MAX - 9..=u32::MAX];
    let image = || prop_oneof![0_u32..3, any::<u32>()].prop_map(ImageId::new);
    let seat =
        || prop_oneof![8 => Just(SEAT), 2 => (0_u16..4).prop_map(Seat::new), 1 => any::<u16>().prop_map(Seat::new)];
    prop_oneof![
        1 => (any::<u64>(), any::<u64>()).prop_map(|(frames, free)| PagerEvent::Hello { frames, free }),
        4 => (image(), number(), number(), number(), any::<bool>()).prop_map(
            |(image, first_page, pages, file_pages, writable)| PagerEvent::Segment { image, first_page, pages, file_pages, writable }
        ),
        4 => (vm(), seat(), image(), number())
            .prop_map(|(vm, seat, image, pages)| PagerEvent::VmStarted { vm, seat, image, pages, reserve: 14 }),
        1 => (vm(), seat()).prop_map(|(vm, seat)| PagerEvent::VmEnded { vm, seat }),
        8 => (vm(), seat(), number(), access(), any::<bool>())
            .prop_map(|(vm, seat, page, access, present)| PagerEvent::Fault { vm, seat, page, access, present }),
        1 => (vm(), seat(), number(), any::<u64>())
            .prop_map(|(vm, seat, page, free)| PagerEvent::OutOfFrames { vm, seat, page, free }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// After the answer the access succeeds, what the image holds costs no frame to read, and nothing is mapped outside
    /// the VM or the image (which the model asserts).
    #[test]
    fn faults_are_served(layouts in layouts(), touches in prop::collection::vec((0..PAGES, access()), 1..100)) {
        let (mut policy, mut core) = started(layouts, u64::MAX);
        for (page, access) in touches {
            let before = core.private_frames(VM);
            prop_assert!(core.touch(&mut policy, VM, page, access));
            let cost = core.private_frames(VM) - before;
            if access != Access::Write && core.file_page(IMAGE, page) {
                prop_assert_eq!(cost, 0);
            }
            prop_assert!(cost <= 1);
        }
    }

    /// With too few frames VMs wait, and the policy neither panics nor lets one fault for ever.
    #[test]
    fn frames_run_out(layouts in layouts(), free in 0_u64..20, touches in prop::collection::vec((0..PAGES, access()), 1..60)) {
        let (mut policy, mut core) = started(layouts, free);
        for (page, access) in touches {
            if !core.touch(&mut policy, VM, page, access) {
                prop_assert_eq!(core.free, 0);
                break;
            }
        }
    }

    /// No sequence of events, however senseless, makes it panic or answer with something that reaches beyond a VM.
    #[test]
    fn senseless_events(events in prop::collection::vec(any_event(), 0..200)) {
        let mut policy = policy();
        let mut sizes = BTreeMap::new();
        for event in events {
            let (commands, result) = answers(&mut policy, event);
            prop_assert!(commands.len() <= 2);
            if let (PagerEvent::VmStarted { vm, seat, image, pages, .. }, Ok(())) = (event, result) {
                prop_assert!(seat.index() < SEATS && image.index() < LIVE_IMAGES);
                // A VM that is told of in several seats: any of them will do.
                sizes.entry(vm).and_modify(|known: &mut u32| *known = pages.max(*known)).or_insert(pages);
            }
            for command in commands {
                match command {
                    PagerCommand::MapZero { vm, page, count } | PagerCommand::MapImage { vm, page, count } => {
                        let end = page.checked_add(count);
                        prop_assert!(count > 0 && end.is_some_and(|end| end <= sizes[&vm]));
                    }
                    PagerCommand::CopyImage { vm, page } => prop_assert!(page < sizes[&vm]),
                    PagerCommand::Resume { .. } | PagerCommand::Refuse { .. } => {}
                    other => prop_assert!(false, "{:?} is no answer", other),
                }
            }
        }
    }
}

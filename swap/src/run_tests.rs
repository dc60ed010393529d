//! The component behind its rings, with windows in the test's memory.

use super::*;
use crate::test_vm::noise;
use abi::swap::{Kept, WINDOW_BYTES};
use component::Tables;
use component::ring::{Consumer, Producer, SharedMemory};
use component::test_log::lines;
use std::boxed::Box;
use std::string::String;
use std::vec;
use std::vec::Vec;

const VM: VmId = VmId::new(3, 1);
const LIVE: usize = 2;

fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; bytes / 8].into_boxed_slice()))
}

/// The rings' ends of the core, two windows, and the pool.
struct Core {
    events: Producer<SharedMemory>,
    commands: Consumer<SharedMemory>,
    inbox: Inbox,
    outbox: Outbox,
    windows: [SwapWindow; LIVE],
    pool: SharedMemory,
    /// It is only the way to the disks, of which there are none.
    passes: bool,
}

impl Core {
    fn new() -> Core {
        let ring = || memory(256 + 32 * 64);
        let (events, commands) = (ring(), ring());
        let window = || SwapWindow {
            sheet: memory(usize::try_from(SHEET_STRIDE).expect("small")),
            pages: memory(usize::try_from(WINDOW_BYTES).expect("small")),
        };
        Core {
            inbox: Inbox { ring: Consumer::attach_contiguous(&events, 32).expect("good"), doorbell: 1 },
            outbox: Outbox { ring: Producer::attach_contiguous(&commands, 32).expect("good"), doorbell: 0 },
            events: Producer::attach_contiguous(&events, 32).expect("good"),
            commands: Consumer::attach_contiguous(&commands, 32).expect("good"),
            windows: [window(), window()],
            pool: memory(1 << 20),
            passes: false,
        }
    }

    /// The component as it is started.
    fn start(&self) -> Swap<impl Fn(u32) -> Option<Shown> + use<>> {
        let windows = self.windows;
        let windows = move |window: u32| windows.get(usize::try_from(window).ok()?).copied().map(Shown);
        let work = Box::leak(Box::new(Work::new()));
        // So slow a time that nothing is earned in a test.
        let buffers = Box::leak(Box::new(crate::read::Buffers::new()));
        let ages = Ages::new(&mut Tables::on_heap(TABLES, 16, 0));
        let disk = Disk::new(Link::new(None), &[1; 32], ages, buffers, 1_000_000, self.passes);
        Swap { pool: Pool::new(self.pool), work, disk, windows, complaints: Complaints::new(u64::MAX) }
    }

    fn ask(&mut self, swap: &mut Swap<impl Fn(u32) -> Option<Shown>>, events: &[SwapEvent]) -> Vec<SwapCommand> {
        for &event in events {
            self.events.push(&event.into()).expect("room");
        }
        assert!(swap.serve(&mut self.inbox, &mut self.outbox, 0));
        let taken = core::iter::from_fn(|| self.commands.take().expect("good"));
        let commands = taken.map(|message| SwapCommand::try_from(&message).expect("a command")).collect();
        self.commands.release();
        commands
    }

    /// Shows a VM with these pages in a window.
    fn show(&self, window: usize, pages: &[(u32, Vec<u8>)], kept: &[u8]) {
        let SwapWindow { sheet, pages: frames } = self.windows[window];
        for (index, (number, page)) in pages.iter().enumerate() {
            sheet.write32(4 * index, *number).expect("inside");
            frames.write(index * PAGE, page).expect("inside");
        }
        sheet.write(KEPT_OFFSET, kept).expect("inside");
    }

    /// Clears the frames of a window, as the core does before one comes in, and leaves on its sheet what was there.
    fn clear(&self, window: usize) {
        self.windows[window].pages.clear(0, 64 * PAGE).expect("inside");
    }

    /// What a window shows.
    fn shown(&self, window: usize, pages: usize) -> (Vec<(u32, Vec<u8>)>, Vec<u8>) {
        let SwapWindow { sheet, pages: frames } = self.windows[window];
        let page = |index: usize| {
            let mut page = vec![0; PAGE];
            frames.read(index * PAGE, &mut page).expect("inside");
            (sheet.read32(4 * index).expect("inside"), page)
        };
        let mut kept = vec![0; size_of::<Kept>()];
        sheet.read(KEPT_OFFSET, &mut kept).expect("inside");
        ((0..pages).map(page).collect(), kept)
    }
}

fn store(counter: u64, pages: u32, window: u32) -> SwapEvent {
    SwapEvent::Store { vm: VM, counter, pages, window, spare: false }
}

fn stored(commands: &[SwapCommand]) -> Bundle {
    match commands {
        [SwapCommand::Stored { vm: VM, bundle }] => *bundle,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_goes_out_comes_in_as_it_was_also_after_a_death() {
    let mut core = Core::new();
    let mut swap = core.start();
    let pages = vec![(2, noise(1, PAGE)), (77, vec![0; PAGE]), (100, [vec![0; 4000], vec![9; 96]].concat())];
    let mut kept = vec![0; size_of::<Kept>()];
    (kept[0], kept[2455]) = (1, 2);
    core.show(0, &pages, &kept);
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Hello]), []);
    let bundle = stored(&core.ask(&mut swap, &[store(4, 3, 0)]));
    assert_eq!((bundle.counter, bundle.pages), (4, 3));
    let load = SwapEvent::Load { vm: VM, bundle, window: 1 };
    let loaded = [SwapCommand::Loaded { vm: VM, counter: 4 }];
    for _ in 0..2 {
        // A sheet on which another VM's lies.
        core.show(1, &[(5, noise(2, PAGE))], &noise(3, size_of::<Kept>()));
        core.clear(1);
        assert_eq!(core.ask(&mut swap, &[load]), loaded);
        assert_eq!(core.shown(1, 3), (pages.clone(), kept.clone()));
        // It dies, and its successor is told.
        swap = core.start();
        assert_eq!(core.ask(&mut swap, &[SwapEvent::Hello, SwapEvent::Holds { vm: VM, bundle }]), []);
    }
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Forget { vm: VM, bundle }, SwapEvent::Forget { vm: VM, bundle }]), []);
    let said = lines(|| {
        let damaged = [SwapCommand::Damaged { vm: VM, counter: 4 }];
        assert_eq!(core.ask(&mut swap, &[load]), damaged);
    });
    assert_eq!(
        said,
        [String::from(
            "ERROR what was held of vm3.1 is lost: its chain of cells leads astray; 0 such lines suppressed"
        )]
    );
}

#[test]
fn what_is_too_much_or_makes_no_sense_is_refused() {
    let mut core = Core::new();
    let mut swap = core.start();
    let many: Vec<_> = (0..300).map(|number| (number, noise(number.into(), PAGE))).collect();
    core.show(0, &many, &[]);
    let refused = |counter| [SwapCommand::Refused { vm: VM, counter }];
    assert_eq!(core.ask(&mut swap, &[store(1, 300, 0)]), refused(1), "a pool of a mebibyte");
    assert_eq!(core.ask(&mut swap, &[store(2, 513, 0)]), refused(2), "more than a window has");
    assert_eq!(core.ask(&mut swap, &[store(3, 1, 2)]), refused(3), "no such window");
    let bundle = stored(&core.ask(&mut swap, &[store(4, 30, 0)]));
    let damaged = [SwapCommand::Damaged { vm: VM, counter: 4 }];
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Load { vm: VM, bundle, window: 2 }]), damaged);
    let more = Bundle { pages: 513, ..bundle };
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Load { vm: VM, bundle: more, window: 1 }]), damaged);
    core.events.push(&Message::new(0xffff, [])).expect("room");
    let said = lines(|| assert_eq!(core.ask(&mut swap, &[]), []));
    assert!(said[0].starts_with("WARN dropped a message"), "{said:?}");
}

#[test]
fn without_a_pool_everybody_stays() {
    let mut core = Core::new();
    let mut swap = Swap { pool: None, ..core.start() };
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Hello, store(1, 1, 0)]), [SwapCommand::Refused { vm: VM, counter: 1 }]);
    let bundle = Bundle { counter: 1, bytes: 256, pages: 1, ..Bundle::NONE };
    let load = SwapEvent::Load { vm: VM, bundle, window: 0 };
    assert_eq!(core.ask(&mut swap, &[load]), [SwapCommand::Damaged { vm: VM, counter: 1 }]);
}

#[test]
fn without_a_pool_and_disks_nobody_goes_out() {
    let mut core = Core::new();
    core.passes = true;
    let mut swap = core.start();
    core.show(0, &[(3, vec![7; PAGE])], &[1; 64]);
    let refused = core.ask(&mut swap, &[SwapEvent::Hello, store(5, 1, 0)]);
    assert_eq!(refused, [SwapCommand::Refused { vm: VM, counter: 5 }]);
    let holding = swap.pool.as_ref().expect("there is one").holding();
    assert_eq!((holding.vms, holding.bytes), (0, 0), "nothing is left of it");
}

#[test]
fn pages_go_out_one_by_one_and_come_back_in_any_order_also_after_a_death() {
    let mut core = Core::new();
    let mut swap = core.start();
    let pages: Vec<(u32, Vec<u8>)> = vec![(0, noise(5, PAGE)), (0, vec![0; PAGE]), (0, vec![7; PAGE])];
    // What else the sheet holds is another VM's.
    core.show(0, &pages, &vec![0xee; size_of::<Kept>()]);
    let order = SwapEvent::StorePages { vm: VM, counter: 70, pages: 3, window: 0, spare: false };
    let bundles: Vec<Bundle> = core.ask(&mut swap, &[order]).iter().map(|answer| stored(&[*answer])).collect();
    assert_eq!(
        bundles.iter().map(|bundle| (bundle.counter, bundle.tier)).collect::<Vec<_>>(),
        [70, 71, 72].map(|counter| (counter, tier::PAGE))
    );
    assert!(bundles.iter().all(|bundle| bundle.fits_page(1 << 20)));
    // A successor is told of all, and has room beside them.
    let mut swap = core.start();
    let holds: Vec<SwapEvent> = bundles.iter().map(|&bundle| SwapEvent::Holds { vm: VM, bundle }).collect();
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Hello]), []);
    assert_eq!(core.ask(&mut swap, &holds), []);
    core.show(1, &[(5, noise(9, PAGE))], &[3; size_of::<Kept>()]);
    let whole = stored(&core.ask(&mut swap, &[store(90, 1, 1)]));
    for at in [2, 0, 1] {
        core.clear(0);
        let bundle = bundles[at];
        let loaded = core.ask(&mut swap, &[SwapEvent::Load { vm: VM, bundle, window: 0 }]);
        assert_eq!(loaded, [SwapCommand::Loaded { vm: VM, counter: bundle.counter }]);
        assert!(core.shown(0, 1).0[0].1 == pages[at].1, "page {at}");
        let gone = VmId::new(0, 0);
        assert_eq!(core.ask(&mut swap, &[SwapEvent::Forget { vm: gone, bundle }]), []);
    }
    assert_eq!(core.ask(&mut swap, &[SwapEvent::Forget { vm: VM, bundle: whole }]), []);
    let (all, free) = swap.pool.as_ref().expect("it has one").room();
    assert_eq!(all, free, "something is left");
}

#[test]
fn no_single_page_goes_to_a_pool_that_is_only_the_way_to_the_disks() {
    let mut core = Core::new();
    core.passes = true;
    let mut swap = core.start();
    core.show(0, &[(0, noise(5, PAGE))], &[]);
    let order = SwapEvent::StorePages { vm: VM, counter: 70, pages: 1, window: 0, spare: true };
    assert_eq!(core.ask(&mut swap, &[order]), [SwapCommand::Refused { vm: VM, counter: 70 }]);
    let order = SwapEvent::StorePages { vm: VM, counter: 71, pages: 1, window: 9, spare: true };
    assert_eq!(core.ask(&mut swap, &[order]), [SwapCommand::Refused { vm: VM, counter: 71 }], "no such window");
}

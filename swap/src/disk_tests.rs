//! Moves and reads, with a striper that does what the test says.

use super::*;
use crate::ages::TABLES;
use crate::link::Ports;
use crate::seal::BLOCK;
use crate::test_vm::{Vm, noise, vm};
use abi::message::Message;
use abi::swap::tier;
use abi::swap_disk::{DATA_BYTES, SwapDiskReply, SwapDiskRequest};
use component::{Inbox, Outbox, Tables};
use proptest::prelude::*;
use ring::{Consumer, Producer, SharedMemory};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

const HZ: u64 = 1000;
/// Blocks of a region, and regions.
const REGION: u32 = 12;
const REGIONS: u32 = 40;

fn memory(bytes: usize) -> SharedMemory {
    SharedMemory::from_static(Box::leak(vec![0_u64; bytes / 8].into_boxed_slice()))
}

/// A window that writes into a VM of the test.
struct Window(&'static RefCell<Vm>);

impl Entering for Window {
    fn number(&mut self, index: u32, number: u32) {
        self.0.borrow_mut().number(index, number);
    }

    fn line(&mut self, index: u32, line: usize, bytes: &[u8; crate::bundle::LINE]) {
        self.0.borrow_mut().line(index, line, bytes);
    }

    fn kept(&mut self, line: usize, bytes: &[u8; crate::bundle::LINE]) {
        self.0.borrow_mut().kept(line, bytes);
    }
}

/// Both ends, and what lies on the disks.
struct Lab {
    requests: Consumer<SharedMemory>,
    replies: Producer<SharedMemory>,
    rings: [SharedMemory; 3],
    blocks: BTreeMap<(u32, u32), Vec<u8>>,
    /// Requests that fail, by the region.
    fails: Vec<u32>,
    disk: Disk,
    pool: Pool,
    work: Box<Work>,
    now: u64,
    window: &'static RefCell<Vm>,
}

fn disk(rings: &[SharedMemory; 3], passes: bool) -> Disk {
    let ports = Ports {
        requests: Outbox { ring: Producer::attach_contiguous(&rings[0], 64).expect("good"), doorbell: 1 },
        replies: Inbox { ring: Consumer::attach_contiguous(&rings[1], 64).expect("good"), doorbell: 2 },
        data: rings[2],
    };
    let ages = Ages::new(&mut Tables::on_heap(TABLES, 64, 0));
    let buffers = Box::leak(Box::new(crate::read::Buffers::new()));
    Disk::new(Link::new(Some(ports)), &[3; 32], ages, buffers, HZ, passes)
}

impl Lab {
    /// With a pool of so many bytes.
    fn new(pool: usize) -> Lab {
        Lab::with(pool, false)
    }

    /// It, as the way to the disks only, or not so.
    fn with(pool: usize, passes: bool) -> Lab {
        let rings = [memory(256 + 64 * 64), memory(256 + 64 * 64), memory(DATA_BYTES)];
        Lab {
            requests: Consumer::attach_contiguous(&rings[0], 64).expect("good"),
            replies: Producer::attach_contiguous(&rings[1], 64).expect("good"),
            disk: disk(&rings, passes),
            rings,
            blocks: BTreeMap::new(),
            fails: Vec::new(),
            pool: Pool::new(memory(pool)).expect("room"),
            work: Box::new(Work::new()),
            now: 1,
            window: Box::leak(Box::new(RefCell::new(Vm::empty(0)))),
        }
    }

    /// What the component does, and what it tells the core.
    fn step(&mut self) -> Vec<SwapCommand> {
        let (mut told, window) = (Vec::new(), self.window);
        let windows = |_| Some(Window(window));
        self.disk.step(&mut self.pool, &mut self.work, self.now, &windows, |command| {
            told.push(command);
            true
        });
        told
    }

    fn say(&mut self, id: u32, reply: SwapDiskReply) {
        self.replies.push(&Message { id, ..reply.into() }).expect("room");
    }

    /// What the striper does with all that it is asked; how many requests of each kind there were.
    fn serve(&mut self) -> (usize, usize) {
        let (mut reads, mut writes) = (0, 0);
        while let Some(message) = self.requests.take().expect("good") {
            let (write, region, first, blocks, run) = match SwapDiskRequest::try_from(&message).expect("a request") {
                SwapDiskRequest::Hello { session } => {
                    let (regions, region_blocks) = (REGIONS, REGION);
                    self.say(0, SwapDiskReply::Regions { session, regions, region_blocks, writable: true });
                    continue;
                }
                SwapDiskRequest::Read { region, first, blocks, run } => (false, region, first, blocks, run),
                SwapDiskRequest::Write { region, first, blocks, run } => (true, region, first, blocks, run),
            };
            assert!(region < REGIONS && first + u32::from(blocks) <= REGION && usize::from(blocks) <= RUN_BLOCKS);
            (reads, writes) = (reads + usize::from(!write), writes + usize::from(write));
            for index in 0..u32::from(blocks) {
                let at = (usize::from(run) * RUN_BLOCKS + index as usize) * BLOCK;
                let place = (region, first + index);
                if write {
                    let mut block = vec![0; BLOCK];
                    self.rings[2].read(at, &mut block).expect("inside");
                    self.blocks.insert(place, block);
                } else if let Some(block) = self.blocks.get(&place) {
                    self.rings[2].write(at, block).expect("inside");
                }
            }
            let status = if self.fails.contains(&region) { status::FAILED } else { status::DONE };
            self.say(message.id, SwapDiskReply::Ended { run, status });
        }
        self.requests.release();
        (reads, writes)
    }

    /// Until nothing is told any more.
    fn settle(&mut self) -> Vec<SwapCommand> {
        let mut told = Vec::new();
        for _ in 0..20 {
            told.extend(self.step());
            self.serve();
        }
        told
    }

    /// Puts a VM into the pool.
    fn store(&mut self, slot: u32, counter: u64, from: &Vm) -> (VmId, Bundle) {
        let vm = VmId::new(slot, 1);
        let bundle = self.pool.store(&mut self.work, vm, counter, from, from.count(), true).expect("room");
        self.disk.note(vm, &bundle);
        (vm, bundle)
    }

    /// As the core, for which the bundle lies on the disks from now on.
    fn commit(&mut self, vm: VmId, bundle: &Bundle) -> Bundle {
        self.disk.forget(vm, bundle);
        assert!(self.pool.forget(bundle));
        Bundle { tier: tier::DISK, place: vm.slot.number(), ..*bundle }
    }

    /// Reads a VM back, and what is told of it.
    fn load(&mut self, vm: VmId, bundle: &Bundle) -> Vec<SwapCommand> {
        *self.window.borrow_mut() = Vm::empty(bundle.pages);
        self.disk.read(vm, *bundle, 2, self.now);
        self.settle()
    }
}

fn moved(vm: VmId, counter: u64) -> SwapCommand {
    SwapCommand::Moved { vm, counter }
}

/// Some pages that nothing makes smaller.
fn large(pages: u32) -> Vm {
    let pages = (0..pages).map(|number| (number, noise(u64::from(number) + 5, 4096))).collect();
    Vm { pages, kept: noise(9, 4096) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn what_is_moved_comes_back_as_it_was(vm in vm(8)) {
        let mut lab = Lab::new(64 << 10);
        // So little fits that all of it is too much.
        let (filler, filling) = lab.store(1, 6, &large(6));
        let (id, bundle) = lab.store(7, 5, &vm);
        let told = lab.settle();
        prop_assert!(told.contains(&moved(filler, 6)), "{:?}", told);
        lab.commit(filler, &filling);
        let told = [told, lab.settle()].concat();
        if !told.contains(&moved(id, 5)) {
            // What is left is little enough.
            return Ok(());
        }
        let on_disk = lab.commit(id, &bundle);
        prop_assert_eq!(lab.load(id, &on_disk), [SwapCommand::Loaded { vm: id, counter: 5 }]);
        prop_assert_eq!(&*lab.window.borrow(), &vm);
    }
}

#[test]
fn what_lies_side_by_side_is_asked_for_at_once() {
    let mut lab = Lab::new(64 << 10);
    let vm = large(6);
    lab.step();
    lab.serve();
    let (id, bundle) = lab.store(3, 8, &vm);
    lab.step();
    assert_eq!((lab.serve(), lab.blocks.len()), ((0, 1), 8));
    assert_eq!(lab.settle(), [moved(id, 8)]);
    let on_disk = lab.commit(id, &bundle);
    *lab.window.borrow_mut() = Vm::empty(6);
    lab.disk.read(id, on_disk, 2, lab.now);
    lab.step();
    assert_eq!(lab.serve(), (1, 0));
    assert_eq!(lab.step(), [SwapCommand::Loaded { vm: id, counter: 8 }]);
    // What is longer than a run goes on, a run at a time, and others come to their turn meanwhile.
    let (id, bundle) = lab.store(4, 9, &large(10));
    lab.step();
    assert_eq!(lab.serve(), (0, 1));
    lab.step();
    assert_eq!((lab.serve(), lab.blocks.len()), ((0, 1), 8 + 12));
    assert_eq!(lab.settle(), [moved(id, 9)]);
    let on_disk = lab.commit(id, &bundle);
    assert_eq!(lab.load(id, &on_disk), [SwapCommand::Loaded { vm: id, counter: 9 }]);
}

#[test]
fn nothing_on_the_disks_can_be_read_or_changed() {
    let mut lab = Lab::new(64 << 10);
    let vm = large(6);
    let (id, bundle) = lab.store(3, 8, &vm);
    assert_eq!(lab.settle(), [moved(id, 8)]);
    let on_disk = lab.commit(id, &bundle);
    let parts: Vec<&[u8]> = vm.pages.iter().flat_map(|(_, page)| page.chunks(64)).collect();
    let seen = |part: &&[u8]| lab.blocks.values().any(|block| block.windows(16).any(|bytes| bytes == &part[..16]));
    assert!(!parts.iter().step_by(40).any(seen));
    let good = lab.blocks.clone();
    let loaded = SwapCommand::Loaded { vm: id, counter: 8 };
    let damaged = SwapCommand::Damaged { vm: id, counter: 8 };
    assert_eq!(lab.load(id, &on_disk), [loaded]);
    // A bit, one block in another's place, one that is missing, that of another VM.
    for spoil in 0..4 {
        lab.blocks = good.clone();
        match spoil {
            0 => lab.blocks.get_mut(&(3, 4)).expect("it is there")[77] ^= 4,
            1 => _ = lab.blocks.insert((3, 2), good[&(3, 3)].clone()),
            2 => _ = lab.blocks.insert((3, 0), vec![0; BLOCK]),
            _ => {
                let other = VmId::new(3, 2);
                assert_eq!(lab.load(other, &on_disk), [SwapCommand::Damaged { vm: other, counter: 8 }]);
                continue;
            }
        }
        assert_eq!(lab.load(id, &on_disk), [damaged], "{spoil}");
    }
    // An older bundle of the same VM.
    lab.blocks = good;
    let (_, newer) = lab.store(3, 9, &vm);
    let stale = Bundle { tier: tier::DISK, place: 3, ..newer };
    // It is on its way to the disks, too; what is read is what was there.
    assert_eq!(lab.load(id, &stale)[0], SwapCommand::Damaged { vm: id, counter: 9 });
}

#[test]
fn who_comes_in_while_it_is_moved_is_not_and_its_region_is_not_written_twice_at_once() {
    let mut lab = Lab::new(64 << 10);
    let vm = large(6);
    lab.step();
    lab.serve();
    let (id, bundle) = lab.store(3, 8, &vm);
    assert_eq!(lab.step(), []);
    // It comes in and goes out again before the first block is on the disk.
    lab.disk.forget(id, &bundle);
    assert!(lab.pool.forget(&bundle));
    let (_, newer) = lab.store(3, 9, &vm);
    assert_eq!(lab.step(), []);
    assert_eq!(lab.serve(), (0, 1), "the old one");
    assert_eq!(lab.settle(), [moved(id, 9)]);
    let on_disk = lab.commit(id, &newer);
    assert_eq!(lab.load(id, &on_disk), [SwapCommand::Loaded { vm: id, counter: 9 }]);
    assert_eq!(*lab.window.borrow(), vm);
}

#[test]
fn a_striper_that_dies_is_asked_again() {
    let mut lab = Lab::new(64 << 10);
    lab.step();
    lab.serve();
    let vm = large(6);
    let (id, bundle) = lab.store(3, 8, &vm);
    for death in 0..3 {
        assert_eq!(lab.step(), [], "{death}");
        // What it was asked is lost with it.
        ring::reset(&lab.rings[0]).expect("good");
        ring::reset(&lab.rings[1]).expect("good");
        assert!(lab.requests.take().is_err());
        let none = SwapDiskReply::Regions { session: 0, regions: REGIONS, region_blocks: REGION, writable: true };
        while lab.replies.push(&none.into()).is_err() {}
        assert_eq!(lab.step(), []);
        lab.serve();
    }
    assert_eq!(lab.settle(), [moved(id, 8)]);
    let on_disk = lab.commit(id, &bundle);
    *lab.window.borrow_mut() = Vm::empty(6);
    lab.disk.read(id, on_disk, 2, lab.now);
    assert_eq!(lab.step(), []);
    ring::reset(&lab.rings[0]).expect("good");
    ring::reset(&lab.rings[1]).expect("good");
    assert!(lab.requests.take().is_err());
    let none = SwapDiskReply::Regions { session: 0, regions: REGIONS, region_blocks: REGION, writable: true };
    while lab.replies.push(&none.into()).is_err() {}
    assert_eq!(lab.settle(), [SwapCommand::Loaded { vm: id, counter: 8 }]);
    assert_eq!(*lab.window.borrow(), vm);
}

#[test]
fn disk_errors_leave_it_in_the_pool_and_what_cannot_be_read_is_said_in_the_end() {
    let mut lab = Lab::new(64 << 10);
    let vm = large(6);
    lab.fails = vec![3];
    let (id, bundle) = lab.store(3, 8, &vm);
    assert_eq!(lab.settle(), []);
    assert_eq!(lab.disk.due(), lab.now + HZ);
    // Later it works.
    lab.fails.clear();
    lab.now += HZ;
    assert_eq!(lab.settle(), [moved(id, 8)]);
    let on_disk = lab.commit(id, &bundle);
    lab.fails = vec![3];
    assert_eq!(lab.load(id, &on_disk), []);
    let mut told = Vec::new();
    for _ in 1..TRIES {
        lab.now = lab.disk.due();
        told.extend(lab.settle());
    }
    assert_eq!(told, [SwapCommand::Unread { vm: id, counter: 8 }]);
    // A striper that says nothing at all.
    *lab.window.borrow_mut() = Vm::empty(6);
    lab.disk.read(id, on_disk, 2, lab.now);
    assert_eq!(lab.step(), []);
    lab.now = lab.disk.due() + 1;
    assert_eq!(lab.step(), [SwapCommand::Unread { vm: id, counter: 8 }]);
}

#[test]
fn one_bad_disk_does_not_keep_what_goes_to_others_waiting() {
    let mut lab = Lab::new(128 << 10);
    lab.fails = vec![3];
    // One more than are moved at once.
    let slots = 3..=3 + u32::try_from(MOVES).expect("few");
    for slot in slots.clone() {
        lab.store(slot, slot.into(), &large(1));
    }
    let told = lab.settle();
    let others: Vec<_> = slots.skip(1).map(|slot| moved(VmId::new(slot, 1), slot.into())).collect();
    assert_eq!(told, others);
}

#[test]
fn where_the_pool_is_only_the_way_all_goes_on_at_once() {
    let mut lab = Lab::with(1 << 20, true);
    let little = large(1);
    let bundle = lab.pool.store(&mut lab.work, VmId::new(3, 1), 8, &little, 1, false).expect("room");
    assert!(!lab.disk.takes(VmId::new(3, 1), &bundle), "there is no striper yet");
    assert!(lab.pool.forget(&bundle));
    lab.step();
    lab.serve();
    lab.step();
    let (id, bundle) = lab.store(3, 9, &little);
    assert!(lab.disk.takes(id, &bundle) && !lab.pool.is_crowded());
    assert_eq!(lab.settle(), [moved(id, 9)]);
    let on_disk = lab.commit(id, &bundle);
    assert_eq!(lab.load(id, &on_disk), [SwapCommand::Loaded { vm: id, counter: 9 }]);
    assert_eq!(*lab.window.borrow(), little);
    assert!(!lab.disk.takes(VmId::new(REGIONS, 1), &bundle), "it has no region");
    let larger = lab.pool.store(&mut lab.work, VmId::new(4, 1), 10, &large(14), 14, false).expect("room");
    assert!(!lab.disk.takes(VmId::new(4, 1), &larger), "it is larger than its region");
}

#[test]
fn who_has_no_region_or_is_larger_than_one_stays_in_the_pool() {
    let mut lab = Lab::new(256 << 10);
    lab.store(REGIONS, 8, &large(10));
    lab.store(1, 9, &large(14));
    assert_eq!(lab.settle(), []);
    assert!(lab.pool.is_crowded() && lab.blocks.is_empty());
}

use super::*;
use crate::policy::Drr;
use crate::question::Question;
use crate::service::Service;
use crate::sets::DIRECTORY_BYTES;
use crate::swap::SwapRegions;
use crate::test_machine::{
    BUFFERS, Clock, Fake, SNAPSHOTS, SWAPS, Shared, WEB, connect_to, content, dma, set, writable,
};
use crate::uses::MAX_ENTRIES;
use abi::charges::DiskUse;
use abi::guest_disk::{
    BLOCK_BYTES, COMPLETION_SLOTS, COMPLETIONS, DiskCompletion, DiskPage, PAGES, REQUEST_SLOTS, REQUESTS, flags,
    ring_bytes, state,
};
use abi::message::Message;
use core::mem::offset_of;
use ring::{Consumer, Producer, RingError};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

const SEATS: usize = 4;
/// More than VMs have, whose slots are their seats and a hundred more.
const SLOTS: usize = 104;

/// The VMs' memory, and what they and the core hear.
struct Vms {
    pages: [SharedMemory; SEATS],
    raised: Vec<VmId>,
    commands: Vec<DiskCommand>,
    /// What the core is told that was done for them.
    accounts: Vec<(VmId, DiskUse)>,
}

impl Machine for Vms {
    fn disk(&mut self, seat: Seat) -> Option<VmDisk> {
        VmDisk::over(self.pages.get(seat.index())?)
    }

    fn raise(&mut self, vm: VmId) {
        self.raised.push(vm);
    }

    fn now(&mut self) -> u64 {
        0
    }

    fn hz(&self) -> u64 {
        1_000_000
    }

    fn tell(&mut self, command: DiskCommand) {
        match command {
            DiskCommand::Used { vm, done } => self.accounts.push((vm, done)),
            command => self.commands.push(command),
        }
    }
}

/// A VM's own ends.
struct Own {
    pages: SharedMemory,
    requests: Producer<SharedMemory>,
    completions: Consumer<SharedMemory>,
}

impl Own {
    fn ask(&mut self, id: u32, order: DiskOrder) {
        let message = Message { id, ..order.into() };
        self.requests.push(&message).expect("room");
    }

    fn put(&self, slot: usize, byte: u8) {
        self.pages.write((1 + slot) * BLOCK_BYTES, &[byte; BLOCK_BYTES]).expect("a slot");
    }

    fn holds(&self, slot: usize) -> u8 {
        let mut block = [0; BLOCK_BYTES];
        self.pages.read((1 + slot) * BLOCK_BYTES, &mut block).expect("a slot");
        assert!(block.iter().all(|&byte| byte == block[0]), "a block of two");
        block[0]
    }

    /// What was completed: ids, and how.
    fn ended(&mut self) -> Vec<(u32, u16)> {
        let mut ended = Vec::new();
        while let Some(message) = self.completions.pop().expect("an honest striper") {
            let Ok(DiskCompletion::Ended { status }) = DiskCompletion::try_from(&message) else {
                panic!("no completion")
            };
            ended.push((message.id, status));
        }
        ended.sort_unstable();
        ended
    }
}

/// The component over a set, and VMs.
struct Lab {
    platters: Vec<Shared>,
    memory: SharedMemory,
    disks: Disks<Fake, Clock>,
    service: Service<Drr>,
    vms: Vms,
    /// Of VMs that are attached.
    rate: u16,
}

fn start(platters: &[Shared], memory: SharedMemory) -> (Disks<Fake, Clock>, Service<Drr>) {
    let mut disks = connect_to(platters, memory);
    let mut sets = Sets::new(Box::leak(Box::new([0; DIRECTORY_BYTES])));
    sets.find(&mut disks);
    let uses = Uses::new(Box::leak(Box::new([0; MAX_ENTRIES])));
    let guests = Guests::new(&mut Tables::on_heap(tables::<Drr>(), SLOTS, SEATS), uses);
    (
        disks,
        Service::new(
            sets,
            Store::new(BUFFERS + crate::scrub::BYTES, None),
            guests,
            SwapRegions::new(SWAPS, None),
            [BUFFERS, SNAPSHOTS],
            crate::peek::Peek::new(Box::leak(Box::new([0; BLOCK_BYTES]))),
        ),
    )
}

fn vm(seat: u16) -> VmId {
    VmId::new(u32::from(seat) + 100, 1)
}

impl Lab {
    fn over(platters: Vec<Shared>) -> Lab {
        let memory = dma();
        let (disks, service) = start(&platters, memory);
        let page = || SharedMemory::from_static(vec![0_u64; usize::try_from(PAGES).expect("few") * 512].leak());
        let vms =
            Vms { pages: [(); SEATS].map(|()| page()), raised: Vec::new(), commands: Vec::new(), accounts: Vec::new() };
        Lab { platters, memory, disks, service, vms, rate: 0 }
    }

    /// One that has told of all VMs.
    fn new() -> Lab {
        let mut lab = Lab::over(writable(2).0);
        lab.hear(DiskEvent::Hello);
        lab.hear(DiskEvent::Told);
        lab
    }

    fn hear(&mut self, event: DiskEvent) {
        self.service.guests.hear(event, &self.service.sets, &mut self.vms);
    }

    fn attach(&mut self, seat: u16, disk: &str, mode: u16, again: bool) {
        let disk = Name::new(disk).expect("short");
        self.hear(DiskEvent::Attach {
            vm: vm(seat),
            seat: Seat::new(seat),
            disk,
            mode,
            rate: self.rate,
            again,
            weight: 100,
        });
    }

    /// The ends of the VM in a seat, which has just been attached.
    fn own(&self, seat: u16) -> Own {
        let pages = self.vms.pages[usize::from(seat)];
        let ring = |at, slots| pages.sub(at, ring_bytes(slots)).expect("in the page");
        Own {
            pages,
            requests: Producer::attach_contiguous(&ring(REQUESTS, REQUEST_SLOTS), REQUEST_SLOTS).expect("a ring"),
            completions: Consumer::attach_contiguous(&ring(COMPLETIONS, COMPLETION_SLOTS), COMPLETION_SLOTS)
                .expect("a ring"),
        }
    }

    fn state(&self, seat: usize) -> u32 {
        self.vms.pages[seat].load32(offset_of!(DiskPage, state)).expect("in the page")
    }

    fn kick(&mut self, seat: u16) {
        self.service.guests.kicked(Seat::new(seat));
    }

    /// Does what can be done now. Answers to scrubs and snapshots that are done.
    fn step(&mut self) -> Vec<Message> {
        let mut replies = Vec::new();
        self.service.step(&mut self.disks, &mut self.vms, |question, reply| {
            replies.push(Message { id: question.id, ..reply.into() })
        });
        replies
    }

    /// Until nothing happens any more. Scrubs that were done.
    fn settle(&mut self) -> Vec<Message> {
        let mut scrubs = Vec::new();
        for _ in 0..20_000 {
            let more = self.service.step(&mut self.disks, &mut self.vms, |question, reply| {
                scrubs.push(Message { id: question.id, ..reply.into() })
            });
            if !more && !self.service.is_busy() {
                return scrubs;
            }
            let until = self.disks.host().0 + 10_000;
            self.disks.host().sleep(until);
        }
        panic!("it does not end")
    }

    /// The component dies, and the core tells its successor of this VM, whose rings begin anew.
    fn restart(&mut self, seat: u16, mode: u16) {
        self.platters.iter().for_each(|platter| platter.borrow_mut().abandon(self.memory, || true));
        (self.disks, self.service) = start(&self.platters, self.memory);
        for at in [REQUESTS, COMPLETIONS] {
            let ring = self.vms.pages[usize::from(seat)].sub(at, ring_bytes(0)).expect("in the page");
            ring::reset(&ring).expect("a ring");
        }
        self.hear(DiskEvent::Hello);
        self.attach(seat, "web", mode, true);
        self.hear(DiskEvent::Told);
    }
}

#[test]
fn what_a_vm_writes_it_reads_and_what_it_may_not_it_is_told() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_WRITE, false);
    assert_eq!((lab.state(1), &lab.vms.raised[..], lab.vms.commands.len()), (state::READY, &[vm(1)][..], 0));
    let page = lab.vms.pages[1];
    assert_eq!(page.read64(offset_of!(DiskPage, blocks)), Some(WEB));
    assert_eq!(page.read32(offset_of!(DiskPage, flags)), Some(0));
    let mut own = lab.own(1);
    own.put(3, 0xaa);
    own.ask(1, DiskOrder::Write { block: 10, slot: 3 });
    own.ask(2, DiskOrder::Read { block: 10, slot: 4 });
    own.ask(3, DiskOrder::Read { block: 11, slot: 5 });
    own.ask(4, DiskOrder::Read { block: 15, slot: 6 });
    own.ask(5, DiskOrder::Flush);
    own.ask(6, DiskOrder::Read { block: WEB, slot: 0 });
    own.ask(7, DiskOrder::Read { block: 1, slot: 8 });
    own.ask(8, DiskOrder::Discard { block: u64::MAX });
    own.requests.push(&Message { id: 9, ..Message::new(0x6ff, []) }).expect("room");
    own.put(6, 0x77);
    lab.kick(1);
    lab.settle();
    let done = status::DONE;
    let bad = status::BAD_REQUEST;
    let outside = status::OUT_OF_RANGE;
    let all = [
        (1, done),
        (2, done),
        (3, done),
        (4, status::ZEROS),
        (5, done),
        (6, outside),
        (7, bad),
        (8, outside),
        (9, bad),
    ];
    assert_eq!(own.ended(), all);
    let old = content(11).expect("written")[0];
    assert_eq!([4, 5, 6].map(|slot| own.holds(slot)), [0xaa, old, 0x77]);
    // It had not said that it waits; now it does.
    assert_eq!(lab.vms.raised.len(), 1);
    own.ask(10, DiskOrder::Discard { block: 10 });
    own.ask(11, DiskOrder::Read { block: 10, slot: 4 });
    assert!(own.completions.prepare_wait() && own.requests.consumer_waits());
    lab.kick(1);
    lab.settle();
    assert_eq!((own.ended(), lab.vms.raised.len() > 1), (vec![(10, done), (11, status::ZEROS)], true));
}

#[test]
fn the_operator_sees_how_disks_and_vms_do() {
    let mut lab = Lab::new();
    assert_eq!(lab.service.guests.load(0), DiskReply::None, "nobody has a disk");
    lab.attach(2, "web", mode::READ_WRITE, false);
    let mut own = lab.own(2);
    let load = |lab: &Lab| match lab.service.guests.load(1) {
        DiskReply::VmLoad { index: 2, vm: of, disk, requests, errors, queue, p50_us, p99_us } => {
            assert_eq!((of, disk), (vm(2), Name::new("web").expect("short")));
            (requests, errors, queue, p50_us, p99_us)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(load(&lab), (0, 0, 0, 0, 0));
    (0..4).for_each(|id| own.ask(id, DiskOrder::Read { block: u64::from(id) + 1, slot: 0 }));
    lab.kick(2);
    lab.step();
    assert_eq!(load(&lab), (4, 0, 4, 0, 0), "all are under way");
    let queued = |lab: &Lab, disk| match lab.disks.load(disk) {
        DiskReply::DiskLoad { index, queue, p50_us, p99_us } if index == disk => (queue, p50_us, p99_us),
        other => panic!("{other:?}"),
    };
    // A block of checks, first.
    assert_eq!([0, 1].map(|disk| queued(&lab, disk).0).iter().sum::<u16>(), 1);
    lab.settle();
    own.ask(4, DiskOrder::Read { block: WEB, slot: 0 });
    lab.kick(2);
    lab.settle();
    assert_eq!(own.ended().len(), 5);
    let (requests, errors, queue, p50, p99) = load(&lab);
    assert_eq!((requests, errors, queue), (5, 1, 0));
    // It sleeps for a hundredth of a second until an end is seen.
    assert!((8192..100_000).contains(&p50) && p50 <= p99, "{p50} {p99}");
    for disk in [0, 1] {
        let (queue, p50, p99) = queued(&lab, disk);
        assert!(queue == 0 && p50 > 0 && p50 <= p99, "{disk}: {queue} {p50} {p99}");
    }
    assert_eq!((lab.service.guests.load(3), lab.disks.load(2)), (DiskReply::None, DiskReply::None));
}

#[test]
fn the_core_is_told_what_was_done_for_a_vm_and_of_each_request_once() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_WRITE, false);
    let mut own = lab.own(1);
    own.ask(1, DiskOrder::Write { block: 10, slot: 0 });
    own.ask(2, DiskOrder::Read { block: 10, slot: 1 });
    // Never written: there is nothing to read. And a flush moves nothing.
    own.ask(3, DiskOrder::Read { block: 15, slot: 2 });
    own.ask(4, DiskOrder::Flush);
    // The disks are not asked for it.
    own.ask(5, DiskOrder::Read { block: u64::MAX, slot: 2 });
    lab.kick(1);
    lab.settle();
    assert_eq!(own.ended().len(), 5);
    let begun = lab.disks.host().0;
    let due = lab.service.guests.due();
    assert!(lab.vms.accounts.is_empty() && due < begun + 600_000, "{:?}, {due}", lab.vms.accounts);
    let half_a_second_later = |lab: &mut Lab| {
        lab.disks.host().sleep(due + 1_000_000);
        lab.settle();
        core::mem::take(&mut lab.vms.accounts)
    };
    assert_eq!(half_a_second_later(&mut lab), [(vm(1), DiskUse { requests: 4, blocks: 2 })]);
    assert_eq!((half_a_second_later(&mut lab), lab.service.guests.due()), (vec![], u64::MAX), "once");
    // Who goes leaves nothing unsaid.
    for (number, event) in
        [DiskEvent::Leave { vm: vm(1), seat: Seat::new(1) }, DiskEvent::Detach { vm: vm(1), seat: Seat::new(1) }]
            .into_iter()
            .enumerate()
    {
        lab.attach(1, "web", mode::READ_WRITE, true);
        let mut own = lab.own(1);
        own.ask(6, DiskOrder::Write { block: 12, slot: 0 });
        lab.kick(1);
        lab.settle();
        assert_eq!((own.ended().len(), lab.vms.accounts.len()), (1, number));
        lab.hear(event);
        assert_eq!(lab.vms.accounts.last(), Some(&(vm(1), DiskUse { requests: 1, blocks: 1 })));
        assert_eq!(lab.service.guests.due(), u64::MAX);
    }
}

#[test]
fn a_disk_is_one_writers_or_many_readers() {
    let refused = |lab: &mut Lab| match lab.vms.commands.pop() {
        Some(DiskCommand::Refused { why, .. }) => Some(why),
        Some(DiskCommand::Detached { .. }) => Some(0),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    let mut lab = Lab::new();
    lab.attach(0, "web", mode::READ_ONLY, false);
    lab.attach(1, "web", mode::READ_ONLY, false);
    assert_eq!((refused(&mut lab), lab.state(0), lab.state(1)), (None, state::READY, state::READY));
    assert_eq!(lab.vms.pages[0].read32(offset_of!(DiskPage, flags)), Some(flags::READ_ONLY));
    lab.attach(2, "web", mode::READ_WRITE, false);
    assert_eq!((refused(&mut lab), lab.state(2)), (Some(no_disk::IN_USE), state::COMING));
    for name in ["swap", "nothing"] {
        lab.attach(2, name, mode::READ_ONLY, false);
        assert_eq!(refused(&mut lab), Some(no_disk::NO_SUCH_DISK), "{name}");
    }
    let sets = &lab.service.sets;
    let known = [true, false].map(|shown| std::format!("{}", Known { sets, shown }));
    assert_eq!(known, ["; it has web", ""]);
    let mut own = lab.own(0);
    own.ask(1, DiskOrder::Write { block: 1, slot: 0 });
    own.ask(2, DiskOrder::Discard { block: 1 });
    own.ask(3, DiskOrder::Flush);
    lab.kick(0);
    lab.settle();
    assert_eq!(own.ended(), [(1, status::READ_ONLY), (2, status::READ_ONLY), (3, status::DONE)]);
    for seat in [0, 1] {
        lab.hear(DiskEvent::Detach { vm: vm(seat), seat: Seat::new(seat) });
        assert_eq!(refused(&mut lab), Some(0));
    }
    lab.attach(2, "web", mode::READ_WRITE, false);
    assert_eq!((refused(&mut lab), lab.state(2)), (None, state::READY));
    // One that is never written, and no set at all.
    let mut lab = Lab::over(set(1, 2).0);
    lab.hear(DiskEvent::Told);
    lab.attach(0, "web", mode::READ_WRITE, false);
    assert_eq!(refused(&mut lab), Some(no_disk::READ_ONLY));
    let mut lab = Lab::over(writable(2).0.split_off(1));
    lab.hear(DiskEvent::Told);
    lab.attach(0, "web", mode::READ_ONLY, false);
    assert_eq!(refused(&mut lab), Some(no_disk::NO_SET));
}

#[test]
fn whoever_had_a_disk_before_a_restart_comes_before_others() {
    let mut lab = Lab::over(writable(2).0);
    lab.hear(DiskEvent::Hello);
    lab.attach(0, "web", mode::READ_WRITE, false);
    assert_eq!((lab.state(0), lab.vms.commands.len()), (state::COMING, 0));
    lab.attach(3, "web", mode::READ_WRITE, true);
    lab.hear(DiskEvent::Told);
    assert_eq!((lab.state(0), lab.state(3)), (state::COMING, state::READY));
    assert_eq!(lab.vms.commands, [DiskCommand::Refused { vm: vm(0), why: no_disk::IN_USE }]);
    // One whose disk is not there any more goes on, and its requests fail.
    let mut lab = Lab::over(writable(2).0.split_off(1));
    lab.attach(1, "web", mode::READ_WRITE, true);
    assert!(lab.vms.commands.is_empty() && lab.vms.raised == [vm(1)]);
    let mut own = lab.own(1);
    own.ask(1, DiskOrder::Read { block: 0, slot: 0 });
    own.ask(2, DiskOrder::Flush);
    lab.kick(1);
    lab.settle();
    assert_eq!(own.ended(), [(1, status::FAILED), (2, status::FAILED)]);
}

#[test]
fn what_a_vm_that_has_ended_asked_for_is_nothing_to_the_next_in_its_seat() {
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_WRITE, false);
    let mut own = lab.own(1);
    own.put(0, 0x11);
    own.ask(1, DiskOrder::Write { block: 10, slot: 0 });
    own.ask(2, DiskOrder::Read { block: 11, slot: 1 });
    lab.kick(1);
    lab.step();
    lab.hear(DiskEvent::Detach { vm: vm(1), seat: Seat::new(1) });
    assert_eq!(lab.vms.commands, [DiskCommand::Detached { vm: vm(1) }]);
    // Another VM's memory is in its place.
    let pages = SharedMemory::from_static(vec![0_u64; usize::try_from(PAGES).expect("few") * 512].leak());
    lab.vms.pages[1] = pages;
    let event = DiskEvent::Attach {
        vm: VmId::new(5, 9),
        seat: Seat::new(1),
        disk: Name::new("web").expect("short"),
        mode: mode::READ_WRITE,
        rate: 0,
        again: false,
        weight: 100,
    };
    lab.hear(event);
    lab.settle();
    let mut next = lab.own(1);
    assert_eq!((next.ended(), next.holds(1), own.ended()), (vec![], 0, vec![]));
    // It was written all the same: it had been taken.
    next.ask(7, DiskOrder::Read { block: 10, slot: 1 });
    lab.kick(1);
    lab.settle();
    assert_eq!((next.ended(), next.holds(1)), (vec![(7, status::DONE)], 0x11));
}

#[test]
fn a_vm_that_lies_harms_itself() {
    let mut lab = Lab::new();
    lab.attach(0, "web", mode::READ_WRITE, false);
    lab.attach(1, "web", mode::READ_ONLY, false);
    lab.vms.commands.clear();
    let mut own = lab.own(0);
    let page = lab.vms.pages[0];
    // More requests than slots; a completion ring that was never read that far; an epoch of its own.
    for (at, word) in [(REQUESTS, 0x7777_u64), (COMPLETIONS + 64, 0x9999), (REQUESTS, u64::MAX), (COMPLETIONS + 128, 3)]
    {
        page.store64(at, word).expect("in the page");
        lab.kick(0);
        lab.settle();
    }
    // Nothing but noise, where it may write.
    let mut noise = 0x1234_5678_9abc_def1_u64;
    for round in 0..300 {
        for _ in 0..64 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let at = usize::try_from(noise % 384).expect("small") * 8 + 256;
            page.store64(at, noise).expect("in the page");
        }
        lab.kick(round % 2);
        lab.settle();
    }
    // Completions that nobody takes: no more than there is room for.
    lab.hear(DiskEvent::Detach { vm: vm(0), seat: Seat::new(0) });
    page.clear(0, BLOCK_BYTES).expect("a page");
    lab.attach(0, "web", mode::READ_WRITE, false);
    own = Own { requests: lab.own(0).requests, ..own };
    for id in 0..40 {
        while own.requests.push(&Message { id, ..DiskOrder::Flush.into() }).is_err() {
            lab.kick(0);
            lab.settle();
            if id >= 32 {
                break;
            }
        }
    }
    let mut completions = lab.own(0).completions;
    assert_eq!(completions.available(), Ok(COMPLETION_SLOTS));
    let mut taken = 0;
    // It takes them, finds that the striper waits for room, and kicks.
    for _ in 0..10 {
        while let Some(message) = completions.pop().expect("honest") {
            assert_eq!(message.id, taken);
            taken += 1;
        }
        if completions.producer_waits() {
            lab.kick(0);
        }
        lab.settle();
    }
    assert_eq!(taken, 32);
}

#[test]
fn no_vm_holds_all_places_of_the_store() {
    let mut lab = Lab::new();
    lab.attach(0, "web", mode::READ_ONLY, false);
    lab.attach(1, "web", mode::READ_ONLY, false);
    let (mut greedy, mut modest) = (lab.own(0), lab.own(1));
    // Disks that answer nothing: what has begun stays.
    lab.platters.iter().for_each(|platter| platter.borrow_mut().silent = true);
    (0..REQUEST_SLOTS).for_each(|id| greedy.ask(id, DiskOrder::Read { block: u64::from(id), slot: 0 }));
    lab.kick(0);
    for _ in 0..4 {
        lab.step();
    }
    modest.ask(1, DiskOrder::Read { block: 600, slot: 0 });
    lab.kick(1);
    for _ in 0..4 {
        lab.step();
    }
    let flights = |seat| lab.service.guests.flights.iter().flatten().filter(|one| one.seat == Seat::new(seat)).count();
    assert_eq!((flights(0), flights(1)), (JOBS / 2, 1));
    // All end all the same.
    lab.platters.iter().for_each(|platter| platter.borrow_mut().silent = false);
    lab.settle();
    assert_eq!((greedy.ended().len(), modest.ended().len()), (16, 1));
}

#[test]
fn what_is_taken_when_others_have_ended_is_begun_in_the_same_step() {
    let mut lab = Lab::new();
    lab.attach(0, "web", mode::READ_WRITE, false);
    let mut own = lab.own(0);
    // Blocks that hold something, so that disks are needed.
    for id in 0..REQUEST_SLOTS {
        own.ask(id, DiskOrder::Write { block: 3 * u64::from(id), slot: 0 });
        lab.kick(0);
        lab.settle();
    }
    assert_eq!(own.ended().len(), 16);
    // Twice as many as are taken at a time.
    (0..REQUEST_SLOTS).for_each(|id| own.ask(id, DiskOrder::Read { block: 3 * u64::from(id), slot: 0 }));
    lab.kick(0);
    let (mut ended, mut most) = (0, 0);
    while ended < 16 {
        lab.step();
        ended += own.ended().len();
        let taken = lab.service.guests.flights.iter().flatten().count();
        let queues: u16 = lab.disks.list().iter().map(|disk| disk.queue).sum();
        assert_eq!(usize::from(queues), taken, "{ended} have ended, and what was taken is with disks");
        most = most.max(taken);
        let until = lab.disks.host().0 + 10_000;
        lab.disks.host().sleep(until);
    }
    assert_eq!(most, 8);
}

#[test]
fn a_vm_with_a_rate_waits_while_others_do_not() {
    let mut lab = Lab::new();
    lab.rate = 50;
    lab.attach(0, "web", mode::READ_ONLY, false);
    lab.rate = 0;
    lab.attach(1, "web", mode::READ_ONLY, false);
    let mut owns = [lab.own(0), lab.own(1)];
    let mut ended = [0; 2];
    let second = lab.disks.host().hz();
    let end = 4 * second;
    while lab.disks.host().0 < end {
        for (seat, own) in (0..).zip(&mut owns) {
            ended[usize::from(seat)] += own.ended().len();
            while own.requests.push(&Message { id: 1, ..DiskOrder::Read { block: 3, slot: 0 }.into() }).is_ok() {}
            lab.kick(seat);
        }
        lab.step();
        let until = lab.disks.host().0 + 2000;
        lab.disks.host().sleep(until);
    }
    assert!((190..=216).contains(&ended[0]) && ended[1] > 2000, "{ended:?}");
    // Nobody asks any more: what is left is taken when its time has come, without a kick.
    lab.service.guests.tell_accounts(u64::MAX, &mut lab.vms);
    let due = lab.service.guests.due();
    assert!(due > end - second / 25 && due < end + second / 25, "{due}");
    lab.hear(DiskEvent::Detach { vm: vm(0), seat: Seat::new(0) });
    assert_eq!(lab.service.guests.due(), u64::MAX);
}

#[test]
fn a_restart_loses_no_request() {
    let mut lab = Lab::new();
    lab.attach(2, "web", mode::READ_WRITE, false);
    let mut own = lab.own(2);
    for round in 0..20_u8 {
        own.put(0, round + 1);
        let orders = [
            (1, DiskOrder::Write { block: 20, slot: 0 }),
            (2, DiskOrder::Flush),
            (3, DiskOrder::Read { block: 20, slot: 1 }),
        ];
        orders.iter().for_each(|&(id, order)| own.ask(id, order));
        lab.kick(2);
        // Some way, another one each time.
        for _ in 0..round % 7 {
            lab.step();
        }
        lab.restart(2, mode::READ_WRITE);
        assert_eq!(own.requests.check_epoch(), Err(RingError::EpochChanged));
        assert_eq!(own.completions.check_epoch(), Err(RingError::EpochChanged));
        orders.iter().for_each(|&(id, order)| own.ask(id, order));
        lab.kick(2);
        lab.settle();
        assert_eq!(own.ended(), [(1, status::DONE), (2, status::DONE), (3, status::DONE)]);
        assert_eq!(own.holds(1), round + 1);
    }
}

#[test]
fn a_scrub_believes_what_is_written_meanwhile() {
    use abi::disk::DiskReply;
    let mut lab = Lab::new();
    lab.attach(1, "web", mode::READ_WRITE, false);
    let mut own = lab.own(1);
    assert!(
        lab.service.begin_scrub(asked(9), 1, 0)
            && !lab.service.begin_scrub(asked(10), 1, 0)
            && !lab.service.begin_scrub(asked(11), 0, 0)
    );
    let mut scrubs = Vec::new();
    for number in 0..400_u32 {
        own.put(0, 0x33);
        own.ask(number, DiskOrder::Write { block: u64::from(number * 7 % 700), slot: 0 });
        lab.kick(1);
        while own.ended().is_empty() {
            scrubs.extend(lab.step());
            let until = lab.disks.host().0 + 10_000;
            lab.disks.host().sleep(until);
        }
    }
    scrubs.extend(lab.settle());
    let replies: Vec<_> = scrubs.iter().map(|message| (message.id, DiskReply::try_from(message))).collect();
    let [(9, Ok(DiskReply::Scrubbed { bad: 0, .. }))] = replies[..] else { panic!("{replies:?}") };
}

fn asked(id: u32) -> Question {
    Question { id, of_core: false }
}

#[test]
fn disks_come_and_go_beside_vms_and_none_goes_that_somebody_has() {
    use abi::disk::{DiskReply, snapshot};
    let name = |text| Name::new(text).expect("short");
    let ended = |why| DiskReply::Snapped { why, needed: 0, free: 0 };
    let mut lab = Lab::over(writable(3).0);
    lab.hear(DiskEvent::Told);
    let done = |lab: &mut Lab| {
        let mut replies = Vec::new();
        for _ in 0..2000 {
            replies.extend(lab.step());
            let until = lab.disks.host().0 + 10_000;
            lab.disks.host().sleep(until);
        }
        let [reply] = replies[..] else { panic!("{replies:?}") };
        assert_eq!(DiskReply::try_from(&reply), Ok(ended(snapshot::TAKEN)));
    };
    let read = |lab: &mut Lab, own: &mut Own, seat, block| {
        own.ask(100, DiskOrder::Read { block, slot: 1 });
        lab.kick(seat);
        lab.settle();
        let [(100, status)] = own.ended()[..] else { panic!("not one") };
        if status == status::ZEROS { None } else { Some(own.holds(1)) }
    };
    lab.attach(2, "web", mode::READ_ONLY, false);
    let mut first = lab.own(2);
    assert_eq!(read(&mut lab, &mut first, 2, 6), content(6).map(|data| data[0]));
    assert_eq!(lab.service.begin_removal(asked(1), name("web")), Some(ended(snapshot::IN_USE)));
    assert_eq!(lab.service.begin_creation(asked(2), name("log"), 300), None);
    done(&mut lab);
    lab.attach(3, "log", mode::READ_WRITE, false);
    let mut second = lab.own(3);
    second.put(0, 0x77);
    second.ask(1, DiskOrder::Write { block: 9, slot: 0 });
    lab.kick(3);
    lab.settle();
    assert_eq!(second.ended().len(), 1);
    lab.hear(DiskEvent::Detach { vm: vm(2), seat: Seat::new(2) });
    assert_eq!(lab.service.begin_removal(asked(3), name("web")), None);
    // It is on its way: nobody gets it any more, and nobody looks at it.
    let web = lab.service.sets.disk_called(name("web")).expect("still");
    assert!(!lab.service.guests.lock(web) && !lab.service.begin_scrub(asked(4), web, 0));
    done(&mut lab);
    // The one behind it has another place now.
    assert_eq!(read(&mut lab, &mut second, 3, 9), Some(0x77));
    assert_eq!(lab.service.begin_removal(asked(5), name("log")), Some(ended(snapshot::IN_USE)));
    assert_eq!(lab.service.begin_creation(asked(6), name("web"), WEB), None);
    done(&mut lab);
    lab.attach(1, "web", mode::READ_WRITE, false);
    let mut first = lab.own(1);
    assert!((0..20).all(|block| read(&mut lab, &mut first, 1, block).is_none()), "it has nothing of the other one");
    assert_eq!(read(&mut lab, &mut second, 3, 9), Some(0x77));
    lab.hear(DiskEvent::Detach { vm: vm(3), seat: Seat::new(3) });
    assert_eq!(lab.service.begin_removal(asked(7), name("log")), None);
    done(&mut lab);
    assert_eq!(lab.service.begin_removal(asked(8), name("web")), Some(ended(snapshot::IN_USE)));
}

#[test]
fn a_vm_goes_on_while_a_snapshot_of_its_disk_is_taken() {
    use abi::disk::{DiskReply, snapshot};
    let name = |text| Name::new(text).expect("short");
    for dies in [false, true] {
        let mut lab = Lab::over(writable(3).0);
        lab.hear(DiskEvent::Told);
        lab.attach(2, "web", mode::READ_WRITE, false);
        let mut own = lab.own(2);
        let (mut replies, mut last) = (Vec::new(), 0);
        for round in 0..60_u8 {
            own.put(0, round + 1);
            own.ask(round.into(), DiskOrder::Write { block: 20 + u64::from(round), slot: 0 });
            lab.kick(2);
            if round == 10 {
                assert_eq!(lab.service.begin_snapshot(asked(8), name("web"), name("new")), None);
                let again = lab.service.begin_snapshot(asked(9), name("web"), name("other"));
                assert_eq!(again, Some(DiskReply::Snapped { why: snapshot::BUSY, needed: 0, free: 0 }));
            }
            let mut steps = 0;
            while own.ended().is_empty() {
                let is_idle = lab.service.store.is_idle();
                replies.extend(lab.step());
                if !replies.is_empty() && last == 0 {
                    assert!(is_idle, "what is a snapshot now was being written");
                    last = round;
                }
                let until = lab.disks.host().0 + 10_000;
                lab.disks.host().sleep(until);
                steps += 1;
                assert!(steps < 2000, "held for good");
                if dies && round == 10 && steps == 9 {
                    lab.restart(2, mode::READ_WRITE);
                    let epochs = (own.requests.check_epoch(), own.completions.check_epoch());
                    assert_eq!(epochs, (Err(RingError::EpochChanged), Err(RingError::EpochChanged)));
                    own.ask(round.into(), DiskOrder::Write { block: 20 + u64::from(round), slot: 0 });
                    lab.kick(2);
                }
            }
        }
        let there = lab.service.sets.disk_called(name("new"));
        assert_eq!(there.is_some(), !dies, "it died before the set was changed");
        let read = |lab: &mut Lab, own: &mut Own, seat, block| {
            own.ask(100, DiskOrder::Read { block, slot: 1 });
            lab.kick(seat);
            lab.settle();
            let [(100, status)] = own.ended()[..] else { panic!("not one") };
            if status == status::ZEROS { None } else { Some(own.holds(1)) }
        };
        let old = |block| content(block).map(|data| data[0]);
        for round in 0..60_u8 {
            assert_eq!(
                read(&mut lab, &mut own, 2, 20 + u64::from(round)),
                Some(round + 1),
                "what was written is there"
            );
        }
        assert_eq!(read(&mut lab, &mut own, 2, 11), old(11));
        if dies {
            assert!(replies.is_empty());
            continue;
        }
        let taken = DiskReply::Snapped { why: snapshot::TAKEN, needed: 0, free: 0 };
        let all: Vec<_> = replies.iter().map(|message| (message.id, DiskReply::try_from(message))).collect();
        assert_eq!(all, [(8, Ok(taken))]);
        // What was written when it was taken, and not what was since. Nobody else may write the disk, whatever it is called now.
        lab.attach(3, "new", mode::READ_ONLY, false);
        let mut reader = lab.own(3);
        for round in 0..60_u8 {
            let block = 20 + u64::from(round);
            let found = read(&mut lab, &mut reader, 3, block);
            match round {
                ..10 => assert_eq!(found, Some(round + 1)),
                _ if round > last => assert_eq!(found, old(block), "it was written since"),
                _ => assert!(found == Some(round + 1) || found == old(block)),
            }
        }
        lab.attach(1, "web", mode::READ_WRITE, false);
        assert!(!lab.vms.commands.is_empty(), "it is another one's");
    }
}

#[path = "guests_out_tests.rs"]
mod out;
#[path = "guests_peek_tests.rs"]
mod peek;

use super::*;
use component::virtio::{F_VERSION_1, reg};
use std::boxed::Box;
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// The message that the core has set up.
const MESSAGE: u16 = 0;
const PHYSICAL: u64 = 0x20_0000;
const OWN: usize = 4096;

/// The lower and the upper half.
fn halves(word: u64) -> [u32; 2] {
    [word & 0xffff_ffff, word >> 32].map(|half| u32::try_from(half).expect("32 bits"))
}

/// A device: its registers, and the sectors of its disk.
struct Fake {
    memory: SharedMemory,
    offered: u64,
    select: u32,
    agreed: u64,
    status: u8,
    queue: [u64; 3],
    capacity: u64,
    sectors: Vec<[u8; 512]>,
    notified: u32,
    /// Descriptors that its queue may have, and that it has; pieces of memory in a request.
    most: u16,
    count: u16,
    pieces: u32,
    /// Requests taken, and used entries given.
    seen: u16,
    used: u16,
}

/// Registers of one structure.
#[derive(Clone)]
struct Part(Rc<RefCell<Fake>>, u8);

const COMMON: u8 = 0;
const NOTIFY: u8 = 1;
const DEVICE: u8 = 2;

impl Registers for Part {
    fn read8(&self, offset: usize) -> u8 {
        if offset == reg::DEVICE_STATUS && self.1 == COMMON { self.0.borrow().status } else { 0 }
    }

    fn read16(&self, offset: usize) -> u16 {
        match offset {
            reg::QUEUE_SIZE => self.0.borrow().most,
            reg::QUEUE_NOTIFY_OFF => 0,
            _ => MESSAGE,
        }
    }

    fn read32(&self, offset: usize) -> u32 {
        let fake = self.0.borrow();
        match (self.1, offset) {
            (COMMON, reg::DEVICE_FEATURE) => halves(fake.offered)[usize::try_from(fake.select).expect("small")],
            (DEVICE, 0) => halves(fake.capacity)[0],
            (DEVICE, 4) => halves(fake.capacity)[1],
            (DEVICE, SEG_MAX) => fake.pieces,
            _ => 0,
        }
    }

    fn write8(&mut self, offset: usize, value: u8) {
        if offset == reg::DEVICE_STATUS {
            self.0.borrow_mut().status = value;
        }
    }

    fn write16(&mut self, offset: usize, value: u16) {
        if offset == reg::QUEUE_SIZE && self.1 == COMMON {
            self.0.borrow_mut().count = value;
        }
        if self.1 == NOTIFY {
            assert_eq!(offset, 0);
            self.0.borrow_mut().notified += 1;
        }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        let mut fake = self.0.borrow_mut();
        match offset {
            reg::DEVICE_FEATURE_SELECT | reg::DRIVER_FEATURE_SELECT => fake.select = value,
            reg::DRIVER_FEATURE if fake.select == 0 => fake.agreed |= u64::from(value),
            reg::DRIVER_FEATURE => fake.agreed |= u64::from(value) << 32,
            reg::QUEUE_DESC.. if offset < reg::QUEUE_DESC + 24 => {
                let at = (offset - reg::QUEUE_DESC) / 8;
                fake.queue[at] |= u64::from(value) << (offset % 8 * 8);
            }
            _ => {}
        }
    }

    fn part(&self, _: usize, _: usize) -> Option<Self> {
        None
    }
}

impl Fake {
    fn at(&self, physical: u64) -> usize {
        usize::try_from(physical - PHYSICAL).expect("in the memory")
    }

    /// The descriptor: address, bytes, flags, next.
    fn descriptor(&self, index: u16) -> (usize, usize, u16, u16) {
        let at = self.at(self.queue[0]) + 16 * usize::from(index);
        let word = self.memory.load64(at + 8).expect("inside");
        let [low, high] = halves(word);
        let [a, b, c, d] = high.to_le_bytes();
        (
            self.at(self.memory.load64(at).expect("inside")),
            usize::try_from(low).expect("small"),
            u16::from_le_bytes([a, b]),
            u16::from_le_bytes([c, d]),
        )
    }

    /// Takes a request: its first descriptor.
    fn take(&mut self) -> Option<u16> {
        let available = self.at(self.queue[1]);
        let index = self.memory.read16(available + 2).expect("inside");
        if index == self.seen {
            return None;
        }
        let head = self.memory.read16(available + 4 + 2 * usize::from(self.seen % self.count)).expect("inside");
        self.seen = self.seen.wrapping_add(1);
        Some(head)
    }

    /// Says that a request is done, whether there is one or not.
    fn give(&mut self, head: u32) {
        let used = self.at(self.queue[2]);
        self.memory.store32(used + 4 + 8 * usize::from(self.used % self.count), head).expect("inside");
        self.used = self.used.wrapping_add(1);
        self.memory.write16(used + 2, self.used).expect("inside");
    }

    /// Does a request.
    fn carry_out(&mut self, head: u16, status: u8) {
        let (header, 16, NEXT, next) = self.descriptor(head) else { panic!("no header") };
        let kind = self.memory.read32(header).expect("inside");
        let sector = usize::try_from(self.memory.load64(header + 8).expect("inside")).expect("small");
        let (mut at, mut bytes, mut flags, next) = self.descriptor(next);
        let (mut next, mut blocks) = (next, 0);
        while flags & NEXT != 0 {
            assert_ne!(kind, KIND_FLUSH);
            assert_eq!((bytes, flags), (4096, if kind == KIND_READ { NEXT | WRITE } else { NEXT }));
            for i in 0..8 {
                let sector = &mut self.sectors[sector + 8 * blocks + i];
                match kind {
                    KIND_READ => self.memory.write(at + 512 * i, sector).expect("inside"),
                    _ => self.memory.read(at + 512 * i, sector).expect("inside"),
                }
            }
            blocks += 1;
            (at, bytes, flags, next) = self.descriptor(next);
        }
        assert_eq!(blocks == 0, kind == KIND_FLUSH);
        assert_eq!((bytes, flags), (1, WRITE));
        self.memory.write8(at, status).expect("inside");
        self.give(head.into());
    }
}

type Started = Result<(VirtioBlk<Part>, Rc<RefCell<Fake>>), StartError>;

fn start(offered: u64) -> Started {
    start_with(offered, 128, 126)
}

/// With a queue of so many descriptors at most, and so many pieces of memory in a request.
fn start_with(offered: u64, most: u16, pieces: u32) -> Started {
    let memory = SharedMemory::from_static(Box::leak(vec![0_u64; 512 * 40].into_boxed_slice()));
    let fake = Rc::new(RefCell::new(Fake {
        memory,
        offered,
        select: 0,
        agreed: 0,
        status: 0,
        queue: [0; 3],
        capacity: 805,
        sectors: vec![[0; 512]; 805],
        notified: 0,
        most,
        count: 0,
        pieces,
        seen: 0,
        used: 0,
    }));
    let part = |which| Part(fake.clone(), which);
    let structures = Structures {
        common: part(COMMON),
        notify: part(NOTIFY),
        multiplier: 4,
        notify_bytes: 4096,
        isr: part(3),
        device: part(DEVICE),
        msix: true,
    };
    VirtioBlk::start(structures, memory, PHYSICAL, OWN, |_| ()).map(|disk| (disk, fake))
}

const ALL: u64 = F_VERSION_1 | F_FLUSH | F_SEG_MAX | 0xff00_0000;

fn request(op: Op, block: u64, buffers: &[usize]) -> Request<'_> {
    Request { disk: 0, op, block, buffers }
}

#[test]
fn blocks_go_both_ways() {
    let (mut disk, fake) = start(ALL).expect("it starts");
    assert_eq!(disk.disks(), [Geometry { blocks: 100, read_only: false }]);
    assert_eq!((fake.borrow().agreed, fake.borrow().status), (F_VERSION_1 | F_FLUSH | F_SEG_MAX, 15));
    let memory = disk.memory;
    memory.write(16_384, &[7; 4096]).expect("inside");
    for (tag, op, buffer) in [(1, Op::Write, &[16_384][..]), (2, Op::Flush, &[]), (3, Op::Read, &[12_288])] {
        assert!(Controller::start(&mut disk, tag, request(op, 99, buffer)));
        assert_eq!(disk.done(), None);
        let head = fake.borrow_mut().take().expect("a request");
        fake.borrow_mut().carry_out(head, STATUS_OK);
        assert_eq!(disk.done(), Some(Done { tag, good: true }));
        assert_eq!(disk.done(), None);
    }
    let mut read = [0; 4096];
    memory.read(12_288, &mut read).expect("inside");
    assert_eq!(read, [7; 4096]);
    assert!(fake.borrow().sectors[..792].iter().all(|sector| *sector == [0; 512]));
    assert_eq!(fake.borrow().notified, 3);
    assert!(!Controller::start(&mut disk, 4, request(Op::Read, 100, &[12_288])), "beyond the end");
}

#[test]
fn many_at_the_same_time_end_in_any_order() {
    let (mut disk, fake) = start(ALL).expect("it starts");
    for round in 0..50 {
        let tags: Vec<u16> = (0..DEPTH).map(|i| round * DEPTH + i).collect();
        for &tag in &tags {
            assert!(Controller::start(&mut disk, tag, request(Op::Read, 1, &[12_288])));
        }
        assert!(!Controller::start(&mut disk, 9999, request(Op::Read, 1, &[12_288])), "no room");
        let mut heads: Vec<u16> = std::iter::from_fn(|| fake.borrow_mut().take()).collect();
        heads.rotate_left(usize::from(round % DEPTH));
        let mut ended = Vec::new();
        for (i, head) in heads.into_iter().enumerate() {
            fake.borrow_mut().carry_out(head, if i == 3 { 1 } else { STATUS_OK });
            let done = disk.done().expect("it ended");
            assert_eq!(done.good, i != 3);
            ended.push(done.tag);
        }
        ended.sort_unstable();
        assert_eq!(ended, tags);
    }
}

/// Pages from this one on.
fn pages(first: usize, count: usize) -> Vec<usize> {
    (first..first + count).rev().map(|page| page * 4096).collect()
}

#[test]
fn a_run_of_blocks_is_one_request() {
    for most in [64, 256] {
        let (mut disk, fake) = start_with(ALL, most, 126).expect("it starts");
        assert_eq!((disk.run(), fake.borrow().count), (MAX_RUN, most.min(128)));
        let (from, to) = (pages(3, MAX_RUN), pages(3 + MAX_RUN, MAX_RUN));
        for (i, &at) in (1..).zip(&from) {
            disk.memory.write(at, &[i; 4096]).expect("inside");
        }
        // Again and again: descriptors come back.
        for tag in 0..20 {
            for (op, buffers) in [(Op::Write, &from), (Op::Read, &to)] {
                assert!(Controller::start(&mut disk, tag, request(op, 10, buffers)));
                let head = fake.borrow_mut().take().expect("a request");
                fake.borrow_mut().carry_out(head, STATUS_OK);
                assert_eq!(disk.done(), Some(Done { tag, good: true }));
            }
        }
        assert_eq!(fake.borrow().notified, 40);
        for (i, &at) in (1..).zip(&to) {
            let mut block = [0; 4096];
            disk.memory.read(at, &mut block).expect("inside");
            assert_eq!((block, fake.borrow().sectors[72 + 8 * usize::from(i)]), ([i; 4096], [i; 512]));
        }
        assert!(!Controller::start(&mut disk, 3, request(Op::Read, 85, &to)), "beyond the end");
        assert!(!Controller::start(&mut disk, 3, request(Op::Read, 0, &pages(3, MAX_RUN + 1))), "too many");
    }
}

#[test]
fn runs_share_descriptors_and_wait_for_them() {
    let (mut disk, fake) = start_with(ALL, 64, 126).expect("it starts");
    let (long, short) = (pages(3, MAX_RUN), pages(3, 1));
    assert!(Controller::start(&mut disk, 1, request(Op::Read, 0, &long)));
    // One descriptor is left, and each place has its own for a block.
    assert!(!Controller::start(&mut disk, 2, request(Op::Read, 0, &long)), "no room for so many");
    assert!(Controller::start(&mut disk, 3, request(Op::Read, 0, &pages(3, 2))));
    for tag in 4..18 {
        assert!(Controller::start(&mut disk, tag, request(Op::Read, 0, &short)), "{tag}");
    }
    assert!(!Controller::start(&mut disk, 99, request(Op::Read, 0, &short)), "all places are taken");
    let heads: Vec<u16> = std::iter::from_fn(|| fake.borrow_mut().take()).collect();
    for head in heads {
        fake.borrow_mut().carry_out(head, STATUS_OK);
        assert!(disk.done().is_some_and(|done| done.good));
    }
    assert!(Controller::start(&mut disk, 2, request(Op::Read, 0, &long)));
}

#[test]
fn a_device_that_lies_ends_nothing_twice() {
    let (mut disk, fake) = start(ALL).expect("it starts");
    assert!(Controller::start(&mut disk, 1, request(Op::Read, 1, &[12_288])));
    let head = fake.borrow_mut().take().expect("a request");
    for lie in [1, 3, 48, 64, 126, u32::MAX] {
        fake.borrow_mut().give(lie);
        assert_eq!(disk.done(), None, "{lie}");
    }
    // Done without a status: an error.
    fake.borrow_mut().give(head.into());
    fake.borrow_mut().give(head.into());
    assert_eq!(disk.done(), Some(Done { tag: 1, good: false }));
    assert_eq!(disk.done(), None);
    // An index that jumps: as many rounds as entries, and no more.
    fake.borrow_mut().used = 30_000;
    fake.borrow_mut().give(0);
    assert_eq!(disk.done(), None);
}

#[test]
fn what_the_device_offers_is_heeded() {
    let (mut disk, _) = start(F_VERSION_1 | F_RO).expect("it starts");
    assert!(disk.disks()[0].read_only);
    assert_eq!(disk.run(), 1, "it does not say that it takes more");
    assert_eq!(start_with(ALL, 128, 4).expect("it starts").0.run(), 4);
    assert_eq!(start_with(ALL, 128, 0).expect("it starts").0.run(), 1);
    assert_eq!(start_with(ALL, 32, 4).err(), Some(StartError::Queue(0)));
    // Without a cache there is nothing to flush.
    assert!(Controller::start(&mut disk, 5, request(Op::Flush, 0, &[])));
    assert!(!Controller::start(&mut disk, 6, request(Op::Flush, 0, &[])));
    assert_eq!([disk.done(), disk.done()], [Some(Done { tag: 5, good: true }), None]);
    assert_eq!(start(F_FLUSH).err(), Some(StartError::Features(F_FLUSH)));
}

use super::*;
use abi::pci::CONFIG_BYTES;
use ring::SharedMemory;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const PHYSICAL: u64 = 0x2_0000_0000;
/// Behind the driver's own memory.
const BUFFER: usize = 9 * PAGE;
/// Entries of 32, 64-bit doorbells, half a second of patience, and commands for blocks.
const CAP: [u32; 2] = [0x0100_ffff, 0x21];
const STRIDE: usize = 8;

/// A queue as the controller knows it: where both ends lie, and how far it is.
#[derive(Clone, Copy, Default)]
struct Queue {
    submissions: usize,
    completions: usize,
    /// What the driver has rung.
    tail: u32,
    taken: u32,
    acknowledged: u32,
    given: u32,
}

/// A namespace: bytes in a sector as a power of two, metadata, whether it takes writes; what it holds.
#[derive(Clone)]
struct Space {
    shift: u32,
    metadata: u32,
    read_only: bool,
    held: Vec<u8>,
}

impl Space {
    fn new(shift: u32) -> Space {
        Space { shift, metadata: 0, read_only: false, held: vec![0; 100 * 4096 + 512] }
    }
}

struct Model {
    memory: SharedMemory,
    registers: BTreeMap<usize, u32>,
    queues: [Queue; 2],
    spaces: BTreeMap<u32, Space>,
    /// It has no list of namespaces.
    old: bool,
    /// Requests are completed only when they are told to.
    slow: bool,
    /// A block that cannot be read or written.
    bad: Option<u64>,
    /// Blocks in a request at most, as a power of two; 0 for any number.
    power: u32,
    /// It does not stop.
    stuck: bool,
    /// What was given: number, code, namespace.
    given: Vec<(u16, u32, u32)>,
    waiting: Vec<[u32; 16]>,
}

#[derive(Clone)]
struct Handle(Rc<RefCell<Model>>);

impl Sleep for Handle {
    fn sleep(&mut self, microseconds: u32) {
        assert!(microseconds > 0);
    }
}

impl Registers for Handle {
    fn read(&self, offset: usize) -> u32 {
        self.0.borrow().registers.get(&offset).copied().unwrap_or(0)
    }

    fn write(&mut self, offset: usize, value: u32) {
        let mut model = self.0.borrow_mut();
        if let Some(doorbell) = offset.checked_sub(reg::DOORBELLS) {
            assert!(doorbell.is_multiple_of(STRIDE));
            return model.rung(doorbell / STRIDE, value);
        }
        model.registers.insert(offset, value);
        if offset == reg::CC {
            let ready = value & ENABLE != 0 || model.stuck;
            let fatal = model.registers.get(&reg::CSTS).copied().unwrap_or(0) & FATAL;
            model.registers.insert(reg::CSTS, u32::from(ready) | fatal);
            if value & ENABLE != 0 {
                assert_eq!((value, model.registers[&reg::AQA]), (0x46_0001, 0x1f_001f));
                let [submissions, completions] = [reg::ASQ, reg::ACQ].map(|register| {
                    let [low, high] = [register, register + 4].map(|at| u64::from(model.registers[&at]));
                    model.at(low | high << 32)
                });
                model.queues = [Queue { submissions, completions, ..Queue::default() }, Queue::default()];
            }
        }
    }

    fn bytes(&self) -> usize {
        2 * PAGE
    }
}

impl Model {
    fn at(&self, physical: u64) -> usize {
        let at = usize::try_from(physical - PHYSICAL).expect("in the memory");
        assert!(at.is_multiple_of(PAGE), "queues and buffers are pages");
        at
    }

    fn rung(&mut self, doorbell: usize, value: u32) {
        let number = doorbell / 2;
        assert!(value < 32 && self.queues[number].completions != 0);
        if !doorbell.is_multiple_of(2) {
            self.queues[number].acknowledged = value;
            return;
        }
        self.queues[number].tail = value;
        while self.queues[number].taken != value {
            let Queue { submissions, taken, .. } = self.queues[number];
            let at = submissions + 64 * usize::try_from(taken).expect("small");
            let words: [u32; 16] = core::array::from_fn(|i| self.memory.read32(at + 4 * i).expect("inside"));
            self.queues[number].taken = (taken + 1) % 32;
            if number == 0 {
                let good = self.administer(words);
                self.complete(0, words, if good { 0 } else { 1 });
            } else if self.slow {
                self.waiting.push(words);
            } else {
                self.carry_out(words);
            }
        }
    }

    /// Puts a completion into a queue.
    fn complete(&mut self, number: usize, words: [u32; 16], status: u32) {
        let Queue { completions, given, .. } = self.queues[number];
        let at = completions + 16 * usize::try_from(given % 32).expect("small");
        let phase = u32::from(given / 32 % 2 == 0);
        self.memory.store32(at + 12, words[0] >> 16 | phase << 16 | status << 17).expect("inside");
        self.queues[number].given += 1;
    }

    fn buffer(&self, words: [u32; 16]) -> usize {
        self.at(u64::from(words[6]) | u64::from(words[7]) << 32)
    }

    /// The pages of a request with so many blocks (section 4.3).
    fn pages(&self, words: [u32; 16], blocks: usize) -> Vec<usize> {
        let second = u64::from(words[8]) | u64::from(words[9]) << 32;
        let mut pages = vec![self.buffer(words)];
        match blocks {
            1 => assert_eq!(second, 0),
            2 => pages.push(self.at(second)),
            _ => {
                let list = usize::try_from(second - PHYSICAL).expect("in the memory");
                assert!(
                    list.is_multiple_of(8) && list / PAGE == (list + 8 * (blocks - 2)) / PAGE,
                    "one page of the list"
                );
                pages.extend((0..blocks - 1).map(|i| self.at(self.memory.load64(list + 8 * i).expect("inside"))));
            }
        }
        pages
    }

    fn administer(&mut self, words: [u32; 16]) -> bool {
        let put = |at: usize, value: u32| self.memory.store32(self.buffer(words) + at, value).expect("inside");
        match (words[0] & 0xff, words[10]) {
            (IDENTIFY, NAMESPACES) if self.old => return false,
            (IDENTIFY, CONTROLLER) => {
                put(76, self.power << 8);
                put(516, u32::try_from(self.spaces.len()).expect("small"));
            }
            (IDENTIFY, what) => {
                (0..1024).for_each(|i| put(4 * i, 0));
                if what == NAMESPACES {
                    self.spaces.keys().zip(0..).for_each(|(&id, i)| put(4 * i, id));
                } else if let Some(space) = self.spaces.get(&words[1]) {
                    put(0, u32::try_from(space.held.len() >> space.shift).expect("small"));
                    // The second format is the one in use.
                    put(24, 1 << 16);
                    put(96, u32::from(space.read_only) << 24);
                    put(128, 9 << 16);
                    put(132, space.shift << 16 | space.metadata);
                }
            }
            (SET_FEATURES, QUEUE_COUNT) => {}
            (CREATE_COMPLETIONS, 0x1f_0001) => {
                assert_eq!(words[11], 3);
                self.queues[1].completions = self.buffer(words);
            }
            (CREATE_SUBMISSIONS, 0x1f_0001) => {
                assert_eq!((words[11], self.queues[1].completions != 0), (0x1_0001, true));
                self.queues[1].submissions = self.buffer(words);
            }
            _ => panic!("an unknown command: {words:x?}"),
        }
        true
    }

    fn carry_out(&mut self, words: [u32; 16]) {
        let (number, code) = (u16::try_from(words[0] >> 16).expect("16 bits"), words[0] & 0xffff);
        self.given.push((number, code, words[1]));
        let memory = self.memory;
        let mut status = 0;
        if code != FLUSH {
            let bytes = usize::try_from((words[12] + 1) << self.spaces[&words[1]].shift).expect("small");
            assert_eq!((words[11], bytes % 4096), (0, 0));
            let pages = self.pages(words, bytes / 4096);
            let space = self.spaces.get_mut(&words[1]).expect("a namespace");
            let sector = usize::try_from(words[10]).expect("small");
            let first = sector << space.shift;
            for (buffer, at) in pages.into_iter().zip((first..).step_by(4096)) {
                if self.bad == Some((at / 4096) as u64) {
                    // Unrecovered read error, and not to be tried again.
                    status = 0x4281;
                } else if code == READ {
                    memory.write(buffer, &space.held[at..at + 4096]).expect("inside");
                } else {
                    memory.read(buffer, &mut space.held[at..at + 4096]).expect("inside");
                }
            }
        }
        self.complete(1, words, status);
    }
}

fn config() -> Config {
    Config([0; CONFIG_BYTES])
}

fn handle(spaces: impl IntoIterator<Item = (u32, Space)>) -> Handle {
    let memory = SharedMemory::from_static(Box::leak(vec![0_u64; 64 * 512].into_boxed_slice()));
    Handle(Rc::new(RefCell::new(Model {
        memory,
        registers: [(reg::CAP, CAP[0]), (reg::CAP_HIGH, CAP[1])].into(),
        queues: [Queue::default(); 2],
        spaces: spaces.into_iter().collect(),
        old: false,
        slow: false,
        bad: None,
        power: 0,
        stuck: false,
        given: Vec::new(),
        waiting: Vec::new(),
    })))
}

fn start(handle: &Handle) -> Result<Nvme<Handle>, &'static str> {
    let mut room = Room::new(handle.0.borrow().memory, PHYSICAL, BUFFER);
    // Something lies before it.
    room.take(100, 1);
    Nvme::start(handle.clone(), &config(), &mut room, &mut handle.clone())
}

/// A controller with one disk.
fn one(shift: u32) -> (Nvme<Handle>, Handle) {
    let handle = handle([(1, Space::new(shift))]);
    (start(&handle).expect("it starts"), handle)
}

fn give(nvme: &mut Nvme<Handle>, tag: u16, op: Op, block: u64) -> bool {
    Controller::start(nvme, tag, Request { disk: 0, op, block, buffers: if op == Op::Flush { &[] } else { &[BUFFER] } })
}

#[test]
fn a_run_of_blocks_is_one_request() {
    for shift in [9, 12] {
        let (mut nvme, handle) = one(shift);
        let memory = nvme.device.memory;
        assert_eq!(nvme.run(), MAX_RUN);
        for count in [2, 3, MAX_RUN] {
            handle.0.borrow_mut().given.clear();
            let pages = |first: usize| (0..count).rev().map(|page| BUFFER + (first + page) * PAGE).collect::<Vec<_>>();
            let (from, to) = (pages(0), pages(MAX_RUN));
            for (i, &at) in (1..).zip(&from) {
                memory.write(at, &[i; PAGE]).expect("inside");
            }
            for (op, buffers) in [(Op::Write, &from), (Op::Read, &to)] {
                assert!(Controller::start(&mut nvme, 1, Request { disk: 0, op, block: 10, buffers }));
                assert_eq!(all_done(&mut nvme), [(1, true)]);
            }
            assert_eq!(handle.0.borrow().given.len(), 2);
            for (i, &at) in (1..).zip(&to) {
                let mut block = [0; PAGE];
                memory.read(at, &mut block).expect("inside");
                let held = (9 + usize::from(i)) * PAGE;
                assert_eq!(block, [i; PAGE]);
                assert!(handle.0.borrow().spaces[&1].held[held..held + PAGE].iter().all(|&byte| byte == i));
            }
            let beyond = Request { disk: 0, op: Op::Read, block: 101 - count as u64, buffers: &to };
            assert!(!Controller::start(&mut nvme, 1, beyond), "beyond the end");
        }
    }
    // It says how many.
    let handle = handle([(1, Space::new(9))]);
    for (power, run) in [(1, 2), (3, 8), (4, MAX_RUN), (5, MAX_RUN), (255, MAX_RUN)] {
        handle.0.borrow_mut().power = power;
        assert_eq!(start(&handle).expect("it starts").run(), run);
    }
    handle.0.borrow_mut().power = 1;
    let mut nvme = start(&handle).expect("it starts");
    assert!(!Controller::start(&mut nvme, 1, Request { disk: 0, op: Op::Read, block: 0, buffers: &[BUFFER; 3] }));
}

fn all_done(nvme: &mut Nvme<Handle>) -> Vec<(u16, bool)> {
    let mut all: Vec<_> = (0..50).filter_map(|_| nvme.done()).map(|done| (done.tag, done.good)).collect();
    all.sort_unstable();
    all
}

#[test]
fn namespaces_are_found_and_what_cannot_be_used_is_left_alone() {
    let metadata = Space { metadata: 8, ..Space::new(9) };
    let read_only = Space { read_only: true, ..Space::new(9) };
    let all = [(1, Space::new(12)), (2, metadata), (3, Space::new(13)), (7, read_only)];
    let handle = handle(all);
    let nvme = start(&handle).expect("it starts");
    let disk = |read_only| Geometry { blocks: 100, read_only };
    assert_eq!(nvme.disks(), [disk(false), disk(true)]);
    assert_eq!(nvme.namespaces.iter().map(|space| space.id).collect::<Vec<_>>(), [1, 7]);
    // Without a list they are counted from 1.
    handle.0.borrow_mut().old = true;
    let nvme = start(&handle).expect("it starts again");
    assert_eq!(nvme.disks(), [disk(false)]);
}

#[test]
fn what_cannot_be_driven_is_refused() {
    let refused = |cap: [u32; 2], stuck: bool, config: &Config| {
        let handle = handle([(1, Space::new(9))]);
        {
            let mut model = handle.0.borrow_mut();
            model.registers = [(reg::CAP, cap[0]), (reg::CAP_HIGH, cap[1])].into();
            if stuck {
                model.stuck = true;
                model.registers.insert(reg::CSTS, READY);
                model.registers.insert(reg::CC, ENABLE);
            }
        }
        let mut room = Room::new(handle.0.borrow().memory, PHYSICAL, BUFFER);
        Nvme::start(handle.clone(), config, &mut room, &mut handle.clone()).err().unwrap_or("")
    };
    assert_eq!(refused(CAP, false, &config()), "");
    assert!(refused(CAP, true, &config()).contains("reset"));
    assert!(refused([0x0100_001e, 0x21], false, &config()).contains("32 entries"));
    assert!(refused([CAP[0], 0x01], false, &config()).contains("blocks"));
    assert!(refused([CAP[0], 0x1_0021], false, &config()).contains("4 KiB"));
    assert!(refused([CAP[0], 0x2f], false, &config()).contains("doorbells"));
    // A table of MSI-X: behind the doorbells, among them, in another region.
    let table = |place: [u8; 2]| {
        let mut config = config();
        (config.0[0x06], config.0[0x34], config.0[0x40]) = (0x10, 0x40, abi::pci::CAPABILITY_MSIX);
        config.0[0x44..0x46].copy_from_slice(&place);
        config
    };
    assert_eq!(refused(CAP, false, &table([0, 0x20])), "");
    assert!(refused(CAP, false, &table([0, 0x18])).contains("MSI-X"));
    assert_eq!(refused(CAP, false, &table([4, 0x18])), "");
}

#[test]
fn blocks_go_both_ways() {
    for shift in [9, 12] {
        let (mut nvme, handle) = one(shift);
        let memory = handle.0.borrow().memory;
        memory.write(BUFFER, &[7; 4096]).expect("inside");
        for (tag, op) in [(1, Op::Write), (2, Op::Flush), (3, Op::Read)] {
            if op == Op::Read {
                memory.clear(BUFFER, 4096).expect("inside");
            }
            assert!(give(&mut nvme, tag, op, 99));
            assert_eq!(all_done(&mut nvme), [(tag, true)]);
        }
        let mut read = [0; 4096];
        memory.read(BUFFER, &mut read).expect("inside");
        assert_eq!(read, [7; 4096]);
        let model = handle.0.borrow();
        let held = &model.spaces[&1].held;
        assert!(held[..99 * 4096].iter().chain(&held[100 * 4096..]).all(|&byte| byte == 0));
        assert!(held[99 * 4096..100 * 4096].iter().all(|&byte| byte == 7));
        let given: Vec<_> = model.given.iter().map(|&(_, code, id)| (code, id)).collect();
        assert_eq!(given, [(WRITE, 1), (FLUSH, 1), (READ, 1)]);
        drop(model);
        assert!(!give(&mut nvme, 4, Op::Read, 100), "beyond the end");
        assert!(!Controller::start(&mut nvme, 4, Request { disk: 1, op: Op::Read, block: 0, buffers: &[BUFFER] }));
    }
}

#[test]
fn many_at_the_same_time_end_in_any_order() {
    let (mut nvme, handle) = one(9);
    handle.0.borrow_mut().slow = true;
    for round in 0..50_u16 {
        let tags: Vec<u16> = (0..16).map(|i| 16 * round + i).collect();
        for &tag in &tags {
            assert!(give(&mut nvme, tag, Op::Read, u64::from(tag) % 100));
        }
        assert!(!give(&mut nvme, 9999, Op::Read, 1), "no room");
        assert_eq!(nvme.done(), None);
        handle.0.borrow_mut().bad = Some(u64::from(tags[3]) % 100);
        let mut waiting = std::mem::take(&mut handle.0.borrow_mut().waiting);
        waiting.rotate_left(usize::from(round % 16));
        waiting.into_iter().for_each(|words| handle.0.borrow_mut().carry_out(words));
        nvme.interrupt();
        let expected: Vec<_> = tags.iter().map(|&tag| (tag, tag != tags[3])).collect();
        assert_eq!(all_done(&mut nvme), expected);
        let queue = handle.0.borrow().queues[1];
        assert_eq!(queue.acknowledged, queue.given % 32, "the interrupt is taken back");
    }
}

#[test]
fn a_controller_that_lies_ends_nothing_twice() {
    let (mut nvme, handle) = one(9);
    assert!(give(&mut nvme, 1, Op::Read, 1));
    assert_eq!(all_done(&mut nvme), [(1, true)]);
    handle.0.borrow_mut().slow = true;
    assert!(give(&mut nvme, 2, Op::Read, 1));
    let words = handle.0.borrow().waiting[0];
    // Of the request before in the same place, of other places, of no place.
    let before = u32::from(handle.0.borrow().given[0].0);
    assert_eq!(before & 15, words[0] >> 16 & 15);
    for lie in [before, before + 1, (words[0] >> 16) + 1, 0xffff] {
        let mut words = words;
        words[0] = lie << 16;
        handle.0.borrow_mut().complete(1, words, 0);
        assert_eq!(all_done(&mut nvme), [], "{lie:#x}");
    }
    handle.0.borrow_mut().complete(1, words, 0);
    handle.0.borrow_mut().complete(1, words, 0);
    assert_eq!(all_done(&mut nvme), [(2, true)]);
    handle.0.borrow_mut().complete(1, words, 0);
    nvme.interrupt();
    assert_eq!(all_done(&mut nvme), []);
    // Without end: as many rounds as there are entries, and no more.
    assert!(give(&mut nvme, 3, Op::Read, 1));
    for phase in [0, 1] {
        let at = handle.0.borrow().queues[1].completions;
        (0..32).for_each(|i| nvme.device.memory.store32(at + 16 * i + 12, 0xffff | phase << 16).expect("inside"));
        nvme.interrupt();
    }
    assert_eq!(all_done(&mut nvme), []);
}

#[test]
fn what_a_failed_controller_was_given_fails_when_it_has_stopped() {
    for stuck in [false, true] {
        let (mut nvme, handle) = one(9);
        handle.0.borrow_mut().slow = true;
        assert!(give(&mut nvme, 1, Op::Read, 1));
        assert_eq!(nvme.done(), None);
        {
            let mut model = handle.0.borrow_mut();
            model.stuck = stuck;
            model.registers.insert(reg::CSTS, READY | FATAL);
        }
        let expected: &[_] = if stuck { &[] } else { &[(1, false)] };
        assert_eq!(all_done(&mut nvme), expected);
        assert_eq!(nvme.is_polled(), stuck);
        assert_eq!(handle.read(reg::CC) & ENABLE, 0);
        // Whatever comes now fails at once.
        assert!(give(&mut nvme, 2, Op::Read, 1));
        assert_eq!(all_done(&mut nvme), [(2, false)]);
        assert_eq!(handle.0.borrow().waiting.len(), 1);
    }
}

#[test]
fn a_controller_that_was_left_at_work_starts_anew() {
    let (mut nvme, handle) = one(9);
    handle.0.borrow_mut().slow = true;
    assert!(give(&mut nvme, 1, Op::Read, 1));
    let mut nvme = start(&handle).expect("it starts again");
    handle.0.borrow_mut().slow = false;
    assert!(give(&mut nvme, 2, Op::Read, 1));
    assert_eq!(all_done(&mut nvme), [(2, true)]);
}

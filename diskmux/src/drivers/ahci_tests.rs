use super::*;
use crate::drivers::Op;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const PHYSICAL: u64 = 0x1_0000_0000;
/// Behind the driver's own memory.
const BUFFER: usize = 4 * 4096;

/// What is at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nothing,
    /// A disk that queues commands, or does not.
    Disk {
        queued: bool,
    },
    CdRom,
}

/// A port, as the model has it: its registers by their offset, and the disk.
struct Device {
    at: At,
    registers: BTreeMap<usize, u32>,
    sectors: Vec<[u8; 512]>,
    /// What was given: command, first sector.
    given: Vec<(u8, usize)>,
    /// Commands end only when they are told to.
    slow: bool,
    /// A sector that cannot be read or written.
    bad: Option<usize>,
    /// The port does not stop.
    stuck: bool,
    /// Its disk is gone.
    gone: bool,
    /// A queued command went wrong: the disk does nothing before it is reset.
    halted: bool,
}

struct Model {
    memory: SharedMemory,
    global: BTreeMap<usize, u32>,
    ports: Vec<Device>,
    /// The firmware lets go after so many looks.
    firmware: u32,
    slept: u64,
}

#[derive(Clone)]
struct Handle(Rc<RefCell<Model>>);

impl Sleep for Handle {
    fn sleep(&mut self, microseconds: u32) {
        self.0.borrow_mut().slept += u64::from(microseconds);
    }
}

fn place(offset: usize) -> Option<(usize, usize)> {
    offset.checked_sub(reg::PORTS).map(|at| (at / reg::PORT_BYTES, at % reg::PORT_BYTES))
}

impl Registers for Handle {
    fn read(&self, offset: usize) -> u32 {
        let mut model = self.0.borrow_mut();
        if let Some((number, register)) = place(offset) {
            return model.ports.get_mut(number).map_or(u32::MAX, |port| port.read(register));
        }
        if offset == reg::BOHC && model.firmware > 0 {
            model.firmware -= 1;
            return model.global[&offset] | BIOS_OWNS;
        }
        model.global.get(&offset).copied().unwrap_or(0)
    }

    fn write(&mut self, offset: usize, value: u32) {
        let mut model = self.0.borrow_mut();
        let memory = model.memory;
        let Some((number, register)) = place(offset) else {
            match offset {
                reg::IS => *model.global.entry(reg::IS).or_default() &= !value,
                // The reset is over at once, and takes everything back.
                reg::GHC if value & GHC_RESET != 0 => {
                    model.global.insert(reg::GHC, 0);
                    model.ports.iter_mut().for_each(Device::reset);
                }
                _ => drop(model.global.insert(offset, value)),
            }
            model.latch();
            return;
        };
        if let Some(port) = model.ports.get_mut(number) {
            port.write(memory, register, value);
        }
        model.latch();
    }

    fn bytes(&self) -> usize {
        4096
    }
}

impl Model {
    /// IS shows which ports have events of which there are interrupts, until it is cleared behind them.
    fn latch(&mut self) {
        for (number, port) in self.ports.iter().enumerate() {
            if port.get(0x10) & port.get(0x14) != 0 {
                *self.global.entry(reg::IS).or_default() |= 1 << number;
            }
        }
    }
}

impl Device {
    fn new(at: At) -> Device {
        let registers = BTreeMap::new();
        let sectors = vec![[0; 512]; 805];
        let given = Vec::new();
        Device { at, registers, sectors, given, slow: false, bad: None, stuck: false, gone: false, halted: false }
    }

    fn get(&self, register: usize) -> u32 {
        self.registers.get(&register).copied().unwrap_or(0)
    }

    fn set(&mut self, register: usize, value: u32) {
        self.registers.insert(register, value);
    }

    fn reset(&mut self) {
        self.registers.clear();
        self.reset_disk();
    }

    /// As after a reset of the link: the disk says what it is as soon as its frames are taken.
    fn reset_disk(&mut self) {
        self.halted = false;
        self.set(0x20, 0x7f);
        self.set(0x34, 0);
        self.set(0x38, 0);
        self.greet();
    }

    fn greet(&mut self) {
        if self.get(0x18) & 1 << 4 != 0 && self.get(0x20) == 0x7f && self.at != At::Nothing && !self.gone {
            self.set(0x20, 0x50);
            self.set(0x24, if self.at == At::CdRom { 0xeb14_0101 } else { 0x101 });
        }
    }

    fn read(&self, register: usize) -> u32 {
        match register {
            0x28 if self.at == At::Nothing || self.gone => 0,
            0x28 => 0x123,
            // Commands and frames are being taken as soon as they are to be.
            0x18 => {
                let command = self.get(0x18);
                let frames = command & 1 << 4 != 0;
                command | u32::from(frames) << 14 | u32::from(command & 1 != 0 || self.stuck) << 15
            }
            _ => self.get(register),
        }
    }

    fn write(&mut self, memory: SharedMemory, register: usize, value: u32) {
        match register {
            0x10 | 0x30 => self.set(register, self.get(register) & !value),
            0x18 => {
                // What it does cannot be written.
                self.set(0x18, value & !(3 << 14));
                self.greet();
                if value & 1 == 0 {
                    self.set(0x34, 0);
                    self.set(0x38, 0);
                }
            }
            0x2c => {
                let was = self.get(0x2c);
                self.set(0x2c, value);
                if was & 1 != 0 && value & 1 == 0 {
                    self.reset_disk();
                }
            }
            0x34 => self.set(0x34, self.get(0x34) | value),
            0x38 => {
                assert_eq!(self.get(0x18) & 0x11, 0x11, "a command for a port that takes none");
                assert!(!self.halted, "a command for a disk that has to be reset");
                self.set(0x38, self.get(0x38) | value);
                self.fetch(memory, value.trailing_zeros());
            }
            _ => self.set(register, value),
        }
    }

    fn frame(&self, memory: SharedMemory, slot: u32) -> ([u8; 20], Vec<(usize, usize)>) {
        let at = |physical: u64| usize::try_from(physical - PHYSICAL).expect("in the memory");
        let list = u64::from(self.get(0x00)) | u64::from(self.get(0x04)) << 32;
        let header = at(list) + 32 * usize::try_from(slot).expect("small");
        let word = memory.read32(header).expect("inside");
        assert_eq!(word & 0x1f, 5);
        let table = at(memory.load64(header + 8).expect("inside"));
        let mut frame = [0; 20];
        memory.read(table, &mut frame).expect("inside");
        assert!(table.is_multiple_of(128));
        let region = |entry: usize| {
            let bytes = memory.read32(entry + 12).expect("inside") + 1;
            (at(memory.load64(entry).expect("inside")), usize::try_from(bytes).expect("small"))
        };
        let count = usize::try_from(word >> 16).expect("small");
        let regions = (0..count).map(|i| region(table + 0x80 + 16 * i)).collect();
        let writes = matches!(frame[2], 0x35 | 0x61);
        assert_eq!((frame[0], frame[1], word >> 6 & 1), (0x27, 0x80, u32::from(writes)));
        (frame, regions)
    }

    fn fetch(&mut self, memory: SharedMemory, slot: u32) {
        let (frame, ..) = self.frame(memory, slot);
        let sector = u64::from_le_bytes([frame[4], frame[5], frame[6], frame[8], frame[9], frame[10], 0, 0]);
        self.given.push((frame[2], usize::try_from(sector).expect("small")));
        let queued = matches!(frame[2], 0x60 | 0x61);
        assert_eq!(self.get(0x34) >> slot & 1 != 0, queued);
        if queued {
            assert_eq!(self.at, At::Disk { queued: true });
            self.set(0x38, self.get(0x38) & !(1 << slot));
        } else {
            assert_eq!((self.get(0x38), self.get(0x34)), (1 << slot, 0), "a command that is not queued is alone");
        }
        if !self.slow {
            self.end(memory, slot);
        }
    }

    /// Ends the command in a slot.
    fn end(&mut self, memory: SharedMemory, slot: u32) {
        let (frame, regions) = self.frame(memory, slot);
        let sector = usize::from(frame[4]) | usize::from(frame[5]) << 8;
        let queued = matches!(frame[2], 0x60 | 0x61);
        let count = if queued { frame[3] } else { frame[12] };
        let touches = count > 0 && self.bad.is_some_and(|bad| (sector..sector + usize::from(count)).contains(&bad));
        if touches {
            // The slots keep their bits.
            self.halted = queued;
            self.set(0x20, 0x41);
            self.set(0x10, self.get(0x10) | 1 << 30);
            return;
        }
        match frame[2] {
            0xec => memory.write(regions[0].0, &self.identity()[..regions[0].1]).expect("inside"),
            0xea => assert_eq!(regions, []),
            command => {
                assert_eq!((usize::from(count), frame[7]), (8 * regions.len(), 0x40));
                for (block, (buffer, bytes)) in regions.into_iter().enumerate() {
                    assert_eq!(bytes, 4096);
                    for i in 0..8 {
                        let (at, sector) = (buffer + 512 * i, &mut self.sectors[sector + 8 * block + i]);
                        match command {
                            0x25 | 0x60 => memory.write(at, sector).expect("inside"),
                            0x35 | 0x61 => memory.read(at, sector).expect("inside"),
                            _ => panic!("an unknown command {command:#x}"),
                        }
                    }
                }
            }
        }
        let register = if queued { 0x34 } else { 0x38 };
        if queued {
            assert_eq!(u32::from(frame[12] >> 3), slot);
        }
        self.set(register, self.get(register) & !(1 << slot));
        self.set(0x20, 0x50);
        self.set(0x10, self.get(0x10) | if queued { 8 } else { 1 });
    }

    fn identity(&self) -> [u8; 512] {
        let mut words = [0_u16; 256];
        words[49] = 0x300;
        words[83] = 1 << 10;
        words[100] = u16::try_from(self.sectors.len()).expect("small");
        if self.at == (At::Disk { queued: true }) {
            (words[75], words[76]) = (31, 1 << 8);
        }
        let mut bytes = [0; 512];
        bytes.chunks_mut(2).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        bytes
    }
}

type Started = (Ahci<Handle, Handle>, Handle);

fn start_with(ports: Vec<Device>, firmware: u32) -> Result<Started, &'static str> {
    let memory = SharedMemory::from_static(Box::leak(vec![0_u64; 64 * 512].into_boxed_slice()));
    let there = (1 << ports.len()) - 1;
    // 32 slots, queued commands, 64 bits.
    let global = [(reg::CAP, 0xc000_1f00), (reg::PI, there), (reg::CAP2, 1), (reg::BOHC, 0)].into();
    let handle = Handle(Rc::new(RefCell::new(Model { memory, global, ports, firmware, slept: 0 })));
    let mut room = Room::new(memory, PHYSICAL, BUFFER);
    Ahci::start(handle.clone(), &mut room, handle.clone()).map(|ahci| (ahci, handle))
}

fn start(all: &[At]) -> Started {
    start_with(all.iter().map(|&at| Device::new(at)).collect(), 0).expect("it starts")
}

const QUEUED: At = At::Disk { queued: true };
const SINGLE: At = At::Disk { queued: false };

fn request(op: Op, block: u64) -> Request<'static> {
    Request { disk: 0, op, block, buffers: if op == Op::Flush { &[] } else { &[BUFFER] } }
}

fn give(ahci: &mut Ahci<Handle, Handle>, tag: u16, op: Op, block: u64) -> bool {
    Controller::start(ahci, tag, request(op, block))
}

fn all_done(ahci: &mut Ahci<Handle, Handle>) -> Vec<(u16, bool)> {
    // What is given behind another one ends at a later look.
    let mut all: Vec<_> = (0..50).filter_map(|_| ahci.done()).map(|done| (done.tag, done.good)).collect();
    all.sort_unstable();
    all
}

impl Handle {
    fn port<T>(&self, number: usize, act: impl FnOnce(&mut Device) -> T) -> T {
        act(&mut self.0.borrow_mut().ports[number])
    }

    fn end(&self, number: usize, slot: u32) {
        let mut model = self.0.borrow_mut();
        let memory = model.memory;
        model.ports[number].end(memory, slot);
        model.latch();
    }
}

#[test]
fn disks_are_found_and_what_is_none_is_left_alone() {
    let (ahci, handle) = start(&[At::Nothing, At::CdRom, QUEUED, At::CdRom, SINGLE]);
    assert_eq!(ahci.disks(), [Geometry { blocks: 100, read_only: false }; 2]);
    assert_eq!(handle.0.borrow().global[&reg::GHC], GHC_ON | GHC_INTERRUPTS);
    // The port of the CD-ROM drive takes no frames any more: its memory serves the next one.
    assert_eq!(handle.port(1, |port| port.get(0x18) & 0x11), 0);
    assert_eq!(handle.port(2, |port| port.get(0x00)), handle.port(1, |port| port.get(0x00)));
    assert_ne!(handle.port(4, |port| port.get(0x00)), handle.port(2, |port| port.get(0x00)));
}

#[test]
fn the_firmware_is_waited_for_and_the_reach_is_heeded() {
    let (_, handle) = start_with(vec![Device::new(QUEUED)], 100).expect("it starts");
    assert_eq!(handle.0.borrow().firmware, 0);
    assert_eq!(handle.0.borrow().global[&reg::BOHC] & SYSTEM_OWNS, SYSTEM_OWNS);
    assert!(handle.0.borrow().slept >= 9900);
    // The memory lies beyond 4 GiB.
    let (_, handle) = start(&[QUEUED]);
    handle.0.borrow_mut().global.insert(reg::CAP, 0x4000_1f00);
    let mut room = Room::new(handle.0.borrow().memory, PHYSICAL, BUFFER);
    let refused = Ahci::start(handle.clone(), &mut room, handle.clone()).err();
    assert!(refused.is_some_and(|why| why.contains("4 GiB")));
}

#[test]
fn blocks_go_both_ways() {
    for (at, commands) in [(QUEUED, [0x61, 0xea, 0x60]), (SINGLE, [0x35, 0xea, 0x25])] {
        let (mut ahci, handle) = start(&[at]);
        let memory = ahci.hba.memory;
        handle.port(0, |port| port.given.clear());
        memory.write(BUFFER, &[7; 4096]).expect("inside");
        assert!(give(&mut ahci, 1, Op::Write, 99));
        assert_eq!(all_done(&mut ahci), [(1, true)]);
        assert!(give(&mut ahci, 2, Op::Flush, 0));
        assert_eq!(all_done(&mut ahci), [(2, true)]);
        memory.clear(BUFFER, 4096);
        assert!(give(&mut ahci, 3, Op::Read, 99));
        assert_eq!(all_done(&mut ahci), [(3, true)]);
        let mut read = [0; 4096];
        memory.read(BUFFER, &mut read).expect("inside");
        assert_eq!(read, [7; 4096]);
        handle.port(0, |port| {
            assert!(port.sectors[..792].iter().all(|sector| *sector == [0; 512]));
            assert_eq!(port.given, [(commands[0], 792), (commands[1], 0), (commands[2], 792)]);
        });
        assert!(!give(&mut ahci, 4, Op::Read, 100), "beyond the end");
        assert!(!Controller::start(&mut ahci, 4, Request { disk: 1, ..request(Op::Read, 0) }));
    }
}

/// Pages from this one behind the driver's memory on.
fn pages(first: usize, count: usize) -> Vec<usize> {
    (first..first + count).rev().map(|page| BUFFER + page * 4096).collect()
}

#[test]
fn a_run_of_blocks_is_one_request() {
    for (at, commands) in [(QUEUED, [0x61, 0x60]), (SINGLE, [0x35, 0x25])] {
        let (mut ahci, handle) = start(&[at]);
        assert_eq!(ahci.run(), MAX_RUN);
        let (memory, from, to) = (ahci.hba.memory, pages(0, MAX_RUN), pages(MAX_RUN, MAX_RUN));
        handle.port(0, |port| port.given.clear());
        for (i, &at) in (1..).zip(&from) {
            memory.write(at, &[i; 4096]).expect("inside");
        }
        for (op, buffers) in [(Op::Write, &from), (Op::Read, &to)] {
            assert!(Controller::start(&mut ahci, 1, Request { disk: 0, op, block: 10, buffers }));
            assert_eq!(all_done(&mut ahci), [(1, true)]);
        }
        for (i, &at) in (1..).zip(&to) {
            let mut block = [0; 4096];
            memory.read(at, &mut block).expect("inside");
            assert_eq!(block, [i; 4096]);
            handle.port(0, |port| assert_eq!(port.sectors[72 + 8 * usize::from(i)], [i; 512]));
        }
        handle.port(0, |port| assert_eq!(port.given, commands.map(|command| (command, 80))));
        let beyond = Request { disk: 0, op: Op::Read, block: 85, buffers: &to };
        assert!(!Controller::start(&mut ahci, 1, beyond), "beyond the end");
    }
}

#[test]
fn a_run_in_which_a_block_is_bad_fails_and_others_are_done_again_whole() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.port(0, |port| (port.slow, port.bad) = (true, Some(8 * 12)));
    let (first, second) = (pages(0, 4), pages(4, 4));
    assert!(Controller::start(&mut ahci, 1, Request { disk: 0, op: Op::Read, block: 10, buffers: &first }));
    assert!(Controller::start(&mut ahci, 2, Request { disk: 0, op: Op::Read, block: 20, buffers: &second }));
    handle.port(0, |port| port.sectors[8 * 23] = [9; 512]);
    handle.end(0, 0);
    handle.port(0, |port| port.slow = false);
    ahci.interrupt();
    assert_eq!(all_done(&mut ahci), [(1, false), (2, true)]);
    let mut sector = [0; 512];
    ahci.hba.memory.read(second[3], &mut sector).expect("inside");
    assert_eq!(sector, [9; 512]);
}

#[test]
fn many_at_the_same_time_and_a_flush_behind_them() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.port(0, |port| port.slow = true);
    for tag in 0..15 {
        assert!(give(&mut ahci, tag, Op::Read, 1));
    }
    assert!(give(&mut ahci, 15, Op::Flush, 0), "it waits");
    assert!(!give(&mut ahci, 99, Op::Read, 1), "no room");
    assert_eq!(ahci.done(), None);
    for slot in (1..15).rev() {
        handle.end(0, slot);
        assert_eq!(ahci.done(), Some(Done { tag: u16::try_from(slot).expect("small"), good: true }));
        assert!(!give(&mut ahci, 99, Op::Read, 1), "nothing overtakes a flush");
        assert_eq!(ahci.done(), None);
    }
    assert_ne!(handle.port(0, |port| port.given.last().copied()), Some((0xea, 0)));
    handle.end(0, 0);
    assert_eq!(ahci.done(), Some(Done { tag: 0, good: true }));
    assert_eq!(handle.port(0, |port| port.given.last().copied()), Some((0xea, 0)));
    assert!(!give(&mut ahci, 99, Op::Read, 1), "a flush is alone");
    handle.end(0, 15);
    assert_eq!(all_done(&mut ahci), [(15, true)]);
    assert!(give(&mut ahci, 16, Op::Read, 1));
}

#[test]
fn a_disk_without_a_queue_does_one_at_a_time() {
    let (mut ahci, handle) = start(&[SINGLE, SINGLE]);
    handle.port(0, |port| port.slow = true);
    assert!(give(&mut ahci, 1, Op::Read, 1));
    assert!(!give(&mut ahci, 2, Op::Read, 2) && !give(&mut ahci, 2, Op::Flush, 0));
    assert!(Controller::start(&mut ahci, 3, Request { disk: 1, ..request(Op::Read, 2) }), "the other disk is free");
    assert_eq!(all_done(&mut ahci), [(3, true)]);
    handle.end(0, 0);
    assert_eq!(all_done(&mut ahci), [(1, true)]);
}

#[test]
fn of_many_the_one_that_cannot_be_done_fails() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.port(0, |port| (port.slow, port.bad) = (true, Some(17)));
    for block in 0..6_u16 {
        assert!(give(&mut ahci, block, Op::Read, block.into()));
    }
    handle.end(0, 4);
    handle.port(0, |port| port.given.clear());
    // Block 2: the drive stops.
    handle.end(0, 2);
    handle.port(0, |port| port.slow = false);
    ahci.interrupt();
    let all: Vec<_> = (0..6).map(|block| (block, block != 2)).collect();
    assert_eq!(all_done(&mut ahci), all);
    // What had ended was not done again, and the others one after the other.
    let given = handle.port(0, |port| port.given.clone());
    assert_eq!(given, [0, 8, 16, 24, 40].map(|sector| (0x25, sector)));
    handle.port(0, |port| port.bad = None);
    assert!(give(&mut ahci, 7, Op::Read, 2));
    assert_eq!(handle.port(0, |port| port.given.last().copied()), Some((0x60, 16)));
    assert_eq!(all_done(&mut ahci), [(7, true)]);
    assert!(!ahci.is_polled());
}

#[test]
fn errors_are_told_and_the_disk_goes_on() {
    let (mut ahci, handle) = start(&[SINGLE]);
    handle.port(0, |port| port.bad = Some(8));
    assert!(give(&mut ahci, 1, Op::Write, 1));
    assert_eq!(all_done(&mut ahci), [(1, false)]);
    assert!(give(&mut ahci, 2, Op::Write, 2));
    assert_eq!(all_done(&mut ahci), [(2, true)]);
}

#[test]
fn a_disk_that_is_gone_fails_what_it_was_given() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.port(0, |port| port.slow = true);
    assert!(give(&mut ahci, 1, Op::Read, 1) && give(&mut ahci, 2, Op::Read, 2));
    // The link is lost.
    handle.port(0, |port| {
        port.gone = true;
        port.set(0x10, 1 << 22);
    });
    assert_eq!(ahci.done(), None);
    assert!(ahci.is_polled());
    let ended = (0..200_000).find_map(|_| ahci.done());
    assert!(ended.is_some_and(|done| !done.good));
    assert_eq!(all_done(&mut ahci).len(), 1);
    assert!(!ahci.is_polled());
    // Whatever comes now fails at once.
    assert!(give(&mut ahci, 3, Op::Read, 3));
    assert_eq!(all_done(&mut ahci), [(3, false)]);
}

#[test]
fn what_a_port_that_does_not_stop_was_given_never_ends() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.port(0, |port| (port.slow, port.stuck) = (true, true));
    assert!(give(&mut ahci, 1, Op::Read, 1));
    handle.port(0, |port| port.set(0x10, 1 << 29));
    assert_eq!(all_done(&mut ahci), []);
    handle.end(0, 0);
    assert_eq!(all_done(&mut ahci), []);
    assert!(give(&mut ahci, 2, Op::Read, 1));
    assert_eq!(all_done(&mut ahci), [(2, false)]);
    assert!(!ahci.is_polled());
}

#[test]
fn a_controller_that_lies_ends_nothing_that_was_not_given() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.0.borrow_mut().global.insert(reg::IS, u32::MAX);
    handle.port(0, |port| port.set(0x10, 0x0f));
    ahci.interrupt();
    assert_eq!(ahci.done(), None);
    handle.port(0, |port| port.slow = true);
    assert!(give(&mut ahci, 1, Op::Read, 1));
    // All ones, as of a controller that was pulled out.
    handle.port(0, |port| {
        (0..0x40).step_by(4).for_each(|register| port.set(register, u32::MAX));
        port.stuck = true;
    });
    ahci.interrupt();
    assert_eq!(all_done(&mut ahci), []);
}

#[test]
fn interrupts_are_taken_back() {
    let (mut ahci, handle) = start(&[QUEUED]);
    handle.port(0, |port| port.slow = true);
    assert!(give(&mut ahci, 1, Op::Read, 1));
    handle.end(0, 0);
    assert_eq!(handle.0.borrow().global[&reg::IS], 1);
    ahci.interrupt();
    assert_eq!(handle.0.borrow().global[&reg::IS], 0);
    assert_eq!(handle.port(0, |port| port.get(0x10)), 0);
    assert_eq!(all_done(&mut ahci), [(1, true)]);
}

use super::*;
use abi::pci::CONFIG_BYTES;
use std::boxed::Box;
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

const PHYSICAL: u64 = 0x10_0000;
const MASTER: u16 = 0xc040;

/// A channel with a disk as its first drive and a CD-ROM drive as its second, as a PIIX sees it.
#[derive(Default)]
struct Fake {
    memory: Option<SharedMemory>,
    sectors: Vec<[u8; 512]>,
    /// Task-file registers of the first channel: the value before, and the present one.
    file: [(u8, u8); 8],
    status: u8,
    data: Vec<u16>,
    master: [u8; 3],
    table: u32,
    /// A command that takes until somebody has looked at the status so often.
    busy: u32,
    pending: Option<u8>,
    wrong: bool,
    commands: Vec<u8>,
}

type Handle = Rc<RefCell<Fake>>;

impl Fake {
    fn second(&self) -> bool {
        self.file[6].1 & 0x10 != 0
    }

    fn identify(&mut self) {
        if self.second() {
            // ATAPI: refuses, and shows its sign.
            self.status = 0x41;
            (self.file[4].1, self.file[5].1) = (0x14, 0xeb);
            return;
        }
        let mut words = vec![0_u16; 256];
        words[49] = 1 << 8;
        words[83] = 1 << 10;
        let sectors = u16::try_from(self.sectors.len()).expect("few");
        (words[60], words[100]) = (sectors, sectors);
        self.data = words;
        (self.file[4].1, self.file[5].1) = (0, 0);
        self.status = 0x48;
    }

    /// The DMA of a command, as the table says.
    fn transfer(&mut self, command: u8) {
        let memory = self.memory.expect("memory");
        let table = usize::try_from(u64::from(self.table) - PHYSICAL).expect("in the memory");
        let wide = |register: usize| u64::from(self.file[register].1) | u64::from(self.file[register].0) << 24;
        let lba = wide(3) | wide(4) << 8 | wide(5) << 16;
        let (0, sectors) = self.file[2] else { panic!("too many sectors") };
        assert_eq!((sectors % 8, self.file[6].1 & 0xe0), (0, 0xe0));
        for block in 0..usize::from(sectors / 8) {
            let [at, count] = [0, 4].map(|word| memory.read32(table + 8 * block + word).expect("a table"));
            let last = block + 1 == usize::from(sectors / 8);
            assert_eq!((count >> 31 != 0, count & 0xffff), (last, 4096));
            let at = usize::try_from(u64::from(at) - PHYSICAL).expect("in the memory");
            for i in 0..8 {
                let sector = &mut self.sectors[usize::try_from(lba).expect("small") + 8 * block + i];
                match command {
                    READ_DMA_EXT => memory.write(at + 512 * i, sector).expect("a buffer"),
                    _ => memory.read(at + 512 * i, sector).expect("a buffer"),
                }
            }
        }
    }
}

impl Ports for Handle {
    fn read8(&mut self, port: u16) -> u8 {
        let mut fake = self.borrow_mut();
        match port {
            0x3f6 | 0x1f7 => {
                if fake.busy > 0 {
                    fake.busy -= 1;
                    return 0x80;
                }
                if let Some(command) = fake.pending
                    && (command == FLUSH_EXT || fake.master[0] & GO != 0)
                {
                    fake.pending = None;
                    if fake.wrong {
                        (fake.status, fake.master[2]) = (0x41, WRONG);
                    } else {
                        if command != FLUSH_EXT {
                            fake.transfer(command);
                        }
                        (fake.status, fake.master[2]) = (0x40, 0);
                    }
                }
                fake.status
            }
            0x1f2..=0x1f6 => fake.file[usize::from(port - 0x1f0)].1,
            MASTER..0xc043 => fake.master[usize::from(port - MASTER)],
            // The second channel has nothing on it.
            _ => 0xff,
        }
    }

    fn read16(&mut self, port: u16) -> u16 {
        assert_eq!(port, 0x1f0);
        let mut fake = self.borrow_mut();
        if fake.data.is_empty() { 0 } else { fake.data.remove(0) }
    }

    fn write8(&mut self, port: u16, value: u8) {
        let mut fake = self.borrow_mut();
        match port {
            0x1f2..=0x1f6 => {
                let register = &mut fake.file[usize::from(port - 0x1f0)];
                *register = (register.1, value);
                fake.status = 0x40;
            }
            0x1f7 if value == IDENTIFY => fake.identify(),
            0x1f7 => {
                fake.commands.push(value);
                (fake.pending, fake.busy, fake.status) = (Some(value), 3, 0x40);
                if value != FLUSH_EXT {
                    fake.master[2] = ACTIVE;
                }
            }
            0xc042 => fake.master[2] &= !(value & CLEAR),
            MASTER => fake.master[0] = value,
            _ => {}
        }
    }

    fn write32(&mut self, port: u16, value: u32) {
        assert_eq!(port, MASTER + 4);
        self.borrow_mut().table = value;
    }
}

fn config() -> Config {
    let mut config = Config([0; CONFIG_BYTES]);
    config.0[0x09] = 0x80;
    config.0[0x20..0x24].copy_from_slice(&(u32::from(MASTER) | 1).to_le_bytes());
    config
}

/// A controller whose disk has `sectors` sectors.
fn start(sectors: usize) -> (Ide<Handle>, Handle, SharedMemory) {
    let memory = SharedMemory::from_static(Box::leak(vec![0_u64; 512 * (3 + 2 * MAX_RUN)].into_boxed_slice()));
    let fake = Fake { memory: Some(memory), sectors: vec![[0; 512]; sectors], ..Fake::default() };
    let handle: Handle = Rc::new(RefCell::new(fake));
    let ide = Ide::start(&config(), handle.clone(), memory, PHYSICAL, 4096, |_| ()).expect("a bus master");
    (ide, handle, memory)
}

fn request(op: Op, block: u64, buffers: &[usize]) -> Request<'_> {
    Request { disk: 0, op, block, buffers }
}

fn finish(ide: &mut Ide<Handle>) -> Done {
    (0..20).find_map(|_| ide.done()).expect("it ends")
}

#[test]
fn disks_are_found_and_what_is_none_is_left_alone() {
    let (ide, ..) = start(805);
    assert_eq!(ide.disks(), [Geometry { blocks: 100, read_only: false }]);
    let mut other = config();
    other.0[0x20] = 0;
    let memory = SharedMemory::from_static(Box::leak(vec![0_u64; 1024].into_boxed_slice()));
    let handle: Handle = Handle::default();
    assert!(Ide::start(&other, handle.clone(), memory, PHYSICAL, 0, |_| ()).is_none(), "no bus master");
    assert!(Ide::start(&config(), handle, memory, 1 << 32, 0, |_| ()).is_none(), "beyond its reach");
}

#[test]
fn blocks_go_both_ways() {
    let (mut ide, handle, memory) = start(800);
    memory.write(8192, &[7; 4096]).expect("inside");
    assert!(!ide.is_polled(), "there is nothing to ask for");
    assert!(Controller::start(&mut ide, 1, request(Op::Write, 99, &[8192])));
    assert!(ide.is_polled());
    assert_eq!(ide.done(), None, "it is busy");
    assert_eq!(finish(&mut ide), Done { tag: 1, good: true });
    assert!(!ide.is_polled());
    assert!(Controller::start(&mut ide, 1, request(Op::Write, 99, &[8192])));
    assert!(!Controller::start(&mut ide, 2, request(Op::Read, 0, &[12_288])), "one at a time");
    assert_eq!(finish(&mut ide), Done { tag: 1, good: true });
    assert!(ide.is_polled(), "somebody waits for room");
    assert_eq!(ide.done(), None);
    assert!(handle.borrow().sectors[792..].iter().all(|sector| *sector == [7; 512]));
    assert!(handle.borrow().sectors[..792].iter().all(|sector| *sector == [0; 512]));
    assert!(Controller::start(&mut ide, 3, request(Op::Read, 99, &[12_288])));
    assert_eq!(finish(&mut ide), Done { tag: 3, good: true });
    let mut read = [0; 4096];
    memory.read(12_288, &mut read).expect("inside");
    assert_eq!(read, [7; 4096]);
    assert!(Controller::start(&mut ide, 4, request(Op::Flush, 0, &[])));
    assert_eq!(finish(&mut ide), Done { tag: 4, good: true });
    assert_eq!(handle.borrow().commands, [WRITE_DMA_EXT, WRITE_DMA_EXT, READ_DMA_EXT, FLUSH_EXT]);
    assert!(!Controller::start(&mut ide, 5, request(Op::Read, 100, &[0])), "beyond the end");
    assert!(!Controller::start(&mut ide, 5, Request { disk: 1, ..request(Op::Read, 0, &[0]) }));
}

#[test]
fn a_run_of_blocks_is_one_request() {
    let (mut ide, handle, memory) = start(800);
    assert_eq!(ide.run(), MAX_RUN);
    // From and to pages in the opposite order.
    let [from, to]: [Vec<usize>; 2] =
        [2, 2 + MAX_RUN].map(|first| (first..first + MAX_RUN).rev().map(|page| page * 4096).collect());
    for (i, &at) in (1..).zip(&from) {
        memory.write(at, &[i; 4096]).expect("inside");
    }
    assert!(Controller::start(&mut ide, 1, request(Op::Write, 10, &from)));
    assert_eq!(finish(&mut ide), Done { tag: 1, good: true });
    assert!(Controller::start(&mut ide, 2, request(Op::Read, 10, &to)));
    assert_eq!(finish(&mut ide), Done { tag: 2, good: true });
    assert_eq!(handle.borrow().commands, [WRITE_DMA_EXT, READ_DMA_EXT]);
    for (i, &at) in (1..).zip(&to) {
        let mut block = [0; 4096];
        memory.read(at, &mut block).expect("inside");
        assert_eq!((block, handle.borrow().sectors[72 + 8 * usize::from(i)]), ([i; 4096], [i; 512]));
    }
    assert!(!Controller::start(&mut ide, 3, request(Op::Read, 100 - 15, &to)), "beyond the end");
    assert!(!Controller::start(&mut ide, 3, request(Op::Read, 0, &[&to[..], &[0]].concat())), "too many");
    assert!(!Controller::start(&mut ide, 3, request(Op::Read, 0, &[])), "none");
}

#[test]
fn errors_are_told() {
    let (mut ide, handle, _) = start(800);
    handle.borrow_mut().wrong = true;
    for (op, buffers) in [(Op::Read, &[8192][..]), (Op::Write, &[8192]), (Op::Flush, &[])] {
        assert!(Controller::start(&mut ide, 6, request(op, 1, buffers)));
        assert_eq!(finish(&mut ide), Done { tag: 6, good: false });
    }
    handle.borrow_mut().wrong = false;
    assert!(Controller::start(&mut ide, 7, request(Op::Read, 1, &[8192])));
    assert_eq!(finish(&mut ide), Done { tag: 7, good: true });
}

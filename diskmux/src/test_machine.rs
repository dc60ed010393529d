//! Disks in memory behind a controller that does what it is told, for tests.

use crate::disks::{Disks, Host, WAITED_BYTES};
use crate::drivers::{Controller, Done, Geometry, MAX_RUN, Op, Request};
use disk_format::{
    BLOCK_BYTES, Block, Change, Check, Entry, EntryName, Kind, Layout, SetId, State, Stripes, Superblock, check_blocks,
    directory_checksum, pack, place_of_check, zeroed,
};
use ring::SharedMemory;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// What a disk was asked for.
struct Asked {
    tag: u16,
    op: Op,
    block: u64,
    buffers: Vec<usize>,
}

/// What a disk holds, and what was done to it.
#[derive(Default)]
pub struct Platter {
    pub blocks: u64,
    pub read_only: bool,
    pub held: BTreeMap<u64, Box<Block>>,
    pub written: Vec<u64>,
    /// Blocks that cannot be read or written: a request with one of them fails.
    pub bad: Vec<u64>,
    /// Blocks that a request may have; 0 for as many as there ever are.
    pub run: usize,
    /// How many blocks each request to read or write had.
    pub runs: Vec<usize>,
    /// It cannot be flushed.
    pub unflushable: bool,
    /// It answers no more.
    pub silent: bool,
    /// It takes more requests at a time than anybody has.
    pub deep: bool,
    pub flushes: usize,
    /// What it was given and has not done.
    waiting: VecDeque<Asked>,
    /// What is there whatever happens to the power.
    durable: BTreeMap<u64, Box<Block>>,
    /// What was written since, in order.
    unflushed: Vec<(u64, Box<Block>)>,
}

impl Platter {
    pub fn read(&self, at: u64) -> Block {
        self.held.get(&at).map_or_else(zeroed, |block| **block)
    }

    /// What it holds is durable.
    pub fn settle(&mut self) {
        self.unflushed.clear();
        self.durable = self.held.clone();
    }

    fn write(&mut self, block: u64, data: Block) {
        self.held.insert(block, Box::new(data));
        self.written.push(block);
        self.unflushed.push((block, Box::new(data)));
    }

    fn flush(&mut self) {
        self.flushes += 1;
        self.durable.extend(self.unflushed.drain(..));
    }

    /// Whoever gave it requests is gone. It does some of them all the same.
    pub fn abandon(&mut self, memory: SharedMemory, mut some: impl FnMut() -> bool) {
        for Asked { op, block, buffers, .. } in std::mem::take(&mut self.waiting) {
            for (block, buffer) in (block..).zip(buffers) {
                let mut data = zeroed();
                memory.read(buffer, &mut data).expect("a buffer");
                if op == Op::Write && some() {
                    self.write(block, data);
                }
            }
        }
    }

    /// The power fails: of what is not durable some is there.
    pub fn cut(&mut self, mut some: impl FnMut() -> bool) {
        self.waiting.clear();
        let left = std::mem::take(&mut self.unflushed);
        self.durable.extend(left.into_iter().filter(|_| some()));
        self.held = self.durable.clone();
    }
}

pub type Shared = Rc<RefCell<Platter>>;

/// A controller with one disk that ends its requests in the opposite order, four at a time.
pub struct Fake {
    platter: Shared,
    geometry: [Geometry; 1],
    memory: SharedMemory,
    pub depth: usize,
}

impl Controller for Fake {
    fn driver(&self) -> u16 {
        abi::disk::driver::VIRTIO
    }

    fn disks(&self) -> &[Geometry] {
        &self.geometry
    }

    fn run(&self) -> usize {
        match self.platter.borrow().run {
            0 => MAX_RUN,
            run => run,
        }
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        let Request { disk, op, block, buffers } = request;
        assert!(disk == 0 && block + buffers.len() as u64 <= self.geometry[0].blocks);
        assert!(if op == Op::Flush { buffers.is_empty() } else { (1..=self.run()).contains(&buffers.len()) });
        let mut platter = self.platter.borrow_mut();
        let room = platter.deep || platter.waiting.len() < self.depth;
        if room {
            platter.waiting.push_front(Asked { tag, op, block, buffers: buffers.to_vec() });
        }
        room
    }

    fn done(&mut self) -> Option<Done> {
        let mut platter = self.platter.borrow_mut();
        if platter.silent {
            return None;
        }
        let Asked { tag, op, block, buffers } = platter.waiting.pop_front()?;
        if op == Op::Flush {
            let good = !platter.unflushable;
            if good {
                platter.flush();
            }
            return Some(Done { tag, good });
        }
        platter.runs.push(buffers.len());
        for (block, buffer) in (block..).zip(buffers) {
            // Those before the bad one are done, and nobody hears of it.
            if platter.bad.contains(&block) {
                return Some(Done { tag, good: false });
            }
            let mut data = platter.read(block);
            if op == Op::Read {
                self.memory.write(buffer, &data).expect("a buffer");
            } else {
                self.memory.read(buffer, &mut data).expect("a buffer");
                platter.write(block, data);
            }
        }
        Some(Done { tag, good: true })
    }

    fn interrupt(&mut self) {}

    fn is_polled(&self) -> bool {
        false
    }
}

/// A clock that goes on when somebody sleeps.
#[derive(Default)]
pub struct Clock(pub u64);

impl Host for Clock {
    fn now(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn hz(&self) -> u64 {
        1_000_000
    }

    fn sleep(&mut self, until: u64) -> u32 {
        self.0 = self.0.max(until);
        0
    }

    fn acknowledge(&mut self, _: u32) {}
}

/// Where a scrub has its buffers in the memory of [`connect`].
pub const BUFFERS: usize = WAITED_BYTES;

/// Where swap regions have theirs.
pub const SWAPS: usize = BUFFERS + crate::scrub::BYTES + crate::STORE_BYTES;

/// Where a snapshot has its.
pub const SNAPSHOTS: usize = SWAPS + crate::swap::BYTES;

/// DMA memory with room for a scrub, a store, swap regions and a snapshot.
pub fn dma() -> SharedMemory {
    let words = (SNAPSHOTS + crate::alteration::BYTES) / 8;
    SharedMemory::from_static(Box::leak(vec![0_u64; words].into_boxed_slice()))
}

/// The disks behind these platters.
pub fn connect(platters: &[Shared]) -> Disks<Fake, Clock> {
    connect_to(platters, dma())
}

/// The disks behind these platters, with this DMA memory.
pub fn connect_to(platters: &[Shared], memory: SharedMemory) -> Disks<Fake, Clock> {
    let fake = |platter: &Shared| {
        let Platter { blocks, read_only, .. } = *platter.borrow();
        Fake { platter: platter.clone(), geometry: [Geometry { blocks, read_only }], memory, depth: 4 }
    };
    Disks::new(platters.iter().map(fake).collect(), memory, 0, Clock::default())
}

/// A blank disk.
pub fn blank(blocks: u64) -> Shared {
    Rc::new(RefCell::new(Platter { blocks, ..Platter::default() }))
}

/// Blocks of the virtual disk `web` of [`set`].
pub const WEB: u64 = 700;

fn name(text: &str) -> EntryName {
    EntryName::new(text).expect("good")
}

/// What block `i` of `web` holds; every fifth was never written.
pub fn content(i: u64) -> Option<Block> {
    (!i.is_multiple_of(5)).then(|| [u8::try_from(i % 251).expect("small"); BLOCK_BYTES])
}

/// Where the set has block `at`: member and block there.
pub fn place(stripes: &Stripes, at: u64) -> (usize, u64) {
    let piece = stripes.pieces(at, 1).next().expect("inside");
    (piece.member.into(), piece.block)
}

/// A set with this id of `count` disks, with swap regions and the virtual disk `web`, which is never written.
pub fn set(id: u8, count: u16) -> (Vec<Shared>, Stripes, Entry) {
    make(id, count, 1000, true)
}

/// A set of `count` disks with the virtual disk `web`, which may be written.
pub fn writable(count: u16) -> (Vec<Shared>, Stripes, Entry) {
    writable_of(count, 1000)
}

/// The same of disks of so many blocks.
pub fn writable_of(count: u16, blocks: u64) -> (Vec<Shared>, Stripes, Entry) {
    let made = make(1, count, blocks, false);
    made.0.iter().for_each(|platter| platter.borrow_mut().settle());
    made
}

fn make(id: u8, count: u16, blocks: u64, read_only: bool) -> (Vec<Shared>, Stripes, Entry) {
    let layout = Layout::plan(blocks, 4, 1).expect("large enough");
    let stripes = Stripes::new(count, 4, layout.data_start, layout.data_blocks).expect("good");
    let web = Entry { kind: Kind::Disk { read_only }, id: 1, name: name("web"), first: 16, blocks: WEB, beneath: None };
    let swap = Entry { kind: Kind::Swap { region: 4 }, id: 0, name: name("swap"), first: 0, blocks: 16, beneath: None };
    let platters: Vec<Shared> = (0..count).map(|_| blank(blocks)).collect();
    let write = |at: u64, block: &Block| {
        let (member, at) = place(&stripes, at);
        platters[member].borrow_mut().held.insert(at, Box::new(*block));
    };
    let mut checks = vec![zeroed(); usize::try_from(check_blocks(WEB)).expect("few")];
    for i in 0..WEB {
        let check = content(i).map_or(Check::UNWRITTEN, |block| {
            write(web.data(i).expect("inside"), &block);
            Check::of(web.id, i, &block)
        });
        let (row, byte) = place_of_check(i);
        checks[usize::try_from(row).expect("few")][byte..byte + 8].copy_from_slice(&check.to_bytes());
    }
    checks.iter().zip(web.first..).for_each(|(row, at)| write(at, row));
    let mut directory = vec![0; BLOCK_BYTES];
    let used = pack([&swap, &web], &mut directory).expect("room");
    let member = |member| Superblock {
        set: SetId::random([id; 16]),
        name: name("lab"),
        generation: 1,
        state: State::Proposed,
        member,
        members: count,
        stripe_unit: 4,
        member_blocks: blocks,
        directory_start: layout.directory_start,
        data_start: layout.data_start,
        data_blocks: layout.data_blocks,
        directory_blocks: 1,
        entries: 2,
        directory_checksum: 0,
        next_id: 2,
        created: 1,
    };
    let members: Vec<Superblock> = (0..count).map(member).collect();
    let write = |member: u16, at, block: &Block| {
        platters[usize::from(member)].borrow_mut().held.insert(at, Box::new(*block));
        Ok::<(), ()>(())
    };
    Change::first(2, directory_checksum(&directory[..used]), 2)
        .carry_out(&members, &directory, write, || Ok(()))
        .expect("no errors");
    (platters, stripes, web)
}

//! Disk drivers behind one trait: one file a driver.

pub mod ahci;
pub mod ide;
pub mod nvme;
pub mod virtio;

use ring::SharedMemory;

/// Access to registers in memory, 32 bits each.
pub trait Registers {
    /// Reads the register at the byte `offset`, which is one of [`Registers::bytes`].
    fn read(&self, offset: usize) -> u32;
    /// Writes it.
    fn write(&mut self, offset: usize, value: u32);
    /// Bytes of registers.
    fn bytes(&self) -> usize;
}

impl Registers for component::Mmio {
    #[inline]
    fn read(&self, offset: usize) -> u32 {
        self.read32(offset)
    }

    #[inline]
    fn write(&mut self, offset: usize, value: u32) {
        self.write32(offset, value);
    }

    fn bytes(&self) -> usize {
        component::Mmio::bytes(self)
    }
}

/// A clock to sleep by.
pub trait Sleep {
    /// Sleeps that many microseconds at least.
    fn sleep(&mut self, microseconds: u32);
}

/// The DMA memory, and what of it drivers have for themselves.
#[derive(Debug)]
pub struct Room {
    /// All of it, buffers included.
    pub memory: SharedMemory,
    /// The address at which devices find it.
    pub physical: u64,
    next: usize,
    end: usize,
}

impl Room {
    /// The first `bytes` of the memory are for drivers.
    pub fn new(memory: SharedMemory, physical: u64, bytes: usize) -> Room {
        Room { memory, physical, next: 0, end: bytes.min(memory.len()) }
    }

    /// Zeroed memory for a driver that begins at a multiple of `align`, a power of two up to a page; `None` when too little is left.
    pub fn take(&mut self, bytes: usize, align: usize) -> Option<usize> {
        let at = self.next.checked_next_multiple_of(align)?;
        let end = at.checked_add(bytes).filter(|&end| end <= self.end)?;
        self.memory.clear(at, bytes)?;
        self.next = end;
        Some(at)
    }

    /// The address of the memory's end.
    pub fn end(&self) -> u64 {
        self.physical.saturating_add(self.memory.len() as u64)
    }
}

/// The lower and the upper half.
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// What a disk is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bring blocks into memory.
    Read,
    /// Take blocks from memory.
    Write,
    /// Make durable all writes that are done.
    Flush,
}

/// Blocks of a request at most, whatever the controller takes: the drivers' tables have room for so many.
pub const MAX_RUN: usize = 16;

/// A request: a run of blocks that lie side by side on one disk, and anywhere in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The controller's disk.
    pub disk: usize,
    /// What it is to do.
    pub op: Op,
    /// The first block, of 4 KiB.
    pub block: u64,
    /// Where in the DMA memory each of the blocks goes or comes from: at pages' beginnings. As many as there are blocks, [`MAX_RUN`] at most; none for a flush.
    pub buffers: &'a [usize],
}

impl Request<'_> {
    /// Whether a disk of so many blocks, of which a request may have `most`, can be asked for this.
    fn fits(&self, blocks: u64, most: usize) -> bool {
        let count = self.buffers.len();
        let end = self.block.checked_add(count as u64);
        match self.op {
            Op::Flush => count == 0,
            Op::Read | Op::Write => (1..=most).contains(&count) && end.is_some_and(|end| end <= blocks),
        }
    }
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of 4 KiB; what is no whole block at its end is not used.
    pub blocks: u64,
    /// It takes no writes.
    pub read_only: bool,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// As it was started with.
    pub tag: u16,
    /// Whether the disk says that it was done.
    pub good: bool,
}

/// Whatever disks are connected to. Many requests at the same time, as many as it takes.
pub trait Controller {
    /// What drives it ([`abi::disk::driver`]).
    fn driver(&self) -> u16;
    /// Its disks.
    fn disks(&self) -> &[Geometry];
    /// Blocks that a request may have, at least one and [`MAX_RUN`] at most.
    fn run(&self) -> usize;
    /// Starts a request. False when there is no room for another one now, or it asks for what there is not: nothing was started.
    fn start(&mut self, tag: u16, request: Request<'_>) -> bool;
    /// A request that has ended, each once. What the device says of requests that it was not given counts for nothing.
    fn done(&mut self) -> Option<Done>;
    /// Its interrupt has come.
    fn interrupt(&mut self);
    /// It has requests, or had no room for one, and raises no interrupts for that: [`Controller::done`] is to be asked from time to time.
    fn is_polled(&self) -> bool;
}

impl<C: Controller> Controller for &mut C {
    fn driver(&self) -> u16 {
        (**self).driver()
    }

    fn disks(&self) -> &[Geometry] {
        (**self).disks()
    }

    fn run(&self) -> usize {
        (**self).run()
    }

    fn start(&mut self, tag: u16, request: Request<'_>) -> bool {
        (**self).start(tag, request)
    }

    fn done(&mut self) -> Option<Done> {
        (**self).done()
    }

    fn interrupt(&mut self) {
        (**self).interrupt();
    }

    fn is_polled(&self) -> bool {
        (**self).is_polled()
    }
}

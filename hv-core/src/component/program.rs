//! A policy's program: what of it is mapped where it lies, and what is copied at each start.
//!
//! Text and constants are mapped from the boot module, so nobody can change them and a restart need not copy them. What the program
//! writes lies in a block of frames of the component's own, the segments one behind the other, and is made anew at each start.

use crate::memory::phys::index;
use crate::memory::{MapFlags, PhysAddr, core_memory};
use abi::boot::{self, segment};
use abi::limits::{MAX_SEGMENTS, PAGE_SIZE};
use abi::note::TableBytes;
use core::ops::Range;
use ring::SharedMemory;

/// A segment.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Where the component sees it.
    pub address: u64,
    pub pages: u64,
    pub flags: MapFlags,
    /// What it holds at a start: so many bytes from here, then zeros.
    pristine: PhysAddr,
    bytes: usize,
    /// Where it lies in a block, for one that is written.
    offset: u64,
}

/// Where a page of a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this offset in the component's block.
    Block(u64),
    /// At this physical address, for good.
    Module(PhysAddr),
}

impl Part {
    /// Where its byte at `offset` lies.
    pub fn place(&self, offset: u64) -> Place {
        if self.flags.write { Place::Block(self.offset + offset) } else { Place::Module(self.pristine.offset(offset)) }
    }

    /// First address behind it.
    pub fn end(&self) -> u64 {
        self.address + self.pages * PAGE_SIZE
    }
}

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Address of the first instruction.
    pub entry: u64,
    /// What its tables take.
    pub tables: TableBytes,
    pub parts: heapless::Vec<Part, MAX_SEGMENTS>,
    /// Pages that it writes.
    data_pages: u64,
}

impl Program {
    /// The program that boot has placed and the record's check found good.
    pub fn new(from: &boot::Program) -> Self {
        let mut program =
            Program { entry: from.entry, tables: from.tables, parts: heapless::Vec::new(), data_pages: 0 };
        for of in from.segments() {
            let (write, execute) = (of.flags & segment::WRITE != 0, of.flags & segment::EXECUTE != 0);
            let part = Part {
                address: of.address,
                pages: of.pages.into(),
                flags: MapFlags { write, execute, user: true, ..MapFlags::default() },
                pristine: PhysAddr::new(of.pristine),
                bytes: index(of.bytes),
                offset: program.data_pages * PAGE_SIZE,
            };
            if write {
                program.data_pages += part.pages;
            }
            // As many as fit into both.
            let _ = program.parts.push(part);
        }
        program
    }

    /// Pages of a block that its segments take.
    pub fn data_pages(&self) -> u64 {
        self.data_pages
    }

    /// The segment that holds `address..address + len`.
    pub fn part(&self, address: u64, len: usize) -> Option<&Part> {
        let end = address.checked_add(len as u64)?;
        self.parts.iter().find(|part| (part.address..part.end()).contains(&address) && end <= part.end())
    }

    /// Write these bytes of a block of segments and stack as they are at a start: what the module has, and zeros. What is beyond the
    /// block is left out.
    pub fn lay(&self, block: &SharedMemory, bytes: Range<usize>) {
        let bytes = bytes.start..bytes.end.min(block.len());
        let _ = block.clear(bytes.start, bytes.len());
        for part in self.parts.iter().filter(|part| part.flags.write) {
            let first = index(part.offset);
            let from = bytes.start.max(first);
            let to = bytes.end.min(first + part.bytes);
            // A segment that has no byte here gives an empty range.
            if let Some(len) = to.checked_sub(from).filter(|&len| len != 0) {
                let pristine = core_memory(part.pristine, part.bytes as u64);
                let _ = pristine.copy_to(from - first, block, from, len);
            }
        }
    }
}

//! The core's place: its segments, copied to where it will run.

use crate::map::{EARLY_END, Piece};
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use crate::modules::Module;
use abi::boot::{CORE_ALIGN, CORE_BASE, CORE_BYTES_MAX};
use abi::limits::PAGE_SIZE;
use abi::note::WITH_SELFTEST;
use core::fmt;
use elf_file::{Accept, Elf, ElfError};

/// A core that lies in its place.
#[derive(Debug)]
pub struct CorePlace {
    /// Physical address of its first byte.
    pub start: PhysAddr,
    /// Bytes, whole pages.
    pub bytes: u64,
    /// What it is made of.
    pub elf: Elf,
    /// It can make mistakes on purpose (`selftest=`).
    pub selftest: bool,
}

/// Why a module is no core that can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCore {
    /// It is refused.
    Bad(ElfError),
    /// Its segments do not lie as a core's do: what is constant first.
    Order,
    /// There is no room for it.
    NoMemory,
}

impl fmt::Display for NoCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCore::Bad(error) => error.fmt(f),
            NoCore::Order => f.write_str("its segments do not lie as those of a core do"),
            NoCore::NoMemory => f.write_str("there is no room for it"),
        }
    }
}

impl CorePlace {
    /// Gives the core in `module`, whose bytes are `file`, a place of its own, and copies it there.
    ///
    /// # Errors
    /// [`NoCore`].
    pub fn new(frames: &mut Frames, module: &Module, file: &[u8], kind: u32) -> Result<CorePlace, NoCore> {
        let parse = |kind| Elf::parse(file, Accept { low: CORE_BASE, high: CORE_BASE + CORE_BYTES_MAX, kind });
        let (elf, selftest) = match parse(kind) {
            Err(ElfError::WrongKind) => (parse(kind | WITH_SELFTEST), true),
            elf => (elf, false),
        };
        let elf = elf.map_err(NoCore::Bad)?;
        // What is constant is one piece, and lies first: the direct map shows it read-only.
        let writable = elf.segments.iter().position(|segment| segment.write || segment.hole);
        let (constant, rest) = elf.segments.split_at(writable.unwrap_or(elf.segments.len()));
        let ordered = elf.segments.windows(2).all(|pair| pair[0].end() <= pair[1].address);
        let starts = constant.first().is_some_and(|segment| segment.address == CORE_BASE);
        if !ordered || !starts || !rest.iter().all(|segment| segment.write || segment.hole) {
            return Err(NoCore::Order);
        }
        let bytes = elf.segments.last().map_or(0, |last| last.end() - CORE_BASE);
        let start = frames
            .alloc_contiguous(bytes / PAGE_SIZE, CORE_ALIGN / PAGE_SIZE, EARLY_END, Owner::Core)
            .ok_or(NoCore::NoMemory)?;
        let place = CorePlace { start, bytes, elf, selftest };
        let memory = core_memory(start, bytes);
        let _ = memory.clear(0, memory.len());
        for segment in &place.elf.segments {
            let from = core_memory(module.start.offset(segment.file_offset), segment.file_bytes);
            let to = core_memory(place.physical_of(segment.address), segment.file_bytes);
            from.copy_to(0, &to, 0, from.len()).ok_or(NoCore::NoMemory)?;
        }
        Ok(place)
    }

    /// Physical address of what is seen at a linear address of the image.
    pub fn physical_of(&self, address: u64) -> PhysAddr {
        self.start.offset(address - CORE_BASE)
    }

    /// Text and constants.
    pub fn constant(&self) -> Piece {
        let last = self.elf.segments.iter().take_while(|segment| !segment.write && !segment.hole).last();
        let end = last.map_or(self.start, |last| self.physical_of(last.end()));
        Piece { start: self.start.as_u64(), end: end.as_u64() }
    }
}

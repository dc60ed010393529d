//! Programs in modules, placed: where each segment's first bytes lie, so that nobody behind the loader reads an ELF.
//!
//! Text and constants of a component are used where its module lies; what is behind them in their last page is cleared, or the
//! segment is copied where that cannot be. A guest image's last page that the file fills only in part is a frame of its own.

use crate::digests::Damage;
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use crate::modules::Module;
use abi::boot::{self, Program, program};
use abi::component::layout;
use abi::guest::IMAGE_BASE;
use abi::limits::{PAGE_SIZE, VM_MEMORY_MAX};
use abi::manifest;
use abi::note::{KIND_COMPONENT, KIND_GUEST};
use core::fmt;
use elf_file::{Accept, Elf, ElfError, Segment};
use zerocopy::FromZeros;

/// Why a program cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadProgram {
    /// Its module was not loaded.
    NoModule,
    /// Its module is refused.
    Elf(ElfError),
    /// Its module is not what the manifest says.
    Damaged(Damage),
    /// There is no memory for the pages that it fills in part.
    NoMemory,
}

impl fmt::Display for BadProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadProgram::NoModule => f.write_str("its module was not loaded"),
            BadProgram::Elf(error) => write!(f, "its module is refused: {error}"),
            BadProgram::Damaged(damage) => write!(f, "its module is refused: {damage}"),
            BadProgram::NoMemory => f.write_str("there is no memory for its golden frames"),
        }
    }
}

/// A record of a program that cannot run.
pub fn bad(why: BadProgram) -> Program {
    let state = if why == BadProgram::NoModule { program::NO_MODULE } else { program::REFUSED };
    Program { state, ..Program::new_zeroed() }
}

/// What lies in modules behind segments, in their last pages: it is cleared when all modules have been read, since others may have the
/// same module, and what is cleared is no segment's, but may be a header or a note.
#[derive(Debug, Default)]
pub struct Tails(heapless::Vec<(PhysAddr, u64), 128>);

impl Tails {
    /// Clears them. The modules' frames are whole pages, so nothing else lies there.
    pub fn clear(self) {
        for (at, bytes) in self.0 {
            let memory = core_memory(at, bytes);
            let _ = memory.clear(0, memory.len());
        }
    }
}

/// The policy of a component in a module whose bytes are `file`.
///
/// # Errors
/// [`BadProgram`].
pub fn policy(
    frames: &mut Frames,
    entry: &manifest::Component,
    module: &Module,
    file: &[u8],
    tails: &mut Tails,
) -> Result<Program, BadProgram> {
    let high = layout::IMAGE_BASE + u64::from(entry.memory_pages) * PAGE_SIZE;
    let elf = Elf::parse(file, Accept { low: layout::IMAGE_BASE, high, kind: KIND_COMPONENT });
    let elf = elf.map_err(BadProgram::Elf)?;
    placed(&elf, |part| {
        let pristine = module.start.offset(part.file_offset);
        if part.write || part.file_bytes == part.pages() * PAGE_SIZE {
            return Ok((pristine, part.file_bytes, 0));
        }
        let page_end = part.file_offset + part.file_pages() * PAGE_SIZE;
        let others = elf.segments.iter().filter(|other| *other != part);
        let shared = others
            .filter(|other| other.file_offset < page_end && part.file_offset < other.file_offset + other.file_bytes);
        let whole = part.pages() * PAGE_SIZE;
        let rest = (pristine.offset(part.file_bytes), whole - part.file_bytes.min(whole));
        if part.pages() == part.file_pages() && shared.count() == 0 && tails.0.push(rest).is_ok() {
            return Ok((pristine, whole, 0));
        }
        let copy = frames.alloc_contiguous(part.pages(), 1, crate::map::EARLY_END, Owner::Module);
        let copy = copy.ok_or(BadProgram::NoMemory)?;
        let (memory, from) = (core_memory(copy, whole), core_memory(pristine, part.file_bytes));
        let _ = memory.clear(0, memory.len());
        let _ = from.copy_to(0, &memory, 0, from.len());
        Ok((copy, whole, 0))
    })
}

/// The guest image of this number in a module whose bytes are `file`.
///
/// # Errors
/// [`BadProgram`].
pub fn image(
    frames: &mut Frames,
    entry: &manifest::Image,
    number: u32,
    module: &Module,
    file: &[u8],
) -> Result<Program, BadProgram> {
    let high = entry.memory_bytes.min(VM_MEMORY_MAX);
    let elf = Elf::parse(file, Accept { low: IMAGE_BASE, high, kind: KIND_GUEST }).map_err(BadProgram::Elf)?;
    placed(&elf, |part| {
        let pristine = module.start.offset(part.file_offset);
        let rest = part.file_bytes % PAGE_SIZE;
        if rest == 0 {
            return Ok((pristine, part.file_bytes, 0));
        }
        let tail = frames.alloc_zeroed(Owner::Golden(number), 0).ok_or(BadProgram::NoMemory)?;
        let from = core_memory(pristine.offset(part.file_bytes - rest), rest);
        let _ = from.copy_to(0, &core_memory(tail, PAGE_SIZE), 0, from.len());
        Ok((pristine, part.file_bytes, tail.as_u64()))
    })
}

/// The record of a program whose segments are where `place` puts them: first byte, bytes from there, and tail.
fn placed(
    elf: &Elf,
    mut place: impl FnMut(&Segment) -> Result<(PhysAddr, u64, u64), BadProgram>,
) -> Result<Program, BadProgram> {
    let mut to = Program::new_zeroed();
    (to.entry, to.tables) = (elf.entry, elf.tables);
    to.segment_count = u32::try_from(elf.segments.len()).unwrap_or(0);
    for (to, part) in to.segments.iter_mut().zip(&elf.segments) {
        let (pristine, bytes, tail) = place(part)?;
        let flags = part.flags();
        // Memory of a VM or a component is far smaller.
        let pages = u32::try_from(part.pages()).unwrap_or(u32::MAX);
        *to = boot::Segment { address: part.address, pristine: pristine.as_u64(), bytes, tail, pages, flags };
    }
    Ok(to)
}

//! Programs as boot places them, in the memory of a test's machine.

use crate::memory::phys::index;
use crate::memory::{Frames, Owner, PhysAddr, core_memory};
use abi::boot::{self, Program, segment};
use abi::limits::{MAX_SEGMENTS, PAGE_SIZE};
use abi::note::TableBytes;

pub const TEXT: u32 = segment::EXECUTE;
pub const DATA: u32 = segment::WRITE;
pub const HOLE: u32 = segment::HOLE;

/// A segment: address, flags, pages, and the bytes that it starts with.
pub type Part<'a> = (u64, u32, u32, &'a [u8]);

/// A good program. What it starts with lies in frames of modules; the tail of a guest image, if this is one, in a golden frame.
pub fn program(frames: &mut Frames, entry: u64, parts: &[Part<'_>], image: Option<u32>) -> Program {
    let nothing = boot::Segment::default();
    let mut program = Program {
        state: boot::program::GOOD,
        segment_count: u32::try_from(parts.len()).expect("few"),
        entry,
        tables: TableBytes::NONE,
        segments: [nothing; MAX_SEGMENTS],
    };
    for (to, &(address, flags, pages, content)) in program.segments.iter_mut().zip(parts) {
        let whole = image.is_none() && flags & segment::WRITE == 0;
        let bytes = if whole { u64::from(pages) * PAGE_SIZE } else { content.len() as u64 };
        let pristine = place(frames, bytes, Owner::Module, content);
        let rest = index(bytes % PAGE_SIZE);
        let tail = match image {
            Some(number) if rest != 0 => {
                place(frames, PAGE_SIZE, Owner::Golden(number), &content[content.len() - rest..]).as_u64()
            }
            _ => 0,
        };
        *to = boot::Segment { address, pristine: pristine.as_u64(), bytes, tail, pages, flags };
    }
    program
}

/// Frames for so many bytes, with this content and zeros behind it.
fn place(frames: &mut Frames, bytes: u64, owner: Owner, content: &[u8]) -> PhysAddr {
    if bytes == 0 {
        return PhysAddr::new(0);
    }
    let pages = bytes.div_ceil(PAGE_SIZE);
    let first = frames.alloc_contiguous(pages, 1, u64::MAX, owner).expect("room");
    let memory = core_memory(first, pages * PAGE_SIZE);
    memory.clear(0, memory.len()).expect("room");
    memory.write(0, content).expect("room");
    first
}

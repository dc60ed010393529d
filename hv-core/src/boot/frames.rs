//! The frame table, from the ranges of the boot record.

use crate::memory::frames::Entry;
use crate::memory::phys::index;
use crate::memory::{Frames, Owner, PhysAddr};
use abi::boot::{BootRecord, Range, owner};
use abi::limits::PAGE_SIZE;

/// Makes the frame table where the record says that there is room for it. The loader's frames are [`Owner::Loader`]'s. `None` when
/// there are more pieces of free memory than the table knows.
///
/// # Safety
/// The record was checked, the direct map shows the room, and nobody uses it.
pub unsafe fn make(record: &BootRecord) -> Option<Frames> {
    let table = record.frame_table;
    let count = index(table.bytes) / size_of::<Entry>();
    let first: *mut Entry = PhysAddr::new(table.start).as_ptr();
    // SAFETY: by this function's contract. Every bit pattern is an entry, and `Frames::new` writes all of them first.
    let mut frames = Frames::new(unsafe { core::slice::from_raw_parts_mut(first, count) });
    for range in record.ranges() {
        let (first, end) = (range.start / PAGE_SIZE, range.end / PAGE_SIZE);
        match owner_of(range) {
            Owner::Free => frames.add_free(first, end).then_some(())?,
            owner => frames.claim(first, end, owner),
        }
    }
    Some(frames)
}

fn owner_of(range: &Range) -> Owner {
    match range.owner {
        owner::FREE => Owner::Free,
        owner::MODULE => Owner::Module,
        owner::LOADER => Owner::Loader,
        owner::GOLDEN => Owner::Golden(range.id),
        _ => Owner::Core,
    }
}

/// Gives the loader's frames to whoever needs frames next. Returns how many there were.
pub fn give_back(record: &BootRecord, frames: &mut Frames) -> u64 {
    let of_loader = record.ranges().iter().filter(|range| range.owner == owner::LOADER);
    of_loader.map(|range| frames.free_range(range.start / PAGE_SIZE, range.end / PAGE_SIZE, Owner::Loader)).sum()
}
